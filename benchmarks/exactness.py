"""Accuracy of recalls, of every operation over hard families of keys, and of many single writes; time of a write.

The errors of operations are those of the weights, from exact arithmetic on the rows of features (`tests.naive`).
"""

import time
import warnings
from collections.abc import Callable

import numpy as np

from assocmem import AssociativeMemory, RecursiveLeastSquares, Ridge
from assocmem.rules import Shape
from benchmarks.timing import machine, seconds, table
from tests import families, naive

KEY_DIM = 256
N_WRITES, RECURSIVE_SHAPE = 20_000, Shape(128, 3, True, 8, np.dtype(np.float64))
N_TIMED, TIMED_EXPANSION = 10_000, 7
FAMILY_KEY_DIM, FAMILY_EXPANSION, N_PAIRS, SEEDS = 8, 2, 16, 5  # rank 24
FAMILIES = tuple(name for name in families.KEYS if name != "repeated units")  # which need shorter keys
ROUNDING = 1e-14  # of singular values of features
FIXED = 2.0**50  # length of a row that stands for an equality constraint, next to the longest other one
TINY = {
    "FAMILIES": ("random", "duplicates at 1e-5"),
    "SEEDS": 1,
    "KEY_DIM": 16,
    "N_WRITES": 200,
    "RECURSIVE_SHAPE": Shape(16, 3, True, 8, np.dtype(np.float64)),
    "N_TIMED": 10,
    "TIMED_EXPANSION": 1,
}


def error(got: np.ndarray, expected: np.ndarray) -> float:
    """Relative error in the Frobenius norm."""
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def ridge_row(load: float, scale: float) -> list[str]:
    """Errors of the default rule at a load: of stored pairs, and of other keys against the minimum-norm answer."""
    rng = np.random.default_rng(0)
    memory = AssociativeMemory(KEY_DIM, 8)
    n = round(load * memory.rank)
    keys, others = rng.standard_normal((n, KEY_DIM)), rng.standard_normal((500, KEY_DIM))
    values = rng.standard_normal((n, 8))
    memory.store(scale * keys, values)
    minimum_norm = np.linalg.pinv(memory.features.fold(keys)) @ values
    stored = error(memory.recall(scale * keys), values)
    other = error(memory.recall(scale * others), memory.features.fold(others) @ minimum_norm)
    return [f"{load}", f"{scale:g}", f"{stored:.1e}", f"{other:.1e}"]


