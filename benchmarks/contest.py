"""One comparison: contestants that do the same, checked against each other, then timed in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import rounds, seconds, table

MISSING = "missing"
RESULTS = Path(__file__).parent / "speed.json"  # of the last run, from which the README has its table


@dataclasses.dataclass(frozen=True)
class Contest:
    """The contestants: ours, and the others by name (None: its package is not installed).

    `check` raises if the contestants do not agree; it runs before anything is timed.
    """

    ours: Callable[[], object]
    others: dict[str, Callable[[], object] | None]
    check: Callable[[], None]
    repeats: int = 1
    rounds: int = 11
    per: int = 1  # operations in one call of ours
    per_other: int | None = None  # and of the others, if it is another number


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A contest, built when its turn comes, and the target of its ratio."""

    name: str
    build: Callable[[], Contest]
    target: float | None = None


def run(comparison: Comparison) -> dict[str, Any] | None:
    """Check, warm up, time in turn; medians, and the quartiles of the paired ratios against the fastest other.

    None if none of the others is installed.
    """
    contest = comparison.build()
    present = {name: call for name, call in contest.others.items() if call is not None}
    if not present:
        return None
    contest.check()
    for call in (contest.ours, *present.values()):
        seconds(call, max(1, contest.repeats // 10))
    times: dict[str, list[float]] = {name: [] for name in ("ours", *present)}
    for _ in range(rounds(contest.rounds)):
        for name, call in (("ours", contest.ours), *present.items()):
            per = contest.per if name == "ours" or contest.per_other is None else contest.per_other
            times[name].append(seconds(call, contest.repeats) / per)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    fastest = min(present, key=medians.__getitem__)
    low, ratio, high = np.percentile(np.divide(times[fastest], times["ours"]), [25, 50, 75]).tolist()
    return {
        "name": comparison.name,
        "unit": "seconds",
        "ours": medians["ours"],
        "fastest": fastest,
        "theirs": medians[fastest],
        "ratio": ratio,
        "spread": [low, high],
        "target": comparison.target,
        "others": {name: medians.get(name, MISSING) for name in contest.others},
    }


def amount(value: float, unit: str) -> str:
    """A duration, or megabytes."""
    return f"{value / 1e6:,.0f} MB" if unit == "bytes" else duration(value)


def duration(value: float) -> str:
    """Seconds, milliseconds or microseconds, in three digits."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def results_table(results: Iterable[dict[str, Any]]) -> str:
    """A markdown table of results of `run`."""
    rows = [
        [
            result["name"],
            amount(result["ours"], result["unit"]),
            f"{amount(result['theirs'], result['unit'])} ({result['fastest']})",
            f"{result['ratio']:.2f}",
            "{:.2f} to {:.2f}".format(*result["spread"]),
            "" if result["target"] is None else f"{result['target']:g}",
            ", ".join(name for name, value in result["others"].items() if value == MISSING),
        ]
        for result in results
    ]
    return table(["", "assocmem", "fastest other", "times faster, or smaller", "quartiles", "target", "missing"], rows)


def markdown(found: dict[str, Any]) -> str:
    """The table and the line of the machine, as the README has them."""
    return f"{results_table(found['results'])}\n\n{found['machine']}\n"
