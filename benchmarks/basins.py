"""Basins of attraction: patterns of ±1 recovered from flipped bits by iteration, compared with Hopfield networks.

All methods get the same patterns and the same flipped ones, and iterate until nothing changes, at most 100 times. They
do not store the same: a Hopfield network has d² numbers (d²/2, as it is symmetric), a CReLU memory D·d: 2 d² with
expansion 1, 5 d² with expansion 4; and D² sums while it learns.

Baselines are made as strong as the literature makes them. Hopfield's self-connections are removed (1982); the
pseudo-inverse network keeps them (Personnaz, Guyon and Dreyfus 1985), and is shown a second time with a share of them
(none: Kanter and Sompolinsky 1987; a part: Gorodnichy 1999) chosen best for every single cell by the errors that are
reported. Each of them is updated all units at once or one after the other, whichever is better in the cell.

A second sweep stores noisy copies instead of `noise`, through copies · patterns = D, where a memory without a penalty,
or with a small fixed one, fails.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numba
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assocmem import AssociativeMemory, Ridge
from assocmem.capacity import interval
from assocmem.rules import Rule
from benchmarks.timing import machine, table

DIM, TRIALS, QUERIES, MAX_STEPS = 256, 5, 2, 100  # QUERIES: flipped versions of every pattern
LOADS = (0.25, 0.5, 0.75, 1.0)  # patterns per dimension
FLIPS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
NOISE = 0.1
SHARES = (0.0, 0.1, 0.15, 0.3, 0.5, 1.0)  # of the self-connections kept
PICTURE = Path(__file__).parent.parent / "docs" / "basins.png"
RESULTS = Path(__file__).parent / "basins.json"

SWEEP_PATTERNS, SWEEP_EXPANSION, SWEEP_TRIALS, SWEEP_FLIPS = 64, 4, 3, (0.05, 0.3)
COPIES = (1, 2, 5, 10, 15, 18, 20, 22, 25, 30, 50, 100)
TINY: dict[str, object] = {
    "DIM": 32,
    "TRIALS": 1,
    "QUERIES": 1,
    "SWEEP_PATTERNS": 8,
    "SWEEP_TRIALS": 1,
    "COPIES": (1, 2),
}

Floats: TypeAlias = NDArray[np.float64]
Settle: TypeAlias = Callable[[Floats], Floats]
Learner: TypeAlias = Callable[[Floats, int], list[Settle]]  # the variants, of which each cell takes the best


@numba.njit(cache=True, parallel=True)
def _one_after_the_other(weights: Floats, orders: NDArray[np.int64], states: Floats, max_steps: int) -> None:
    """Update single units in a random order, in place, until a whole round changes nothing."""
    for n in numba.prange(len(states)):
        state, field = states[n], np.zeros(len(weights))
        for i in range(len(weights)):
            for j in range(len(weights)):
                field[j] += state[i] * weights[i, j]
        for sweep in range(max_steps):
            changed = False
            for i in orders[(n + sweep) % len(orders)]:
                if field[i] * state[i] < 0.0:
                    state[i] = -state[i]
                    changed = True
                    for j in range(len(weights)):
                        field[j] += 2.0 * state[i] * weights[i, j]
            if not changed:
                break


def network(weights: Floats, share: float, at_once: bool, seed: int) -> Settle:
    """A Hopfield network that keeps a share of its self-connections."""
    kept = weights.copy()
    np.fill_diagonal(kept, share * weights.diagonal())
    orders = np.array([np.random.default_rng((seed, i)).permutation(len(weights)) for i in range(64)])

    def settle(keys: Floats) -> Floats:
        states = keys.copy()
        if not at_once:
            _one_after_the_other(kept, orders, states, MAX_STEPS)
            return states
        before, active = np.zeros_like(states), np.arange(len(states))
        for _ in range(MAX_STEPS):
            now = states[active]
            fields = now @ kept
            after = np.where(fields == 0, now, np.sign(fields))
            states[active] = after
            # Symmetric weights: a fixed point or a cycle of two states is all there is (Goles and Olivos 1980).
            going = (after != now).any(axis=1) & (after != before[active]).any(axis=1)
            before[active] = now
            active = active[going]
        return states

    return settle


def hebb(patterns: Floats, seed: int) -> list[Settle]:
    """Hebb's rule without self-connections."""
    return [network(patterns.T @ patterns, 0.0, at_once, seed) for at_once in (True, False)]


