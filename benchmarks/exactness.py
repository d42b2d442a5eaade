"""Accuracy of recalls of stored and other keys, and of many single writes; time of a write and of a recall."""

import time

import numpy as np

from assocmem import AssociativeMemory, RecursiveLeastSquares
from assocmem.rules import Shape
from benchmarks.timing import machine, seconds, table

KEY_DIM = 256
N_WRITES, RECURSIVE_SHAPE = 20_000, Shape(128, 3, True, 8, np.dtype(np.float64))
N_TIMED, TIMED_EXPANSION = 10_000, 7
TINY = {
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
    print(recursive_line())
    print(speed_line())
