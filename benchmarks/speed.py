"""Every comparison of speed, in one run: a markdown table, and benchmarks/speed.json for the README."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from benchmarks import contest, recalls, writes
from benchmarks.contest import Comparison, markdown, results_table, run
from benchmarks.timing import machine

RESULTS = contest.RESULTS
MEASURES_MEMORY = True
TINY: dict[str, object] = {"MEASURES_MEMORY": False, "RECALL_SIZES": recalls.TINY, "WRITE_SIZES": writes.TINY}
RECALL_SIZES: dict[str, object] = {}  # constants of the two modules that are replaced
WRITE_SIZES: dict[str, object] = {}

PEAKS = "ridge, 20 000 pairs, as above: peak memory, bytes"
MEMORY_TARGET = 3.0


def peak(side: str) -> float:
    """Peak bytes of a process that does nothing but one side of the ridge comparison."""
    code = (
        "from benchmarks import timing, writes; n, d, _, v = writes.RIDGE_SIZE; "
        f"writes.{side}(*writes.pairs(n, d, v, 'float32')); print(timing.peak_bytes())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(ran.stdout.splitlines()[-1])


def memory_comparison() -> dict[str, Any]:
    """Peak memory of the ridge comparison, each side in its own process: bytes, not seconds."""
    ours, theirs = peak("our_ridge"), peak("sklearn_ridge")
    return {
        "name": PEAKS,
        "unit": "bytes",
        "ours": ours,
        "fastest": "scikit-learn",
        "theirs": theirs,
        "ratio": theirs / ours,
        "spread": [theirs / ours] * 2,
        "target": MEMORY_TARGET,
        "others": {"scikit-learn": theirs},
    }


def document(comparisons: list[Comparison], *, with_memory: bool) -> dict[str, Any]:
    """Run comparisons, and print each result at once."""
    results = []
    for comparison in comparisons:
        found = run(comparison)
        if found is None:
            print(f"{comparison.name}: skipped, since nothing to compare with is installed", flush=True)
            continue
        results.append(found)
        print(results_table(results[-1:]).splitlines()[-1], flush=True)
    if with_memory and find_spec("sklearn"):
        results.append(memory_comparison())
    return {"machine": machine(), "results": results}


def main(words: Sequence[str] = ()) -> None:
    """Run everything, or only the comparisons whose names contain the words that are given."""
    vars(recalls).update(RECALL_SIZES)
    vars(writes).update(WRITE_SIZES)
    chosen = [c for c in (*recalls.comparisons(), *writes.comparisons()) if all(word in c.name for word in words)]
    found = document(chosen, with_memory=MEASURES_MEMORY and not words)
    if not words:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(markdown(found))
