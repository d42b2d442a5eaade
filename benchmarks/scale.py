"""Time and memory against rank, pairs and value length, compared with the slopes that the arithmetic predicts."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.contest import duration
from benchmarks.timing import PAUSE, machine, peak_bytes, table


@dataclasses.dataclass(frozen=True)
class Case:
    """One memory: the size that varies among its neighbours, the rule, and the sizes."""

    varied: str
    rule: str
    key_dim: int
    value_dim: int
    n_pairs: int

    EXPANSION = 4

    @property
    def rank(self) -> int:
        """Rank D of the memory."""
        return self.key_dim * (1 + self.EXPANSION)

    @property
    def place(self) -> int:
        """Its place on the axis."""
        return {"rank D": self.rank, "pairs N": self.n_pairs, "value length v": self.value_dim}[self.varied]


# The largest ridge memory, D = 20 480, takes 10 GB while it solves: the sums, a copy of them, and the factor.
CASES = [
    *(Case("rank D", "ridge", d, 16, 4096) for d in (16, 64, 256, 1024)),
    Case("rank D", "ridge", 4096, 16, 1024),
    *(Case("rank D", "hebbian", d, 16, 4096) for d in (16, 64, 256, 1024, 4096, 16384)),
    *(Case("pairs N", rule, 128, 16, 10**e) for rule in ("ridge", "hebbian") for e in range(2, 7)),
    *(Case("value length v", rule, 128, v, 4096) for rule in ("ridge", "hebbian") for v in (1, 8, 64, 512, 4096)),
]
BATCH = 4096
OWN_PROCESSES = True
TINY: dict[str, object] = {
    "CASES": [Case(varied, "ridge", 8, 2, 40) for varied in ("rank D", "pairs N", "value length v")],
    "BATCH": 64,
    "OWN_PROCESSES": False,
}

MEASURES = {
    "store": "store, per pair",
    "solve": "first recall after storing",
    "recall": "recall of one key",
    "batch": "recall of 4096 keys, per key",
    "memory": "peak memory, bytes",
}
# Powers of D, N and v in the leading term of the cost of each measure.
SLOPES = {
    ("ridge", "rank D"): {"store": 2, "solve": 3, "recall": 1, "batch": 1, "memory": 2},
    ("hebbian", "rank D"): {"store": 1, "recall": 1, "batch": 1, "memory": 1},
    ("ridge", "pairs N"): {"store": 0, "solve": 0, "recall": 0, "batch": 0, "memory": 0},
    ("hebbian", "pairs N"): {"store": 0, "recall": 0, "batch": 0, "memory": 0},
    ("ridge", "value length v"): {"store": 1, "solve": 1, "recall": 1, "batch": 1, "memory": 1},
    ("hebbian", "value length v"): {"store": 1, "recall": 1, "batch": 1, "memory": 1},
}

RESULTS = Path(__file__).parent / "scale.json"
PICTURE = Path(__file__).parent.parent / "docs" / "scale.png"


def measure(case: Case) -> dict[str, float]:
    """Build, fill and ask one memory, in this process; everything has been compiled before."""
    from assocmem import AssociativeMemory, Hebbian, Ridge

    rule = Ridge(1.0) if case.rule == "ridge" else Hebbian()
    rng = np.random.default_rng(0)
    warm = AssociativeMemory(16, 2, expansion=case.EXPANSION, rule=rule)
    warm.store(rng.standard_normal((600, 16)), rng.standard_normal((600, 2)))
    warm.recall(rng.standard_normal(16)), warm.recall(rng.standard_normal((600, 16)))
    keys = rng.standard_normal((case.n_pairs, case.key_dim))
    values = rng.standard_normal((case.n_pairs, case.value_dim))
    before = peak_bytes()
    memory = AssociativeMemory(case.key_dim, case.value_dim, expansion=case.EXPANSION, rule=rule)
    time.sleep(PAUSE)
    start = time.perf_counter()
    memory.store(keys, values)
    stored = time.perf_counter()
    memory.recall(keys[0])
    solved = time.perf_counter()
    peak = peak_bytes()
    time.sleep(PAUSE)
    singles = [_seconds(lambda: memory.recall(keys[0])) for _ in range(50 if case.rank < 10_000 else 10)]
    queries = np.resize(keys, (BATCH, case.key_dim))
    batches = [_seconds(lambda: memory.recall(queries)) for _ in range(3)]
    return {
        "store": (stored - start) / case.n_pairs,
        "solve": solved - stored,
        "recall": float(np.median(singles)),
        "batch": float(np.median(batches)) / len(queries),
        "memory": peak - before,
        "state": float(memory.nbytes),
    }


def _seconds(call) -> float:  # type: ignore[no-untyped-def]
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measured(case: Case) -> dict[str, float]:
    """`measure` in a process of its own, whose peak memory is the case's."""
    if not OWN_PROCESSES:
        return measure(case)
    command = [sys.executable, "-m", "benchmarks.scale", json.dumps(dataclasses.astuple(case))]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def figure(results: list[tuple[Case, dict[str, float]]]):  # type: ignore[no-untyped-def]
    """Log-log panels: one for every measure and axis; dashed, the predicted slope through the largest point."""
    from matplotlib.figure import Figure

    axes_names = list(dict.fromkeys(case.varied for case, _ in results))
    plot = Figure(figsize=(11, 13), layout="constrained")
    grid = plot.subplots(len(MEASURES), len(axes_names))
    styles = {"ridge": ("o", "#000000"), "hebbian": ("s", "#c44e00")}
    for column, varied in enumerate(axes_names):
        for row, (name, title) in enumerate(MEASURES.items()):
            axis = grid[row, column]
            for rule, (marker, colour) in styles.items():
                slope = SLOPES[rule, varied].get(name)
                chosen = [(c.place, found[name]) for c, found in results if (c.varied, c.rule) == (varied, rule)]
                if slope is None or not chosen:
                    continue
                x, y = np.array(chosen, float).T
                axis.loglog(x, y, marker, color=colour, label=f"{rule}, measured")
                axis.loglog(x, y[-1] * (x / x[-1]) ** slope, "--", color=colour, label=f"{rule}, slope {slope}")
            axis.set(xlabel=varied, ylabel=title if column == 0 else "")
            axis.legend(fontsize=7)
            axis.spines[["top", "right"]].set_visible(False)
    grid[0, 0].set_title("16 outputs, 4096 pairs (ridge at D = 20 480: 1024)", fontsize=9)
    grid[0, 1].set_title("D = 640, 16 outputs", fontsize=9)
    grid[0, 2].set_title("D = 640, 4096 pairs", fontsize=9)
    return plot


def rows(results: list[tuple[Case, dict[str, float]]]) -> list[list[str]]:
    """The results, a row for every case."""
    return [
        [
            case.rule,
            *(f"{number:,}" for number in (case.rank, case.n_pairs, case.value_dim)),
            *(duration(found[name]) for name in ("store", "solve", "recall", "batch")),
            f"{found['memory'] / 1e6:,.0f} MB",
            f"{found['state'] / 1e6:,.1f} MB",
        ]
        for case, found in results
    ]


def main() -> None:
    results = []
    for case in CASES:
        results.append((case, measured(case)))
        print(rows(results[-1:])[0], flush=True)
    header = ["rule", "D", "N", "v", "store, per pair", "first recall", "recall", "batch, per key", "peak", "state"]
    RESULTS.write_text(json.dumps({"machine": machine(), "cases": [[dataclasses.asdict(c), f] for c, f in results]}))
    figure(results).savefig(PICTURE, dpi=110)
    print(machine())
    print(table(header, rows(results)))


if __name__ == "__main__":
    print(json.dumps(measure(Case(*json.loads(sys.argv[1])))))
