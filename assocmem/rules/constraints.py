"""Constraint rows of a ridge problem: exact ones, F U = V, and ones with slack λ, which cost ‖F U − V‖² / λ.

With an orthonormal basis B of the rows, P = I − BᵀB and Y = B U, the weights are U = BᵀY + X(Y), where X(Y) solves the
ridge problem of P G P and P (Q − G BᵀY): the null-space method for least squares with equality constraints (Golub and
Van Loan, "Matrix Computations", section 6.2). Exact rows determine their part of Y; for rows with slack it solves a
system of their number, so that a small λ costs no digits elsewhere, as a pair of weight 1/λ in the sums would.
The sums themselves stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg import blas

from assocmem.rules.arrays import Solution
from assocmem.rules.blas import Matrix64, column_norms, row_squares, symmetric_norm, symmetric_product
from assocmem.rules.solve import EPS, solve

# Features nearer than this to the span of others, as a share of their length, have their recall determined by them.
DEPENDENT = 1e-6

ROUNDING = 1e-13  # of the trace of G


@dataclass(frozen=True)
class RidgeProblem:
    """(G + αI) U = Q for G (D, D), lower triangle, and Q (D, n), and the rounding in both as `solve` takes it."""

    gram: Matrix64
    cross: Matrix64
    alpha: float
    noise: float
    noise_cross: NDArray[np.float64] | float

    def solve(self) -> tuple[Matrix64, Solution]:
        """Weights (D, n), and how they were found."""
        return solve(self.gram, self.cross, self.alpha, self.noise, self.noise_cross)

    def without_pairs(self, n_columns: int) -> RidgeProblem:
        """The problem with Q = 0 (D, n)."""
        return replace(self, cross=np.zeros((len(self.gram), n_columns)), noise_cross=0.0)


@dataclass(frozen=True)
class Rows:
    """Features (r, D), the values (r, v) to recall for them, and slack (r,), 0 for exact rows."""

    features: Matrix64
    values: Matrix64
    slack: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.features)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Rows:
        """Some of the rows."""
        return Rows(self.features[chosen], self.values[chosen], self.slack[chosen])

    def units(self) -> Rows:
        """The same rows, divided so that features have length 1: long and short keys are fixed alike."""
        lengths = np.sqrt(row_squares(self.features))
        return Rows(self.features / lengths[:, None], self.values / lengths[:, None], self.slack / lengths / lengths)


@dataclass(frozen=True)
class Constraint:
    """An orthonormal basis (r, D) of fixed features, and the smallest weights (D, v) with their values."""

    basis: Matrix64
    offset: Matrix64

    @classmethod
    def of(cls, features: Matrix64, values: Matrix64) -> Constraint:
        """Of rows of which some may depend on the others."""
        kept = independent(features, features[:0])
        lengths = np.sqrt(row_squares(features[kept]))[:, None]
        basis, triangle = np.linalg.qr((features[kept] / lengths).T)
        coordinates = scipy.linalg.solve_triangular(triangle.T, values[kept] / lengths, lower=True)
        return cls(np.ascontiguousarray(basis.T), basis @ coordinates)


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


def same_direction(features: Matrix64, others: Matrix64) -> NDArray[np.bool_]:
    """Whether features (B, D) are positive multiples of others (n, D), to rounding -> (B, n)."""
    ours, theirs = (table / np.sqrt(row_squares(table))[:, None] for table in (features, others))
    return np.asarray(ours @ theirs.T >= 1 - DEPENDENT**2 / 2)


def refuse_contradictions(fixed: Rows, new: Rows, tolerance: NDArray[np.float64] | float = 0.0) -> None:
    """Refuse rows to fix whose recalls fixed rows, or each other, determine to be others.

    A dependent row may differ from what the others determine by rounding, and by a `tolerance`, for all or each (B,).
    """
    if len(new) == 0:
        return
    features, values = np.vstack([fixed.features, new.features]), np.vstack([fixed.values, new.values])
    first = independent(fixed.features, fixed.features[:0])
    kept = np.concatenate([first, len(fixed) + independent(new.features, fixed.features[first])])
    errors = np.abs(new.features @ Constraint.of(features[kept], values[kept]).offset - new.values).max(axis=1)
    rounding = ROUNDING * float(np.abs(values).max()) * len(kept)
    allowed = DEPENDENT * np.abs(new.values).max(axis=1) + rounding + tolerance
    if (errors > allowed).any():
        raise ValueError(
            f"of {len(fixed)} keys with a fixed recall and {len(new)} to fix, only {len(kept)} have independent "
            f"features (at most {features.shape[1]} can), which determine the recalls of the others "
            f"{float(errors.max()):.2g} away from the values given; leave out keys that depend on others, or are both "
            f"edited and preserved, or release() some"
        )


def ridge_under(rows: Rows, problem: RidgeProblem) -> tuple[Matrix64, Solution]:
    """Weights (D, v) of least ridge objective under rows, and how they were found."""
    if len(rows) == 0:
        return problem.solve()
    exact, soft = _sorted_units(rows)
    basis, n_exact = _basis(exact, soft)
    free, size = free_gram(problem.gram, basis), symmetric_norm(problem.gram)
    noise = float(np.hypot(problem.noise, 4 * EPS * size / np.sqrt(len(free))))  # also of the projections

    def completed(held: Matrix64, whole: RidgeProblem) -> tuple[Matrix64, Solution]:
        """Held parts (D, n) with what the problem adds in the free directions."""
        right = whole.cross - symmetric_product(whole.gram, held)
        right -= basis.T @ (basis @ right)
        noise_cross = whole.noise_cross + (noise + EPS * size) * column_norms(held)
        added, found = replace(
            whole, gram=free, cross=np.ascontiguousarray(right), noise=noise, noise_cross=noise_cross
        ).solve()
        return held + added - basis.T @ (basis @ added), found

    # Exact rows span the first directions of the basis, in which their coordinates are triangular.
    fixed = basis[:n_exact]
    coordinates = scipy.linalg.lstsq(exact.features @ fixed.T, exact.values)[0] if n_exact else exact.values[:0]
    weights, found = completed(fixed.T @ coordinates, problem)
    if n_exact == len(basis):
        return np.ascontiguousarray(weights), found
    movable, _ = completed(basis[n_exact:].T, problem.without_pairs(len(basis) - n_exact))
    image = symmetric_product(problem.gram, movable) + problem.alpha * movable
    steps = (soft.features @ basis[n_exact:].T) / soft.slack[:, None]
    left = soft.values - soft.features @ (fixed.T @ coordinates)
    system = movable.T @ image + steps.T @ (soft.features @ basis[n_exact:].T)
    right = movable.T @ problem.cross - image.T @ weights + steps.T @ left
    scale = 1 / np.sqrt(system.diagonal())
    moved = scipy.linalg.solve(scale[:, None] * system * scale, scale[:, None] * right, assume_a="sym")
    return np.ascontiguousarray(weights + movable @ (scale[:, None] * moved)), found


def _sorted_units(rows: Rows) -> tuple[Rows, Rows]:
    """Exact rows and those with slack, the least of it first, of length 1."""
    units = rows.units()
    order = np.argsort(units.slack, kind="stable")
    n_exact = int((units.slack == 0.0).sum())
    return units.where(order[:n_exact]), units.where(order[n_exact:])


def _basis(exact: Rows, soft: Rows) -> tuple[Matrix64, int]:
    """Orthonormal basis of all rows, and how many of its first directions the exact rows span."""
    first = exact.features[independent(exact.features, exact.features[:0])]
    second = soft.features[independent(soft.features, first)]
    return orthonormal(np.vstack([first, second])), len(first)
