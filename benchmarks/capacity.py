"""Errors of associative memories at equal storage: the same pairs, the same number of readout weights.

Stored are the D · v readout weights; projections come from a seed and are not counted. Two peers cannot be given D
weights per output: the linear pseudo-inverse has as many as a key is long, and modern Hopfield keeps every pair. Ridge
memories and the pseudo-inverse need the D × D sums while they learn, Hebbian ones do not.

A second table has patterns of ±1 that are their own values, for Hopfield networks. A Hopfield network stores d² numbers
and a CReLU memory at least 2 d², so that they are compared at the same load, patterns · d / stored numbers. Hopfield's
matrices are symmetric: half of their numbers would do, which a note says.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assocmem import AssociativeMemory, HadamardProjection, Ridge
from assocmem.capacity import noisy_keys
from assocmem.rules import Rule
from benchmarks.timing import table

KEY_DIM, VALUE_DIM, EXPANSION, TRIALS = 128, 8, 3, 3
RANK = KEY_DIM * (1 + EXPANSION)
COSINE = 0.9
ALLOWED = 0.01
LOADS, AUTO_LOADS = (0.2, 0.5, 0.9, 1.5), (0.05, 0.1, 0.2, 0.5)
PICTURE = Path("capacity-peers.png")
TINY: dict[str, object] = {"TRIALS": 1, "LOADS": (0.1,), "AUTO_LOADS": (0.05,), "ALLOWED": -1.0}  # no pairs at 1 %

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
    return lambda keys: np.sign(projection.project(keys))


def modern_hopfield(keys: NDArray[np.float64], values: NDArray[np.float64], seed: int) -> Recall:
    """Attention over every stored pair (Ramsauer et al. 2021); keeps N (d + v) numbers."""

    def recall(queries: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = 50.0 * queries @ keys.T
        attention = np.exp(scores - scores.max(axis=1, keepdims=True))
        return attention / attention.sum(axis=1, keepdims=True) @ values

    return recall


def sparse_distributed(active: float) -> Learner:
    """Kanerva's memory by torchhd: D hard locations of random address, of which a key reaches this share."""

    def learn(keys: NDArray[np.float64], values: NDArray[np.float64], seed: int) -> Recall:
        torch, torchhd = importlib.import_module("torch"), importlib.import_module("torchhd")
        torch.manual_seed(seed)
        memory = torchhd.memory.SparseDistributed(RANK, KEY_DIM, VALUE_DIM, p=active, dtype=torch.float64)
        with torch.no_grad():
            memory.values.zero_()  # made by torchhd.empty
        scale = KEY_DIM**0.5  # its thresholds are for keys of ±1
        memory.write(torch.from_numpy(scale * keys), torch.from_numpy(values))

        def recall(queries: NDArray[np.float64]) -> NDArray[np.float64]:
            with torch.no_grad():
                return np.array(memory.read(torch.from_numpy(scale * queries)).tolist())

        return recall

    return learn


def torchhd_missing() -> bool:
    """Whether torchhd cannot be imported; says so."""
    try:
        importlib.import_module("torchhd")
    except ImportError as error:
        print(f"torchhd: missing (pip install 'assocmem[bench]'): {error}")
        return True
    return False


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
SPARSE = "sparse distributed, tuned (torchhd)"
ACTIVE = (0.003, 0.01, 0.03, 0.1, 0.3)


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
            agreement = recall(queries) * values
            wrong[index] += np.mean((agreement < 0) + 0.5 * (agreement == 0)) / len(seeds)  # no answer: a coin
    return float(wrong[0]), float(wrong[1])


def tuned_errors(learners: tuple[Learner, ...], pairs: int) -> tuple[float, float]:
    """The errors of the learner that is best on other seeds."""
    best = learners[0]
    if len(learners) > 1:
        best = min(learners, key=lambda learner: errors(learner, pairs, range(100, 102))[1])
    return errors(best, pairs, range(TRIALS))


def hopfield(patterns: NDArray[np.float64], seed: int) -> Recall:
    """Hebb's rule without self-connections (Hopfield 1982)."""
    weights = patterns.T @ patterns
    np.fill_diagonal(weights, 0)
    return lambda states: states @ weights


def projection_rule(patterns: NDArray[np.float64], seed: int) -> Recall:
    """The pseudo-inverse rule (Personnaz et al. 1985)."""
    weights = np.linalg.pinv(patterns) @ patterns
    return lambda states: states @ weights


def crelu_auto(rule: str | Rule) -> Callable[[NDArray[np.float64], int], Recall]:
    """The smallest memory of this package, D = 2 d."""

    def learn(patterns: NDArray[np.float64], seed: int) -> Recall:
        memory = AssociativeMemory(KEY_DIM, KEY_DIM, expansion=1, rule=rule, seed=seed)
        memory.store(patterns, patterns)
        return memory.recall

    return learn


# Patterns that are their own values: stored numbers, and the learner.
AUTO: dict[str, tuple[int, Callable[[NDArray[np.float64], int], Recall]]] = {
    "CReLU ridge, best penalty by law": (2 * KEY_DIM**2, crelu_auto(BEST)),
    "CReLU Hebbian": (2 * KEY_DIM**2, crelu_auto("hebbian")),
    "linear pseudo-inverse": (KEY_DIM**2, projection_rule),
    "Hopfield, Hebb rule": (KEY_DIM**2, hopfield),
}


