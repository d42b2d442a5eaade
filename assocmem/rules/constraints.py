"""Equality constraints: the weights of least ridge objective among those with F U = V for given features and values.

With an orthonormal basis B of the rows of F, P = I − BᵀB and O the smallest weights with F O = V, they are U = O + Z,
where Z solves the ridge problem of P G P and P (Q − G O): the null-space method for least squares with equality
constraints (Golub and Van Loan, "Matrix Computations", section 6.2). The sums themselves stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg import blas

from assocmem.rules.blas import Matrix64, row_squares, symmetric_product
from assocmem.rules.solve import Regularised

# Features nearer than this to the span of others, as a share of their length, have their recall determined by them.
DEPENDENT = 1e-6

# Added to a metric that is singular to rounding, as a share of its mean eigenvalue: directions in which it measures
# nothing then cost next to nothing, and of all changes that cost equally little the shortest is taken.
METRIC_SHIFT = 1e-8

ROUNDING = 1e-13  # of the trace of G

Rows: TypeAlias = tuple[Matrix64, Matrix64]  # features (r, D) and values (r, v)


@dataclass(frozen=True)
class Constraint:
    """An orthonormal basis (r, D) of fixed features, and the smallest weights (D, v) with their values."""

    basis: Matrix64
    offset: Matrix64

    @classmethod
    def of(cls, features: Matrix64, values: Matrix64) -> Constraint:
        """Of independent rows."""
        lengths = np.sqrt(row_squares(features))[:, None]  # long and short keys are fixed alike
        basis, triangle = np.linalg.qr((features / lengths).T)
        coordinates = scipy.linalg.solve_triangular(triangle.T, values / lengths, lower=True)
        return cls(np.ascontiguousarray(basis.T), basis @ coordinates)


def without_rows(rows: Rows, features: Matrix64) -> Rows:
    """Rows without those of given features (B, D), or of positive multiples of them."""
    fixed, values = rows
    if not len(fixed) or not len(features):
        return rows
    ours, theirs = (array / np.sqrt(row_squares(array))[:, None] for array in (fixed, features))
    others = (ours @ theirs.T).max(axis=1) < 1 - DEPENDENT**2 / 2
    return fixed[others], values[others]


def without(matrix: Matrix64, basis: Matrix64) -> Matrix64:
    """P M P for a symmetric matrix M (lower triangle) and P = I − BᵀB, as a new lower triangle."""
    image = symmetric_product(matrix, basis.T)
    image = image - basis.T @ (0.5 * (basis @ image))
    projected: Matrix64 = matrix.copy()
    blas.dsyr2k(-1.0, np.asfortranarray(image), basis.T, beta=1.0, c=projected.T, overwrite_c=1)
    return projected


def free_gram(gram: Matrix64, basis: Matrix64) -> Matrix64:
    """P G P; zero where all that was stored is fixed, and only rounding would be left."""
    free = without(gram, basis)
    return free if free.trace() > ROUNDING * gram.trace() else np.zeros_like(free)


def orthonormal(rows: Matrix64) -> Matrix64:
    """Orthonormal basis (r, D) of independent rows, whatever their lengths."""
    return np.ascontiguousarray(np.linalg.qr((rows / np.sqrt(row_squares(rows))[:, None]).T)[0].T)


def outside(rows: Matrix64, basis: Matrix64) -> Matrix64:
    """Rows without their projections on an orthonormal basis."""
    for _ in range(2):  # the second pass removes what rounding left of a long projection
        rows = rows - (rows @ basis.T) @ basis
    return rows


def independent(features: Matrix64, others: Matrix64) -> NDArray[np.intp]:
    """Indices of a largest set of rows that are independent of each other and of `others`, independent rows."""
    if len(features) == 0:
        return np.empty(0, np.intp)
    units = outside(features / np.sqrt(row_squares(features))[:, None], orthonormal(others))
    triangle, order = scipy.linalg.qr(units.T, mode="r", pivoting=True)
    rank = int((np.abs(triangle.diagonal()) > DEPENDENT).sum())
    return np.sort(order[:rank])


def extended(rows: Rows, features: Matrix64, values: Matrix64, tolerance: Any = 0.0) -> Rows:
    """Add rows to independent rows, leaving out those that say nothing new.

    A dependent row may differ from what the others determine by rounding, and by a `tolerance`, for all or each (B,).

    Raises
    ------
    ValueError
        If a row contradicts what the others determine.
    """
    if len(features) == 0:
        return rows
    kept = independent(features, rows[0])
    joined = np.vstack([rows[0], features[kept]]), np.vstack([rows[1], values[kept]])
    errors = np.abs(features @ Constraint.of(*joined).offset - values).max(axis=1)
    allowed = (
        DEPENDENT * np.abs(values).max(axis=1) + ROUNDING * float(np.abs(joined[1]).max()) * len(joined[0]) + tolerance
    )
    away = float(errors.max())
    if (errors > allowed).any():
        raise ValueError(
            f"of {len(rows[0])} keys with a fixed recall and {len(features)} to fix, only {len(joined[0])} have "
            f"independent features (at most {features.shape[1]} can), which determine the recalls of the others "
            f"{away:.2g} away from the values given; leave out keys that depend on others, or are both edited and "
            f"preserved"
        )
    return joined


def smallest_change(metric: Matrix64, held: Matrix64, edited: Matrix64, errors: Matrix64, penalty: float) -> Matrix64:
    """Change X (D, v) of least tr XᵀMX + ‖errors − edited X‖²/λ, at λ = 0 with edited X = errors, where held X = 0.

    Without held rows it is M⁻¹Eᵀ (E M⁻¹ Eᵀ + λI)⁻¹ errors.

    Raises
    ------
    ValueError
        If M is not positive semidefinite, or at λ = 0 an edited row depends on the others and the held ones.
    """
    level = float(metric.diagonal().mean())
    factor = _metric_factor(metric)

    def whitened(rows: Matrix64) -> Matrix64:
        return np.ascontiguousarray(scipy.linalg.solve_triangular(factor, rows.T, lower=True).T)

    held, edited = whitened(held), whitened(edited)
    held = held[independent(held, held[:0])]
    if penalty == 0 and len(kept := independent(edited, held)) < len(edited):
        row = int(np.setdiff1d(np.arange(len(edited)), kept)[0])
        raise ValueError(
            f"key {row} depends linearly on the other keys to edit and the {len(held)} independent ones to preserve, "
            f"of at most {len(metric)}; leave out the key, or preserve fewer"
        )
    free = outside(edited, orthonormal(held))
    if penalty == 0:
        basis, triangle = np.linalg.qr(free.T)
        change = basis @ scipy.linalg.solve_triangular(triangle.T, errors, lower=True)
    else:
        change = free.T @ scipy.linalg.solve(
            free @ free.T + penalty * level * np.eye(len(free)), errors, assume_a="pos"
        )
    return np.asarray(scipy.linalg.solve_triangular(factor, change, lower=True, trans=1))


def _metric_factor(metric: Matrix64) -> Matrix64:
    """Cholesky factor of a metric over its mean eigenvalue, shifted if it is singular to rounding."""
    regularised = Regularised.of(metric, [0.0, METRIC_SHIFT]) if metric.trace() > 0 else None
    if regularised is not None and not regularised.shift:
        singular = (regularised.factor.diagonal() ** 2).min() <= METRIC_SHIFT
        regularised = Regularised.of(metric, [METRIC_SHIFT]) if singular else regularised
    if regularised is None:
        raise ValueError(
            "the covariance is not positive semidefinite, as a second moment of inputs is; compute it as "
            "x.T @ x / len(x) of a sample x"
        )
    return regularised.factor
