"""Smallest changes of weights in a metric C: of least tr XᵀCX among those that give keys new values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from assocmem.rules.blas import Matrix64, cholesky, row_squares
from assocmem.rules.constraints import independent

# A metric whose scaled eigenvalues come below the first is singular to rounding, and gets the smallest of the others
# with which it can be factorised: directions in which it measures nothing then cost next to nothing, and of all
# changes that cost equally little the shortest is taken.
SINGULAR = 1e-13
SHIFTS = (1e-12, 1e-11, 1e-10)

WELL_CONDITIONED = 1e6  # the largest ratio in a system for which its products need no QR in their place

NOT_SEMIDEFINITE = (
    "the covariance is not positive semidefinite, as a second moment of inputs is; compute it as x.T @ x / len(x) of a "
    "sample x, in float64"
)


@dataclass(frozen=True)
class Metric:
    """C = S L Lᵀ S, with the square roots of its diagonal in S, for inputs in a given order.

    Scaled to unit diagonal first, so that quiet inputs count next to loud ones (van der Sluis 1969). An input that the
    sample never excites has no unit of its own, and costs as little as SHIFTS[0] of the cheapest. Inputs that keys
    excite most, next to their scale, come last: so what a key has in the others is not lost next to it.
    """

    factor: Matrix64
    scale: NDArray[np.float64]
    order: NDArray[np.intp]

    @classmethod
    def of(cls, matrix: Matrix64, rows: Matrix64) -> Metric:
        """Of a symmetric matrix (D, D), for keys (n, D); ValueError if it is not positive semidefinite."""
        diagonal = matrix.diagonal()
        live = diagonal > 0
        if not live.any() or (diagonal < 0).any() or matrix[~live].any() or matrix[:, ~live].any():
            raise ValueError(NOT_SEMIDEFINITE)
        scale = np.sqrt(np.where(live, diagonal, diagonal[live].min()))
        order = np.argsort(np.abs(rows / scale).max(axis=0, initial=0.0), kind="stable")
        whole = np.tril(matrix) + np.tril(matrix, -1).T
        scaled = (whole / scale[:, None] / scale)[np.ix_(order, order)]
        alive, place = live[order], np.arange(len(order))
        scaled[place, place] = np.where(alive, scaled[place, place], SHIFTS[0])
        for shift in (0.0, *SHIFTS):
            factor = scaled.copy()
            factor[place, place] += np.where(alive, shift, 0.0)
            if cholesky(factor) and (shift or (factor.diagonal()[alive] ** 2).min() > SINGULAR):
                return cls(factor, scale[order], order)
        raise ValueError(NOT_SEMIDEFINITE)

    def whitened(self, rows: Matrix64) -> Matrix64:
        """L⁻¹S⁻¹ on rows (n, D): inner products are then those of C⁻¹."""
        scaled = rows[:, self.order] / self.scale
        return np.ascontiguousarray(scipy.linalg.solve_triangular(self.factor, scaled.T, lower=True).T)

    def unwhitened(self, columns: Matrix64) -> Matrix64:
        """S⁻¹L⁻ᵀ on columns (D, n)."""
        solved = np.empty_like(columns)
        solved[self.order] = (
            scipy.linalg.solve_triangular(self.factor, columns, lower=True, trans=1) / self.scale[:, None]
        )
        return solved

    def directions(self, rows: Matrix64) -> tuple[Matrix64, NDArray[np.float64]]:
        """C⁻¹ψ over ψᵀC⁻¹ψ for rows ψ (n, D), along which their recalls change at least cost, and ψᵀC⁻¹ψ (n,)."""
        white = self.whitened(rows)
        sizes = np.einsum("ij,ij->i", white, white)
        return np.ascontiguousarray(self.unwhitened((white / sizes[:, None]).T).T), sizes


def smallest_change(matrix: Matrix64, held: Matrix64, edited: Matrix64, errors: Matrix64, penalty: float) -> Matrix64:
    """Change X (D, v) of least tr XᵀCX + ‖errors − edited X‖²/λ, at λ = 0 with edited X = errors, where held X = 0.

    Without held rows it is C⁻¹Eᵀ (E C⁻¹ Eᵀ + λI)⁻¹ errors.

    Raises
    ------
    ValueError
        If C is not positive semidefinite, or at λ = 0 an edited row depends on the others and the held ones.
    """
    metric = Metric.of(matrix, np.vstack([held, edited]))
    held = held[independent(_comparable(held, edited)[0], held[:0])]
    if penalty == 0:
        _refuse_dependent(held, edited, len(matrix))
    elif not len(held):
        white = metric.whitened(edited)
        if row_squares(white).max(initial=0.0) < WELL_CONDITIONED * penalty:
            system = white @ white.T
            system.reshape(-1)[:: len(system) + 1] += penalty
            return metric.unwhitened(white.T @ scipy.linalg.solve(system, errors, assume_a="pos"))
    wanted = np.vstack([np.zeros((len(held), errors.shape[1])), errors])
    slack = np.append(np.zeros(len(held)), np.full(len(edited), penalty))
    return _smallest(metric, np.vstack([held, edited]), wanted, slack)


def _smallest(metric: Metric, rows: Matrix64, wanted: Matrix64, slack: NDArray[np.float64]) -> Matrix64:
    """Change X (D, v) of least tr XᵀCX + ‖Y‖² with rows X + √slack Y = wanted, for independent rows (n, D)."""
    white = np.hstack([metric.whitened(rows), np.diag(np.sqrt(slack))])
    lengths = np.linalg.norm(white, axis=1)[:, None]
    white /= lengths
    # The largest coordinates first, and pivots: so QR is accurate in the small ones too (Cox and Higham 1998).
    place = np.argsort(-np.abs(white).max(axis=0, initial=0.0), kind="stable")
    basis, triangle, order = scipy.linalg.qr(white.T[place], mode="economic", pivoting=True)

    def change(errors: Matrix64) -> tuple[Matrix64, Matrix64]:
        sorted_coordinates = basis @ scipy.linalg.solve_triangular(triangle, (errors / lengths)[order], trans=1)
        coordinates = np.empty_like(sorted_coordinates)
        coordinates[place] = sorted_coordinates
        n_inputs = rows.shape[1]
        return metric.unwhitened(coordinates[:n_inputs]), coordinates[n_inputs:]

    found, yielded = change(wanted)
    return found + change(wanted - rows @ found - np.sqrt(slack)[:, None] * yielded)[0]


def _comparable(*tables: Matrix64) -> list[Matrix64]:
    """Tables of keys (n, D) with every input divided by its largest size among them all."""
    sizes = np.abs(np.vstack(tables)).max(axis=0, initial=0.0)
    return [table / np.where(sizes > 0, sizes, 1.0) for table in tables]


def _refuse_dependent(held: Matrix64, edited: Matrix64, rank: int) -> None:
    """Refuse an edited key that depends on the others and the held ones, whatever the units of the inputs."""
    scaled_held, scaled = _comparable(held, edited)
    if len(kept := independent(scaled, scaled_held)) < len(edited):
        row = int(np.setdiff1d(np.arange(len(edited)), kept)[0])
        raise ValueError(
            f"key {row} depends linearly on the other keys to edit and the {len(held)} independent ones to preserve, "
            f"of at most {rank}; leave out the key, or preserve fewer"
        )
