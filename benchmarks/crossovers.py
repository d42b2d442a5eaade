"""From how many keys on a folded matrix product is faster than one gated recall after the other."""

import numpy as np

from assocmem.frozen import CROSSOVER, PRECISIONS
from benchmarks.contest import duration
from benchmarks.recalls import SIZES, random_memory
from benchmarks.timing import machine, seconds, table

BATCHES = (2, 4, 8, 16, 64, 256, 1024, 2048)
LONGEST = 4.0  # seconds that one call may take


def per_key(d: int, k: int, v: int, precision: str) -> list[list[str]]:
    """Seconds per key by both methods; folding is part of the product only where it is done anew for every batch."""
    frozen, _ = random_memory(d, k, v, precision)
    keys = np.random.default_rng(1).standard_normal((max(BATCHES), d), dtype=np.float32).astype(frozen.dtype)
    frozen._recall_folded(keys[:1], np.empty((1, v), frozen.dtype))
    rows, each = [], 0.0
    for n in BATCHES:
        if n * each > LONGEST:
            break
        values = np.empty((n, v), frozen.dtype)
        gated = seconds(lambda n=n, values=values: frozen._recall_gated(keys[:n], values), 3) / n
        folded = seconds(lambda n=n, values=values: frozen._recall_folded(keys[:n], values), 3) / n
        each = max(gated, folded if precision != "int8" else 0.0)
        np.testing.assert_allclose(values, frozen.recall(keys[:n]), atol=1e-3 * float(abs(values).max()))
        rows.append([precision, f"{d}, {k}, {v}", f"{n}", duration(gated), duration(folded), frozen.method(n)])
    return rows


def main() -> None:
    print(machine())
    print(f"chosen: {CROSSOVER}")
    rows = [row for precision in PRECISIONS for size in SIZES[:2] for row in per_key(*size, precision)]
    rows += per_key(*SIZES[2], "float32") + per_key(*SIZES[2], "int8")
    print(table(["precision", "d, k, v", "keys", "gated, per key", "folded, per key", "chosen"], rows))
