"""From how many keys on a matrix product recalls faster than a frozen memory key by key."""

from __future__ import annotations

import numpy as np

from benchmarks.contest import duration
from benchmarks.recalls import SIZES, random_pairs
from benchmarks.timing import machine, seconds, table

PRECISIONS = ("float32", "float64", "int8")
BATCHES = (2, 4, 8, 16, 64, 256, 1024, 2048)
CASES = [
    *((precision, size) for precision in PRECISIONS for size in SIZES[:2]),
    *((precision, SIZES[2]) for precision in ("float32", "int8")),
]
TINY: dict[str, object] = {"BATCHES": (2, 16), "CASES": [(precision, (16, 2, 8)) for precision in PRECISIONS]}
LONGEST = 4.0  # seconds that one call may take


def per_key(precision: str, d: int, k: int, v: int) -> list[list[str]]:
    """Seconds per key: one key after the other, the batch as the frozen memory recalls it, and the product.

    The product is the recall of the memory before it was frozen. That of 8-bit weights also has to widen them.
    """
    memory = random_pairs(d, k, v, "float64" if precision == "float64" else "float32")
    frozen = memory.freeze(precision)
    keys = np.random.default_rng(1).standard_normal((max(BATCHES), d), dtype=np.float32).astype(frozen.dtype)
    expected = memory.recall(keys[: min(BATCHES)])
    atol = (2e-2 if precision == "int8" else 1e-3) * float(abs(expected).max())
    np.testing.assert_allclose(frozen.recall(keys[: min(BATCHES)]), expected, atol=atol)
    single = seconds(lambda: [frozen.recall(key) for key in keys[:8]], 3) / 8
    rows = []
    for n in BATCHES:
        if n * single > LONGEST:
            break
        batch = seconds(lambda n=n: frozen.recall(keys[:n]), 3) / n
        product = seconds(lambda n=n: memory.recall(keys[:n]), 3) / n
        times = [duration(each) for each in (single, batch, product)]
        rows.append([precision, f"{d}, {k}, {v}", f"{n}", *times, frozen.method(n)])
    return rows


def main() -> None:
    print(machine())
    rows = [row for precision, size in CASES for row in per_key(precision, *size)]
    print(
        table(["precision", "d, k, v", "keys", "singly, per key", "batch, per key", "product, per key", "chosen"], rows)
    )