def pseudo_inverse(shares: tuple[float, ...]) -> Learner:
    """The projection onto the patterns."""

    def learn(patterns: Floats, seed: int) -> list[Settle]:
        weights = np.linalg.pinv(patterns) @ patterns
        return [network(weights, share, at_once, seed) for share in shares for at_once in (True, False)]

    return learn


def crelu(expansion: int, noise: float = 0.0, rule: str | Rule = "ridge", copies: int = 0) -> Learner:
    """A memory of this package that settles; copies are sampled with NOISE."""

    def learn(patterns: Floats, seed: int) -> list[Settle]:
        memory = AssociativeMemory(DIM, DIM, expansion=expansion, rule=rule, seed=seed)
        rng = np.random.default_rng((seed, 1))
        for _ in range(copies):
            memory.store(flipped(patterns, NOISE, rng), patterns)
        if not copies:
            memory.store(patterns, patterns, query_cosine=1 - 2 * noise)
        return [lambda keys: memory.settle(keys, max_steps=MAX_STEPS).states]

    return learn


def flipped(patterns: Floats, share: float, rng: np.random.Generator) -> Floats:
    """Flip each sign with this probability."""
    return np.where(rng.random(patterns.shape) < share, -patterns, patterns)


def random_patterns(n: int, rng: np.random.Generator) -> Floats:
    return rng.choice([-1.0, 1.0], (n, DIM))


# name -> numbers stored, in d², and how it learns.
METHODS: dict[str, tuple[int, Learner]] = {
    "Hopfield, Hebb rule": (1, hebb),
    "pseudo-inverse": (1, pseudo_inverse((1.0,))),
    "pseudo-inverse, self-connections tuned": (1, pseudo_inverse(SHARES)),
    f"CReLU k=1, noise={NOISE}": (2, crelu(1, NOISE)),
    f"CReLU k=4, query_cosine={1 - 2 * NOISE}": (5, crelu(4, rule=Ridge(query_cosine=1 - 2 * NOISE))),
    f"CReLU k=4, 50 copies at noise {NOISE}": (5, crelu(4, copies=50)),
    f"CReLU k=4, noise={NOISE}": (5, crelu(4, NOISE)),
}
TARGET = ("pseudo-inverse", f"CReLU k=4, noise={NOISE}")

Cell: TypeAlias = tuple[float, float, float]  # share of wrong bits after settling, and its 99 % interval


def basins(learn: Learner, load: float) -> list[Cell]:
    """The final error from every share of flipped bits."""
    wrong: list[Floats] = []  # (variants, flips) per trial
    for trial in range(TRIALS):
        rng = np.random.default_rng((trial, round(1000 * load)))
        patterns = random_patterns(round(load * DIM), rng)
        wanted = np.repeat(patterns, QUERIES, axis=0)
        queries = [flipped(wanted, share, rng) for share in FLIPS]
        variants = learn(patterns, trial)
        wrong.append(np.array([[np.mean(settle(keys) != wanted) for keys in queries] for settle in variants]))
    errors = np.array(wrong)
    best = errors.mean(axis=0).argmin(axis=0)  # one variant per share
    cells = []
    for column in range(len(FLIPS)):
        own = errors[:, best[column], column]
        judged = TRIALS * QUERIES * round(load * DIM)  # keys and not bits: those of one key fail together
        low, high = interval(own, judged, counts=True)
        cells.append((float(own.mean()), max(low, 0.0), high))
    return cells


