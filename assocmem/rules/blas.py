"""Matrix products that add into an existing array, and symmetric matrices of which one triangle is kept.

Arrays here are C-contiguous, BLAS counts in columns: every function hands over transposed views, and the lower
triangle that this package keeps is the upper one in BLAS's eyes (``lower=0``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from assocmem.core.jit import kernel, reduction
from assocmem.core.threads import run_in_row_blocks

Matrix = NDArray[Any]
Matrix64 = NDArray[np.float64]

MIN_ROWS = 64  # of a matrix, per thread that adds to it
# Beyond it products and factors are done by panels: OpenBLAS 0.3.30 on two threads reads outside of its arrays in
# dsyrk and dpotrf at D = 20 480 (at 18 432 it does not).
LARGEST_GRAM = 16_384
PANEL = 2048
# Columns of a product that are computed twice, and what the spectral norm may be above that of independent errors: at
# most 3.5 times in keys of twelve kinds.
PROBED, PROBE_MARGIN = 16, 5.0
MIN_SQUARED = 500_000  # numbers, per thread that squares them


def _overwritten(target: Matrix) -> Matrix:
    """Return the view that BLAS changes, or refuse: it writes to read-only memory, and its wrappers to copies."""
    if not target.flags.carray:
        raise ValueError(
            "a matrix to be changed in place is read-only, not aligned or not C-contiguous; memories own their arrays, "
            "so pass a copy of one that came from elsewhere; nothing was changed"
        )
    view: Matrix = target.T
    return view


def add_product(target: Matrix, features: Matrix, values: Matrix, factor: float = 1.0) -> None:
    """Compute target (D, v) += factor * features (B, D)ᵀ @ values (B, v), in place, without a temporary of D rows."""
    gemm = blas.sgemm if target.dtype == np.float32 else blas.dgemm
    gemm(factor, values.T, features.T, beta=1.0, c=_overwritten(target), trans_b=1, overwrite_c=1)


def add_outer(target: Matrix, feature: Matrix, value: Matrix) -> None:
    """Compute target (D, v) += feature (D,) valueᵀ, in place."""
    ger = blas.sger if target.dtype == np.float32 else blas.dger
    ger(1.0, value, feature, a=_overwritten(target), overwrite_a=1)


def add_gram(gram: Matrix64, features: Matrix64, factor: float = 1.0) -> None:
    """Compute gram (D, D) += factor * featuresᵀ @ features on the lower triangle, in place."""
    if len(features) == 1:  # a rank-one update is several times faster by its own name
        blas.dsyr(factor, features[0], a=_overwritten(gram), overwrite_a=1)
    elif len(gram) > LARGEST_GRAM:
        _add_gram_by_panels(gram, features, factor)
    else:
        blas.dsyrk(factor, features.T, beta=1.0, c=_overwritten(gram), overwrite_c=1)


def _add_gram_by_panels(gram: Matrix64, features: Matrix, factor: float) -> float:
    """`add_gram`, a few rows of the triangle at a time; with float32 features in single precision. At least ‖FᵀF‖."""
    total = 0.0
    for first in range(0, len(gram), PANEL):
        rows = slice(first, first + PANEL)
        panel = features[:, rows].T @ features[:, : first + PANEL]
        gram[rows, : first + PANEL] += np.float64(factor) * panel
        total = float(np.hypot(total, np.sqrt(2) * norm(panel)))
    return total


def add_gram_single(gram: Matrix64, features: NDArray[np.float32], factor: float = 1.0) -> float:
    """`add_gram` with a product in single precision, which takes half the time; the Frobenius norm of the product."""
    if len(gram) > LARGEST_GRAM:
        return _add_gram_by_panels(gram, features, factor)
    single = np.empty(gram.shape, np.float32)
    blas.ssyrk(factor, features.T, beta=0.0, c=single.T, overwrite_c=1)
    run_in_row_blocks(_add_lower, len(gram), MIN_ROWS, single, gram)
    return symmetric_norm(single)


@kernel
def _add_lower(start: int, stop: int, addend: NDArray[Any], target: NDArray[Any]) -> None:
    for i in range(start, stop):
        addend_row, target_row = addend[i], target[i]
        for j in range(i + 1):
            target_row[j] += addend_row[j]


def scaled_lower(matrix: Matrix64, factor: float) -> Matrix64:
    """Return factor * matrix on the lower triangle, and zeros above."""
    scaled: Matrix64 = np.zeros(matrix.shape)  # not zeros_like, which writes every page
    run_in_row_blocks(_scale_lower, len(matrix), MIN_ROWS, matrix, factor, scaled)
    return scaled


@kernel
def _scale_lower(start: int, stop: int, matrix: NDArray[Any], factor: float, scaled: NDArray[Any]) -> None:
    for i in range(start, stop):
        row, scaled_row = matrix[i], scaled[i]
        for j in range(i + 1):
            scaled_row[j] = factor * row[j]


def symmetric_norm(matrix: NDArray[Any]) -> float:
    """Frobenius norm of a symmetric matrix (D, D), lower triangle given, also where squares leave the number range."""
    unit = float(np.abs(matrix.diagonal()).max(initial=0.0)) or float(np.abs(matrix).max(initial=0.0))
    if unit == 0.0 or not np.isfinite(unit):
        return unit
    squares = np.zeros(len(matrix))
    run_in_row_blocks(_square_lower, len(matrix), MIN_ROWS, matrix, unit, squares)
    return unit * float(np.sqrt(squares.sum()))


@reduction
def _square_lower(start: int, stop: int, matrix: NDArray[Any], unit: float, squares: NDArray[Any]) -> None:
    for i in range(start, stop):
        row, below, diagonal = matrix[i], 0.0, np.float64(matrix[i, i]) / unit
        for j in range(i):
            share = row[j] / unit
            below += share * share
        squares[i] = 2 * below + diagonal * diagonal


def symmetric_product(matrix: Matrix64, columns: Matrix64) -> Matrix64:
    """Product of a symmetric matrix (D, D), lower triangle given, with columns (D, n) -> (D, n), column-major."""
    if columns.shape[1] == 1:
        return np.asarray(blas.dsymv(1.0, matrix.T, columns[:, 0]))[:, None]
    product: Matrix64 = blas.dsymm(1.0, matrix.T, np.asfortranarray(columns))
    return product


def cholesky(matrix: Matrix64) -> bool:
    """Overwrite the lower triangle with the Cholesky factor; False if the matrix is not positive definite."""
    if len(matrix) > LARGEST_GRAM:
        return _cholesky_by_panels(matrix)
    _, info = lapack.dpotrf(_overwritten(matrix), overwrite_a=1, clean=0)
    return bool(info == 0)


def _cholesky_by_panels(matrix: Matrix64) -> bool:
    """`cholesky`, a few columns at a time: each is freed of those before it, and divided by its diagonal block."""
    for first in range(0, len(matrix), PANEL):
        last = min(first + PANEL, len(matrix))
        panel, before = matrix[first:, first:last], matrix[first:last, :first]
        panel -= matrix[first:, :first] @ before.T
        diagonal = np.ascontiguousarray(panel[: last - first])
        if not cholesky(diagonal):
            return False
        panel[: last - first] = diagonal
        below = np.ascontiguousarray(panel[last - first :])
        if len(below):  # below = X Lᵀ: from the right in our eyes, from the left in BLAS's
            panel[last - first :] = blas.dtrsm(1.0, diagonal.T, below.T, trans_a=1, overwrite_b=1).T
    return True


def cholesky_solve(factor: Matrix64, columns: Matrix64) -> Matrix64:
    """Solve with what `cholesky` left -> (D, n), column-major."""
    solution, _ = lapack.dpotrs(factor.T, columns)
    return np.asarray(solution)


def invert_from_cholesky(factor: Matrix64) -> None:
    """Overwrite a Cholesky factor with the lower triangle of the inverse matrix."""
    lapack.dpotri(_overwritten(factor), overwrite_c=1)


def eigenvalues_below(matrix: Matrix64, bound: float) -> int:
    """Number of eigenvalues of a symmetric matrix below a bound: as many as M − bound I has negative pivots.

    By Sylvester's law of inertia; a pivot of two rows has one eigenvalue of each sign (Bunch and Kaufman 1977).
    """
    shifted = np.array(matrix.T, order="F")
    shifted.T.reshape(-1)[:: len(matrix) + 1] -= bound
    factor, pivots, _ = lapack.dsytrf(shifted, lower=0, overwrite_a=1)
    single = pivots > 0
    return int((factor.diagonal()[single] < 0.0).sum()) + int((~single).sum()) // 2


def reciprocal_condition(factor: Matrix64, norm: float) -> float:
    """Estimate 1 / condition number of a matrix of this 1-norm from what `cholesky` left."""
    estimate, _ = lapack.dpocon(factor.T, norm)
    return float(estimate)


def solve_lower(factor: Matrix, rows: Matrix, *, unit_diagonal: bool = False) -> Matrix:
    """Solve L y = rows (B, n) for the lower triangle L of factor (B, B) -> (B, n), row-major."""
    trsm = blas.strsm if rows.dtype == np.float32 else blas.dtrsm
    # yᵀ Lᵀ = rowsᵀ: a triangle from the right, upper in BLAS's eyes, so that nothing is copied.
    solution = trsm(1.0, factor.T, np.ascontiguousarray(rows).T, side=1, diag=int(unit_diagonal))
    transposed: Matrix = solution.T
    return transposed


def norm(matrix: Matrix) -> float:
    """Frobenius norm, also of numbers whose squares would leave the number range."""
    nrm2 = blas.snrm2 if matrix.dtype == np.float32 else blas.dnrm2
    return float(nrm2(np.ascontiguousarray(matrix).reshape(-1)))


def column_norms(columns: Matrix64) -> NDArray[np.float64]:
    """Lengths (n,) of columns (D, n), also where their squares leave the number range."""
    sizes = np.abs(columns).max(axis=0, initial=0.0)
    return np.asarray(sizes * np.linalg.norm(columns / np.where(sizes > 0, sizes, 1.0), axis=0))


def single_noise(features: NDArray[np.float32]) -> float:
    """Spectral norm of what FᵀF (D, D) loses in single precision, measured on a few of its columns.

    No formula tells it: equal rows are rounded alike, rows of one sign more than others, and kernels sum in any order.
    """
    rank = features.shape[1]
    some = np.random.default_rng(0).choice(rank, min(PROBED, rank), replace=False)
    exact = features.astype(np.float64)
    lost = features.T @ np.ascontiguousarray(features[:, some]) - exact.T @ exact[:, some]
    return PROBE_MARGIN * norm(lost) * 2 / float(np.sqrt(len(some)))


def row_squares(rows: Matrix) -> Matrix:
    """Squared length of every row."""
    rows = np.ascontiguousarray(rows)
    squares = np.empty(len(rows), rows.dtype)
    run_in_row_blocks(_square_rows, len(rows), max(1, MIN_SQUARED // max(rows.shape[1], 1)), rows, squares)
    return squares


@reduction
def _square_rows(start: int, stop: int, rows: NDArray[Any], squares: NDArray[Any]) -> None:
    for n in range(start, stop):
        row, total = rows[n], rows.dtype.type(0)
        for i in range(row.shape[0]):
            total += row[i] * row[i]
        squares[n] = total


# Squared lengths between 1/limit and limit may divide any value without leaving the range of the type.
_SAFE_SQUARES = {"float32": 1e10, "float64": 1e100}


def normalise_extreme_rows(features: Matrix, values: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Divide very long or very short features, and the values with them, by the length of the features.

    Returns both, and the squared lengths that the features then have.

    A rule that adds ψ eᵀ / ‖ψ‖², with e linear in the value and in ψ, does not see the difference, but ‖ψ‖² and its
    inverse stay in range.
    """
    squares, limit = row_squares(features), _SAFE_SQUARES[features.dtype.name]
    if squares.max(initial=1.0) < limit and squares.min(initial=1.0) > 1 / limit:
        return features, values, squares
    lengths = np.sqrt(squares)[:, None]
    features = features / lengths
    return features, values / lengths, row_squares(features)
