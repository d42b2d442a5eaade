"""Every comparison of speed, in one run: a markdown table, and benchmarks/speed.json for the README."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.contest import RESULTS, Comparison, markdown, results_table, run
from benchmarks.recalls import RECALLS
from benchmarks.timing import machine
from benchmarks.writes import WRITES

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
    """Run comparisons; say what each found as soon as it has."""
    results = []
    for comparison in comparisons:
        results.append(run(comparison))
        print(results_table(results[-1:]).splitlines()[-1], flush=True)
    if with_memory:
        results.append(memory_comparison())
    return {"machine": machine(), "results": results}


def main() -> None:
    """Run everything, or only the comparisons whose names contain the words that are given."""
    words = sys.argv[2:]
    chosen = [c for c in (*RECALLS, *WRITES) if all(word in c.name for word in words)]
    found = document(chosen, with_memory=not words)
    if not words:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(markdown(found))