def sweep_trials() -> Iterator[tuple[int, np.random.Generator, Floats, list[Floats], Floats]]:
    """Seed, generator, patterns, queries and the patterns to recover, the same for every rule."""
    for trial in range(SWEEP_TRIALS):
        rng = np.random.default_rng((trial, 7))
        patterns = random_patterns(SWEEP_PATTERNS, rng)
        wanted = np.repeat(patterns, QUERIES, axis=0)
        yield trial, rng, patterns, [flipped(wanted, share, rng) for share in SWEEP_FLIPS], wanted


def sweep(rule: Rule) -> list[list[float]]:
    """Final errors, one list for each of SWEEP_FLIPS, against the number of copies."""
    errors = np.zeros((len(SWEEP_FLIPS), len(COPIES)))
    for trial, rng, patterns, queries, wanted in sweep_trials():
        memory = AssociativeMemory(DIM, DIM, expansion=SWEEP_EXPANSION, rule=rule, seed=trial)
        stored = 0
        for column, copies in enumerate(COPIES):
            for _ in range(copies - stored):
                memory.store(flipped(patterns, NOISE, rng), patterns)
            stored = copies
            for row, keys in enumerate(queries):
                errors[row, column] += np.mean(memory.settle(keys).states != wanted) / SWEEP_TRIALS
    result: list[list[float]] = errors.tolist()
    return result


def closed_form() -> list[float]:
    """The same with `noise`, for which there is no number of copies."""
    errors = np.zeros(len(SWEEP_FLIPS))
    for trial, _, patterns, queries, wanted in sweep_trials():
        settle = crelu(SWEEP_EXPANSION, NOISE)(patterns, trial)[0]
        errors += [np.mean(settle(keys) != wanted) / SWEEP_TRIALS for keys in queries]
    result: list[float] = errors.tolist()
    return result


SWEPT: dict[str, Rule] = {
    "no penalty": Ridge(),
    "small fixed penalty": Ridge(alpha=1e-3 * (SWEEP_EXPANSION + 1) * DIM * DIM),  # 1e-3 of D · ‖x‖²
    "penalty by the law": Ridge(query_cosine=1 - 2 * NOISE),
    "penalty by cross-validation": Ridge(alpha="gcv"),
}


def percent(share: float) -> str:
    return f"{100 * share:.2f}"


def basin_tables(results: dict[str, dict[float, list[Cell]]]) -> str:
    """One table for each number of patterns."""
    parts = []
    for load in LOADS:
        header = [f"{load} patterns per dimension", "numbers", *(f"{100 * share:g} % flipped" for share in FLIPS)]
        rows = [
            [
                name,
                f"{METHODS[name][0]} d²",
                *(f"{percent(e)} ({percent(low)}…{percent(high)})" for e, low, high in cells[load]),
            ]
            for name, cells in results.items()
        ]
        parts.append(table(header, rows))
    return "\n\n".join(parts)


STYLES: dict[str, dict[str, Any]] = {
    "Hopfield, Hebb rule": {"color": "0.65", "marker": "v", "linestyle": ":"},
    "pseudo-inverse": {"color": "0.45", "marker": "s", "linestyle": "--"},
    "pseudo-inverse, self-connections tuned": {"color": "0.2", "marker": "D", "linestyle": "--"},
    f"CReLU k=1, noise={NOISE}": {"color": "tab:orange", "marker": "o", "linestyle": "-"},
    f"CReLU k=4, noise={NOISE}": {"color": "tab:blue", "marker": "o", "linestyle": "-"},
}