def auto_errors(learn: Callable[[NDArray[np.float64], int], Recall], count: int, steps: int) -> tuple[float, float]:
    """Share of wrong signs after some synchronous steps, from the patterns and with (1 - cosine) / 2 signs flipped."""
    wrong = np.zeros(2)
    for seed in range(TRIALS):
        rng = np.random.default_rng((seed, count))
        patterns = np.where(rng.random((count, KEY_DIM)) < 0.5, -1.0, 1.0)
        recall = learn(patterns, seed)
        flips = np.where(rng.random(patterns.shape) < (1 - COSINE) / 2, -1.0, 1.0)
        for index, start in enumerate((patterns, patterns * flips)):
            state = start
            for _ in range(steps):
                state = np.where(recall(state) < 0, -1.0, 1.0)
            wrong[index] += np.mean(state != patterns) / TRIALS
    return float(wrong[0]), float(wrong[1])


def pairs_within(measure: Callable[[int], tuple[float, float]], most: int) -> int:
    """The most pairs with 1 % wrong signs for noisy queries, to 5 %."""
    low, high = 1, most
    while high - low > max(1, 0.05 * low):
        middle = (low + high) // 2
        low, high = (middle, high) if measure(middle)[1] <= ALLOWED else (low, middle)
    return low


# One row: name, (clean, noisy) errors by load, pairs at 1 %, pairs per 1000 numbers.
Row = tuple[str, list[tuple[float, float]], str, float]


def measured(
    name: str, measure: Callable[[int], tuple[float, float]], loads: tuple[float, ...], rank: int, numbers: int
) -> Row:
    held = pairs_within(measure, 4 * rank)
    share = 1000 / (KEY_DIM + VALUE_DIM) if "modern" in name else 1000 * held / numbers
    cells = [measure(max(1, round(load * rank))) for load in loads]
    return name, cells, f"{held}" if held < 3.8 * rank else f"over {held}", share


def show(rows: list[Row], loads: tuple[float, ...], what: str) -> None:
    headings = ["memory", *(f"load {load}" for load in loads), "pairs at 1 %", "per 1000 numbers"]
    lines = [
        [name, *(f"{clean:.4f}, {noisy:.4f}" for clean, noisy in cells), held, f"{share:.3g}"]
        for name, cells, held, share in rows
    ]
    print(f"{what}: wrong signs of stored keys, of queries at cosine {COSINE}")
    print(table(headings, lines))
    bounded = [row for row in rows if "modern" not in row[0] and "d weights" not in row[0]]
    print(f"fewest wrong signs at cosine {COSINE} and equal storage:")
    for column, load in enumerate(loads):
        best = min(row[1][column][1] for row in bounded)
        names = [row[0] for row in bounded if row[1][column][1] == best]
        print(f"  load {load}: {'; '.join(names) if len(names) < 4 else f'{len(names)} of them, {best:.4f}'}")
    print(f"most pairs per number: {max(rows, key=lambda row: row[-1])[0]}\n")


def draw(panels: list[tuple[str, str, tuple[float, ...], list[Row]]]) -> Figure:
    """Errors of noisy queries against load; lines differ by marker and dash as well as by shade."""
    figure = Figure(figsize=(13, 8), dpi=120, layout="constrained")
    markers, dashes = "osD^vP*X<>", ("-", "--", ":", "-.")
    for axes, (title, below, loads, rows) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for index, (name, cells, _, share) in enumerate(rows):
            style: dict[str, Any] = {"marker": markers[index % 10], "linestyle": dashes[index % 4]}
            shade = "black" if name.startswith("CReLU") else "0.5"
            noisy = [cell[1] for cell in cells]
            axes.plot(loads, noisy, color=shade, markersize=8, label=f"{name}: {share:.3g}", **style)
        axes.axhline(ALLOWED, color="0.8", linewidth=1, zorder=0)
        axes.set(title=title, xlabel=below, ylabel=f"wrong signs at cosine {COSINE}")
        axes.set_yscale("symlog", linthresh=0.003)
        axes.set_ylim(-0.0003, 0.6)
        axes.set_yticks([0, 0.003, 0.01, 0.03, 0.1, 0.3], ["0", "0.3 %", "1 %", "3 %", "10 %", "30 %"])
        axes.legend(title="pairs at 1 % per 1000 numbers", loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=1)
    return figure


def main() -> None:
    """Print the tables and draw capacity-peers.png."""
    peers = dict(PEERS)
    if not torchhd_missing():
        peers[SPARSE] = tuple(sparse_distributed(active) for active in ACTIVE)
    rows = []
    for name, learners in peers.items():
        numbers = (KEY_DIM if "linear" in name else RANK) * VALUE_DIM
        rows.append(measured(name, lambda n, who=learners: tuned_errors(who, n), LOADS, RANK, numbers))
    show(rows, LOADS, f"d = {KEY_DIM}, D = {RANK}, v = {VALUE_DIM}")
    auto = []
    for name, (numbers, learn) in AUTO.items():
        for steps in (1, 10):
            label = f"{name}, {steps} step{'s' * (steps > 1)}"
            rank = numbers // KEY_DIM
            auto.append(
                measured(label, lambda n, how=learn, k=steps: auto_errors(how, n, k), AUTO_LOADS, rank, numbers)
            )
    show(auto, AUTO_LOADS, f"patterns of ±1 as their own values, d = {KEY_DIM}, load = patterns · d / stored numbers")
    print("the matrices of Hopfield and pseudo-inverse are symmetric: kept as triangles, twice as many per number")
    panels = [
        ("pairs of key and value", "load: pairs / D", LOADS, rows),
        ("patterns recall themselves", "load: patterns · d / stored numbers", AUTO_LOADS, auto),
    ]
    draw(panels).savefig(PICTURE)
    print(PICTURE)
