"""Hadamard projection against the matrix product with the explicit matrix, on the same threads."""

import numpy as np

from assocmem import HadamardProjection
from benchmarks.timing import machine, paired, table

TINY = {"CASES": [(np.float32, 64, 16, 10), (np.float64, 64, 1, None)]}
CASES = [
    (np.float32, 1024, 4096, 10),
    (np.float64, 1024, 4096, None),
    (np.float32, 4096, 4096, 30),
    (np.float64, 4096, 4096, None),
    (np.float32, 1024, 1, 8),
    (np.float64, 1024, 1, None),
]


def compare(dtype: type, p: int, n: int) -> tuple[float, float, float]:
    """Median seconds of ours and of the matrix product, and the median ratio, after checking that they agree."""
    projection = HadamardProjection(p, 1, seed=0)
    keys = np.random.default_rng(0).standard_normal((n, p)).astype(dtype)
    if n == 1:
        keys = keys[0]
    matrix = projection.matrix().astype(dtype)
    transposed = np.ascontiguousarray(matrix.T)
    np.testing.assert_allclose(projection.project(keys), keys @ transposed, atol=200 * np.finfo(dtype).eps)
    if n == 1:  # whichever layout of the matrix is the faster for one key
        by_rows = paired(lambda: projection.project(keys), lambda: matrix @ keys, repeats=1000)
        by_columns = paired(lambda: projection.project(keys), lambda: keys @ transposed, repeats=1000)
        return min(by_rows, by_columns, key=lambda times: times[2])
    return paired(lambda: projection.project(keys), lambda: keys @ transposed, n_rounds=5, repeats=3)


def main() -> None:
    rows = []
    for dtype, p, n, target in CASES:
        ours, theirs, ratio = compare(dtype, p, n)
        aim = f"{target}" if target else ""
        rows.append(
            [np.dtype(dtype).name, f"{p}", f"{n}", f"{ours * 1e6:.1f}", f"{theirs * 1e6:.1f}", f"{ratio:.1f}", aim]
        )
    print(machine())
    print(table(["dtype", "p", "keys", "assocmem µs", "matrix product µs", "times faster", "target"], rows))
