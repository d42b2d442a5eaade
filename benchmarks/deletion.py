"""Accuracy of deletion: 10 000 stores, replacements and deletions against a memory of the remaining pairs alone."""

import numpy as np

from assocmem import AssociativeMemory, Hebbian, RecursiveLeastSquares, Ridge
from benchmarks.exactness import error
from benchmarks.timing import machine, table

KEY_DIM, VALUE_DIM, EXPANSION = 44, 8, 4  # rank 300
OPERATIONS = 10_000
LOADS = (0.3, 0.6, 0.9)
TINY = {"OPERATIONS": 30, "LOADS": (0.3,)}
RULES = {
    "ridge, alpha=0": Ridge(),
    "ridge, alpha=1": Ridge(alpha=1.0),
    "rls, alpha=1": RecursiveLeastSquares(alpha=1.0),
    "hebbian": Hebbian(),
}


def empty(rule) -> AssociativeMemory:
    """A memory without pairs."""
    return AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=EXPANSION, rule=rule)


class Stream:
    """A memory under single operations in random order, and the pairs that it should hold."""

    def __init__(self, rule, load: float, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.memory = empty(rule)
        self.limit = round(load * self.memory.rank)
        self.keys = self.rng.standard_normal((self.limit, KEY_DIM))
        self.values = self.rng.standard_normal((self.limit, VALUE_DIM))
        self.n = self.limit
        self.memory.store(self.keys, self.values)

    def step(self) -> None:
        """Store a new pair, give a stored one another value, or delete one, which the last stored one replaces."""
        operation = self.rng.integers(3)
        i = self.rng.integers(max(self.n, 1))
        new = self.rng.standard_normal(VALUE_DIM)
        if operation == 0 and self.n < self.limit:
            self.keys[self.n], self.values[self.n] = self.rng.standard_normal(KEY_DIM), new
            self.memory.store(self.keys[self.n], new)
            self.n += 1
        elif operation == 1 and self.n > self.limit - 20:
            self.memory.forget(self.keys[i], self.values[i])
            self.n -= 1
            self.keys[i], self.values[i] = self.keys[self.n], self.values[self.n]
        else:
            self.memory.replace(self.keys[i], self.values[i], new)
            self.values[i] = new


def row(name: str, load: float) -> list[str]:
    """Distances after all operations, and the bound that the memory gives."""
    stream = Stream(RULES[name], load, seed=0)
    for _ in range(OPERATIONS):
        stream.step()
    memory = stream.memory
    fresh = empty(RULES[name])
    fresh.store(stream.keys[: stream.n], stream.values[: stream.n])
    weights = error(memory.weights, fresh.weights)
    before = f"{weights:.1e}"
    recalls = error(memory.recall(stream.keys[: stream.n]), fresh.recall(stream.keys[: stream.n]))
    bound = memory.error_bound
    memory.recompute()
    assert weights <= bound, "error_bound is no bound"
    return [name, f"{load}", before, f"{recalls:.1e}", f"{bound:.1e}", f"{error(memory.weights, fresh.weights):.1e}"]


def main() -> None:
    print(machine())
    header = ["rule", "load", "weights", "recalls of stored keys", "error_bound", "weights after recompute()"]
    print(table(header, [row(name, load) for name in RULES for load in LOADS]))