def draw(
    results: dict[str, dict[float, list[Cell]]], swept: dict[str, list[list[float]]], closed: list[float]
) -> Figure:
    """Bits recovered against bits flipped, one panel for each load; below, the sweep over copies."""
    figure = Figure(figsize=(13, 8.5), dpi=110, layout="constrained")
    panels = figure.add_gridspec(2, 4, height_ratios=(1.1, 1))
    first = None
    for column, load in enumerate(LOADS):
        axes = figure.add_subplot(panels[0, column], sharey=first)
        first = first or axes
        for name, style in STYLES.items():
            recovered = [100 * (1 - cell[0]) for cell in results[name][load]]
            label = f"{name} ({METHODS[name][0]} d² numbers)"
            axes.plot([100 * share for share in FLIPS], recovered, markersize=5, label=label, **style)
        axes.plot([5, 30], [95, 70], color="0.85", linewidth=1, zorder=0)
        axes.set(title=f"{load} patterns per dimension", xlabel="bits flipped, %")
        axes.set_ylim(48, 101)
        if column == 0:
            axes.set_ylabel("bits right after settling, %")
            axes.annotate("as given", (27, 73), color="0.6", rotation=-38, ha="center", va="center", fontsize=8)
            handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    looks = {"no penalty": ("0.45", "s", "--"), "small fixed penalty": ("0.65", "v", ":")}
    looks |= {"penalty by the law": ("tab:green", "^", "-"), "penalty by cross-validation": ("tab:purple", "D", "-")}
    for index, share in enumerate(SWEEP_FLIPS):
        axes = figure.add_subplot(panels[1, 2 * index : 2 * index + 2])
        for name, lines in swept.items():
            color, marker, dash = looks[name]
            recovered = [100 * (1 - error) for error in lines[index]]
            axes.plot(
                COPIES, recovered, color=color, marker=marker, linestyle=dash, markersize=5, label=f"copies, {name}"
            )
        axes.axhline(100 * (1 - closed[index]), color="tab:blue", label=f"noise={NOISE}, no copies")
        peak = DIM * (SWEEP_EXPANSION + 1) / SWEEP_PATTERNS
        axes.axvline(peak, color="0.85", linewidth=1, zorder=0)
        axes.annotate(
            "copies · patterns = D", (peak, 62), (peak * 1.6, 62), color="0.4", arrowprops={"arrowstyle": "->"}
        )
        axes.set_xscale("log")
        axes.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
        axes.minorticks_off()
        axes.set_ylim(48, 101)
        axes.set(title=f"{SWEEP_PATTERNS} patterns, {100 * share:g} % flipped", xlabel="copies stored of each pattern")
        if index == 0:
            axes.set_ylabel("bits right after settling, %")
        else:
            axes.legend(loc="lower left")
    return figure


def main() -> None:
    """Print the tables, and write docs/basins.png and benchmarks/basins.json."""
    start = time.perf_counter()
    print(machine())
    print(f"patterns of ±1, d = {DIM}; wrong bits after settling, %")
    print(f"(99 % intervals over {TRIALS} trials with {QUERIES} keys a pattern)\n")
    results = {name: {load: basins(learn, load) for load in LOADS} for name, (_, learn) in METHODS.items()}
    print(basin_tables(results))
    theirs, ours = (results[name][0.5][FLIPS.index(0.1)] for name in TARGET)
    verdict = "met" if ours[0] <= theirs[0] / 5 else "missed"
    print(
        f"\nat 0.5 and 10 % flipped: {percent(ours[0])} % against {percent(theirs[0])} %, target a fifth: {verdict}\n"
    )
    swept, closed = {name: sweep(rule) for name, rule in SWEPT.items()}, closed_form()
    for index, share in enumerate(SWEEP_FLIPS):
        rows = [[f"copies, {name}", *map(percent, lines[index])] for name, lines in swept.items()]
        rows.append([f"noise={NOISE}, no copies", *[percent(closed[index])] * len(COPIES)])
        print(f"{SWEEP_PATTERNS} patterns, D = {DIM * (SWEEP_EXPANSION + 1)}, {100 * share:g} % flipped: wrong bits, %")
        print(table(["copies of each", *map(str, COPIES)], rows) + "\n")
    draw(results, swept, closed).savefig(PICTURE)
    record = {
        "machine": machine(),
        "dim": DIM,
        "trials": TRIALS,
        "flips": FLIPS,
        "numbers_per_square_dim": {name: numbers for name, (numbers, _) in METHODS.items()},
        "wrong": {name: {str(load): cells for load, cells in by_load.items()} for name, by_load in results.items()},
        "copies": COPIES,
        "sweep_flips": SWEEP_FLIPS,
        "sweep_wrong": swept,
        "sweep_wrong_closed_form": closed,
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{PICTURE}, {RESULTS}; {time.perf_counter() - start:.0f} s")