class Life:
    """A memory of one family before an operation, the pairs that it then should hold, and the error after it."""

    def __init__(self, family: str, share: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.share = share
        keys = families.KEYS[family](rng, N_PAIRS + 4, FAMILY_KEY_DIM, families.WIDEST["float64"])
        order = rng.permutation(len(keys))
        self.keys, self.values = keys[order], rng.standard_normal((len(keys), 2))
        self.features = AssociativeMemory(FAMILY_KEY_DIM, 2, expansion=FAMILY_EXPANSION).features.fold(self.keys)

    def memory(self, first: int, last: int, *, rls: bool = False) -> AssociativeMemory:
        """A memory of some of the pairs."""
        alpha = self.share * families.mean_eigenvalue(self.features)
        rule = RecursiveLeastSquares(alpha or None) if rls else Ridge(alpha)
        memory = AssociativeMemory(FAMILY_KEY_DIM, 2, expansion=FAMILY_EXPANSION, rule=rule)
        memory.store(self.keys[first:last], self.values[first:last])
        return memory

    def compared(
        self, memory: AssociativeMemory, n: int, fixed: int | None = None, value: np.ndarray | None = None
    ) -> tuple[float, float]:
        """True error of the weights for the first n pairs, one of them fixed at another value, and the bound."""
        rows, targets = self.features[:n], self.values[:n]
        if fixed is not None:
            # A power of two: the row must stay parallel to that of the pair, to the last bit.
            weight = FIXED * 2.0 ** np.round(np.log2(np.abs(rows).max() / np.abs(rows[fixed]).max()))
            rows, targets = np.vstack([rows, weight * rows[fixed]]), np.vstack([targets, weight * value])
        exact = naive.exact_ridge(rows, targets, memory.alpha)
        return naive.relative_distance(memory._cell.view().weights, exact), memory.error_bound


def stored(life: Life) -> tuple[float, float]:
    return life.compared(life.memory(0, N_PAIRS), N_PAIRS)


def forgotten(life: Life) -> tuple[float, float]:
    memory = life.memory(0, N_PAIRS + 4)
    memory.forget(life.keys[N_PAIRS:], life.values[N_PAIRS:])
    return life.compared(memory, N_PAIRS)


def merged(life: Life) -> tuple[float, float]:
    half = N_PAIRS // 2
    return life.compared(life.memory(0, half).merge(life.memory(half, N_PAIRS)), N_PAIRS)


def replaced(life: Life) -> tuple[float, float]:
    memory = life.memory(0, N_PAIRS)
    memory.replace(life.keys[:4], life.values[:4], -life.values[4:8])
    memory.replace(life.keys[:4], -life.values[4:8], life.values[:4])
    return life.compared(memory, N_PAIRS)


def edited(life: Life) -> tuple[float, float]:
    memory = life.memory(0, N_PAIRS)
    memory.edit(life.keys[0], life.values[1])
    return life.compared(memory, N_PAIRS, 0, life.values[1])


def left_out(life: Life) -> tuple[float, float | None]:
    """Leave-one-out residuals against refitting without each pair; they come without a bound.

    Without a penalty, features that depend on each other but for rounding are dependent, for both.
    """
    memory = life.memory(0, N_PAIRS)
    found = memory.leave_one_out(life.keys[:N_PAIRS], life.values[:N_PAIRS])
    exact = []
    for i in range(N_PAIRS):
        rows, targets = (np.delete(table[:N_PAIRS], i, axis=0) for table in (life.features, life.values))
        if life.share:
            weights = naive.exact_ridge(rows, targets, memory.alpha)
        else:
            weights = np.linalg.lstsq(rows, targets, rcond=ROUNDING)[0]
        exact.append(life.values[i] - life.features[i] @ weights)
    return float((np.abs(found - exact) / np.abs(exact).max(axis=1, keepdims=True)).max()), None


def updated(life: Life) -> tuple[float, float]:
    """Single writes by recursive least squares, at the penalty that it reports."""
    memory = life.memory(0, 1, rls=True)
    for key, value in zip(life.keys[1:N_PAIRS], life.values[1:N_PAIRS], strict=True):
        memory.store(key, value)
        memory.recall(key)
    return life.compared(memory, N_PAIRS)


OPERATIONS: dict[str, Callable[[Life], tuple[float, float | None]]] = {
    "store": stored,
    "forget": forgotten,
    "merge": merged,
    "replace": replaced,
    "edit": edited,
    "leave one out": left_out,
    "rls updates": updated,
}


def operation_cell(family: str, share: float, operation: Callable[[Life], tuple[float, float | None]]) -> str:
    """The largest error over the seeds and the bound on it, or how many were refused."""
    found, refused = [], 0
    for seed in range(SEEDS):
        try:
            error, bound = operation(Life(family, share, seed))
        except ValueError:
            refused += 1
            continue
        assert bound is None or error <= bound, f"{family}, {operation.__name__}, {seed}: {error} > {bound}"
        found.append((error, bound))
    if not found:
        return "refused"
    error, bound = max(found, key=lambda pair: pair[0])
    shown = f"{error:.0e}" if bound is None else f"{error:.0e} ≤ {bound:.0e}"
    return f"{shown}, {refused} refused" if refused else shown


def operation_rows(share: float) -> list[list[str]]:
    """Every family by every operation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # keys too near to be told apart: the bound says it
        return [[name, *(operation_cell(name, share, each) for each in OPERATIONS.values())] for name in FAMILIES]


def recursive_line() -> str:
    """Many single writes against the batch solution with the same penalty."""
    rng = np.random.default_rng(0)
    rank = RECURSIVE_SHAPE.rank
    features, values = rng.standard_normal((N_WRITES, rank)), rng.standard_normal((N_WRITES, 8))
    rule = RecursiveLeastSquares()
    state = rule.start(RECURSIVE_SHAPE)
    start = time.perf_counter()
    for i in range(len(features)):
        rule.store(state, features[i : i + 1], values[i : i + 1])
    each = (time.perf_counter() - start) / len(features)
    solved = rule.solve(state)
    gram = features.T @ features + solved.solution.alpha * np.eye(rank)
    away = error(solved.weights, np.linalg.solve(gram, features.T @ values))
    return (
        f"rls, {N_WRITES} single writes at D = {rank}: {away:.1e} from the batch solution, {each * 1e6:.0f} µs a write"
    )


def speed_line() -> str:
    """Single writes and recalls through the public methods."""
    rng = np.random.default_rng(0)
    memory = AssociativeMemory(128, 10, expansion=TIMED_EXPANSION)
    keys, values = rng.standard_normal((2000, 128)), rng.standard_normal((2000, 10))
    memory.store(keys, values)
    memory.recall(keys[0])
    pairs = iter(list(zip(keys, values, strict=True)) * 10)
    write = seconds(lambda: memory.store(*next(pairs)), N_TIMED)
    memory.recall(keys[0])
    recall = seconds(lambda: memory.recall(keys[0]), N_TIMED)
    times = f"{write * 1e6:.1f} µs a single store, {recall * 1e6:.1f} µs a single recall"
    return f"ridge at D = {memory.rank}, v = 10: {times}"


def main() -> None:
    print(machine())
    rows = [ridge_row(*case) for case in ((0.2, 1), (0.95, 1), (0.95, 1e-100), (0.95, 1e100), (0.99, 1), (1.0, 1))]
    print(table(["load", "scale of keys", "error of stored pairs", "error of other keys"], rows))
    for share in (0.0, 1e-4):
        print(
            f"\nerror of the weights ≤ error_bound: {N_PAIRS} pairs, rank 24, penalty {share:g} of the mean eigenvalue"
        )
        print(table(["keys", *OPERATIONS], operation_rows(share)))
    print()
    print(recursive_line())
    print(speed_line())
