"""Errors of associative memories at equal storage: the same pairs, the same number of readout weights.

Stored are the D · v readout weights; projections come from a seed and are not counted. Two peers cannot be given D
weights per output: the linear pseudo-inverse has as many as a key is long, and modern Hopfield keeps every pair. Ridge
memories and the pseudo-inverse need the D × D sums while they learn, Hebbian ones do not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from assocmem import AssociativeMemory, HadamardProjection, Ridge
from assocmem.capacity import noisy_keys
from assocmem.rules import Rule
from benchmarks.timing import table

KEY_DIM, VALUE_DIM, EXPANSION, TRIALS = 128, 8, 3, 3
RANK = KEY_DIM * (1 + EXPANSION)
COSINE = 0.9
ALLOWED = 0.01

Features = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Recall = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Learner = Callable[[NDArray[np.float64], NDArray[np.float64], int], Recall]


def crelu_memory(rule: str | Rule) -> Learner:
    """A memory of this package."""

    def learn(keys: NDArray[np.float64], values: NDArray[np.float64], seed: int) -> Recall:
        memory = AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=EXPANSION, rule=rule, seed=seed)
        memory.store(keys, values)
        return memory.recall

    return learn


def readout(make: Callable[[int], Features], penalty: float | None) -> Learner:
    """A linear readout of other features: ridge with a penalty relative to N, 0 the minimum norm, None Hebbian."""

    def learn(keys: NDArray[np.float64], values: NDArray[np.float64], seed: int) -> Recall:
        features = make(seed)
        stored = features(keys)
        if penalty is None:
            weights = stored.T @ values
        elif penalty == 0:
            weights = np.linalg.pinv(stored) @ values
        else:
            gram = stored.T @ stored
            shift = penalty * np.trace(gram) / len(gram)
            weights = np.linalg.solve(gram + shift * np.eye(len(gram)), stored.T @ values)
        return lambda queries: features(queries) @ weights

    return learn


def linear(seed: int) -> Features:
    """The key itself: D = d."""
    return lambda keys: keys


def relu(seed: int) -> Features:
    """ReLU of D Gaussian projections: RanPAC's head (McDonnell et al. 2023)."""
    directions = np.random.default_rng(seed).standard_normal((KEY_DIM, RANK))
    return lambda keys: np.maximum(keys @ directions, 0)


def signs(seed: int) -> Features:
    """Signs of D Hadamard projections: the Walsh–Hadamard hash memory."""
    projection = HadamardProjection(KEY_DIM, EXPANSION + 1, seed)
    return lambda keys: np.sign(projection.project_rows(np.ascontiguousarray(keys)))


def modern_hopfield(keys: NDArray[np.float64], values: NDArray[np.float64], seed: int) -> Recall:
    """Attention over every stored pair (Ramsauer et al. 2021); keeps N (d + v) numbers."""

    def recall(queries: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = 50.0 * queries @ keys.T
        attention = np.exp(scores - scores.max(axis=1, keepdims=True))
        return attention / attention.sum(axis=1, keepdims=True) @ values

    return recall


BEST = Ridge(query_cosine=COSINE)
# The penalty of the peers: the best of a few on other seeds, so that none loses for want of tuning.
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
PEERS: dict[str, tuple[Learner, ...]] = {
    "CReLU ridge, best penalty by law": (crelu_memory(BEST),),
    "CReLU ridge, no penalty": (crelu_memory("ridge"),),
    "CReLU Hebbian": (crelu_memory("hebbian"),),
    "ReLU features, tuned ridge": tuple(readout(relu, penalty) for penalty in PENALTIES),
    "ReLU features, no penalty": (readout(relu, 0.0),),
    "sign features, tuned ridge": tuple(readout(signs, penalty) for penalty in PENALTIES),
    "sign features, Hebbian": (readout(signs, None),),
    "linear pseudo-inverse (d weights)": (readout(linear, 0.0),),
    "modern Hopfield (keeps all pairs)": (modern_hopfield,),
}


def errors(learner: Learner, pairs: int, seeds: range) -> tuple[float, float]:
    """Share of wrong signs for clean and for noisy queries."""
    wrong = np.zeros(2)
    for seed in seeds:
        rng = np.random.default_rng((seed, pairs))
        keys = rng.standard_normal((pairs, KEY_DIM))
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
        values = np.where(rng.random((pairs, VALUE_DIM)) < 0.5, -1.0, 1.0)
        recall = learner(keys, values, seed)
        for index, queries in enumerate((keys, noisy_keys(keys, COSINE, rng))):
            wrong[index] += np.mean(recall(queries) * values <= 0) / len(seeds)
    return float(wrong[0]), float(wrong[1])


def tuned(learners: tuple[Learner, ...], pairs: int) -> Learner:
    print(f"fewest wrong signs for queries at cosine {COSINE}, among those that store D numbers per output:")
    if len(learners) == 1:
        return learners[0]
    return min(learners, key=lambda learner: errors(learner, pairs, range(100, 102))[1])


def pairs_within(learners: tuple[Learner, ...]) -> int:
    """The most pairs with 1 % wrong signs for noisy queries, to 5 %."""
    low, high = 1, 4 * RANK
    while high - low > max(1, 0.05 * low):
        middle = (low + high) // 2
        within = errors(tuned(learners, middle), middle, range(TRIALS))[1] <= ALLOWED
        low, high = (middle, high) if within else (low, middle)
    return low


def main() -> None:
    """Print the table."""
    loads = (0.2, 0.5, 0.9, 1.5)
    rows = []
    for name, learners in PEERS.items():
        cells = []
        for load in loads:
            clean, noisy = errors(tuned(learners, round(load * RANK)), round(load * RANK), range(TRIALS))
            cells.append(f"{clean:.4f}, {noisy:.4f}")
        held = pairs_within(learners)
        bounded = "hopfield" not in name.lower()
        weights = KEY_DIM * VALUE_DIM if "linear" in name else RANK * VALUE_DIM
        share = f"{1000 * held / weights:.1f}" if bounded else f"{1000 / (KEY_DIM + VALUE_DIM):.1f}"
        rows.append([name, *cells, f"{held}" if held < 3.9 * RANK else f"over {held}", share])
    headings = ["memory", *(f"load {load}" for load in loads), "pairs at 1 %", "per 1000 numbers"]
    print(f"d = {KEY_DIM}, D = {RANK}, v = {VALUE_DIM}: wrong signs of stored keys, of queries at cosine {COSINE}")
    print(table(headings, rows))
    print(f"fewest wrong signs at cosine {COSINE}, among the memories that store D numbers per output:")
    bounded = [row for row in rows if "(" not in row[0]]
    for column, load in enumerate(loads, 1):
        print(f"  load {load}: {min(bounded, key=lambda row: float(row[column].split(', ')[1]))[0]}")
    print(f"most pairs per number: {max(rows, key=lambda row: float(row[-1]))[0]}")
