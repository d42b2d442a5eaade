"""The sums over pairs that least squares needs: G = Σ ψψᵀ, Q = Σ ψvᵀ and Σ v², with equality constraints."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assocmem.rules.arrays import NEVER_STORED, Arrays, Shape, Solution, roundings
from assocmem.rules.blas import (
    Matrix,
    Matrix64,
    add_gram,
    add_gram_single,
    add_product,
    norm,
    row_squares,
)
from assocmem.rules.edits import Edits
from assocmem.rules.solve import Regularised, condition_number, copies_left, error_bound, mean_eigenvalue, solve

# Tolerance of the removal check, as a share of the squared values.
REMOVAL_TOLERANCE = 1e-6
DIGITS_LOST = 1e-8  # share of the sum of squares below which rounding of 1e-16 of the rest has blurred it
VERIFYING_SHIFT = 1e-8  # the smallest with which Cholesky is reliable: what it adds could hide a false pair

EPS_RATIO = float(np.finfo(np.float32).eps / np.finfo(np.float64).eps)


@dataclass
class Sums(Arrays):
    """Sums over weighted pairs, always float64, and the recalls that are fixed by equality constraints.

    Parameters
    ----------
    gram : (D, D)
        Lower triangle of G = Σ ψψᵀ.
    cross : (D, v)
        Q = Σ ψvᵀ.
    squared_values : (v,)
        Σ v² for every output.
    rounding, rounding_cross : float
        Mean eigenvalue of G, and norm of Q, times how often they have been rounded, as independent errors add.
    n_noisy : int
        Pairs stored with noise, of which G holds the variances too.
    n_shifted : int
        Edits in another metric, which leave Q outside of the range of G.
    edits : Edits
        Recalls that are fixed, whatever is stored.
    """

    gram: Matrix64
    cross: Matrix64
    squared_values: NDArray[np.float64]
    edits: Edits
    rounding: float = 0.0
    rounding_cross: float = 0.0
    n_noisy: int = 0
    n_shifted: int = 0

    @classmethod
    def zeros(cls, shape: Shape) -> Sums:
        """The sums of no pairs."""
        d, v = shape.rank, shape.value_dim
        return cls(np.zeros((d, d)), np.zeros((d, v)), np.zeros(v), Edits.none(shape))

    @property
    def level(self) -> float:
        """Mean eigenvalue of G."""
        return mean_eigenvalue(self.gram)

    # ------------------------------------------------------------------------------------------- changes in place

    def fade(self, factor: float) -> None:
        """Multiply all sums, as the past loses weight."""
        self.gram *= factor
        self.cross *= factor
        self.squared_values *= factor
        self.rounding *= factor
        self.rounding_cross *= factor

    def add(self, features: Matrix, values: Matrix, factor: float = 1.0, *, single: bool = False) -> None:
        """Add `factor` times a block of pairs; with `single`, float32 features are multiplied in single precision."""
        exact_values = values.astype(np.float64, copy=False)
        squares = np.einsum("ij,ij->j", exact_values, exact_values)
        if single:
            product = features.T @ values
            blurred, blurred_cross = squared_size(features) / features.shape[1], norm(product)
            add_gram_single(self.gram, features, factor)
            self.cross += np.float64(factor) * product
            self.rounding = math.hypot(self.rounding, EPS_RATIO * blurred)
            self.rounding_cross = math.hypot(self.rounding_cross, EPS_RATIO * blurred_cross)
        else:
            exact = features.astype(np.float64, copy=False)
            add_gram(self.gram, exact, factor)
            add_product(self.cross, exact, exact_values, factor)
        self.squared_values += factor * squares
        self._note_rounding(len(features))

    def exchange(self, features: Matrix, old: Matrix, new: Matrix) -> None:
        """Replace values: Q ← Q + Fᵀ(new − old), while G stays as it is to the last bit."""
        exact, before, after = (np.asarray(array, np.float64) for array in (features, old, new))
        add_product(self.cross, exact, after - before)
        self.squared_values += np.einsum("ij,ij->j", after, after) - np.einsum("ij,ij->j", before, before)
        self._note_rounding(len(features))

    def add_variances(self, variances: NDArray[np.float64]) -> None:
        """Add variances (D,) of features around stored means: Σ E ψψᵀ = Σ (Eψ)(Eψ)ᵀ + Σ Cov ψ (docs/theory.md)."""
        self.gram.reshape(-1)[:: len(self.gram) + 1] += variances

    def _note_rounding(self, n_rows: int) -> None:
        """Add one rounding of the sums for every time that they were changed, as independent errors add."""
        times = roundings(n_rows)
        self.rounding = math.hypot(self.rounding, times * self.level)
        self.rounding_cross = math.hypot(self.rounding_cross, times * norm(self.cross))

    def plus(self, other: Sums) -> Sums:
        """The sums over the pairs of both, under the constraints of both."""
        total = Sums(
            gram=self.gram + other.gram,
            cross=self.cross + other.cross,
            squared_values=self.squared_values + other.squared_values,
            edits=self.edits.plus(other.edits),
            rounding=math.hypot(self.rounding, other.rounding),
            rounding_cross=math.hypot(self.rounding_cross, other.rounding_cross),
            n_noisy=self.n_noisy + other.n_noisy,
            n_shifted=self.n_shifted + other.n_shifted,
        )
        total._note_rounding(0)
        return total

    # --------------------------------------------------------------------------------------------------- answers

    def solve(self, alpha: float) -> tuple[Matrix64, Solution]:
        """Ridge weights (D, v) under the constraints, and how they were found."""
        gram, cross, fixed = self.edits.free(self.gram, self.cross)
        free, found = solve(gram, cross, alpha, self.rounding, self.rounding_cross)
        if fixed is None:
            return free, found
        free -= fixed.basis.T @ (fixed.basis @ free)
        return np.ascontiguousarray(fixed.offset + free), found

    def condition(self, solution: Solution) -> float:
        """Estimate the condition number of G with penalty and shift."""
        return condition_number(self.edits.free(self.gram, self.cross)[0], (solution.alpha or 0.0) + solution.shift)

    def error_bound(self, weights: Matrix, alpha: float) -> float:
        """Bound the relative error of weights that solve for the sums, with the rounding of their own type."""
        gram, cross, fixed = self.edits.free(self.gram, self.cross)
        exact = weights.astype(np.float64, copy=False)
        rounded = float(np.finfo(weights.dtype).eps) / 2 if exact.any() else 0.0
        free = exact if fixed is None else exact - fixed.offset
        return rounded + error_bound(gram, cross, free, alpha, self.rounding, self.rounding_cross)

    def copies(self, features: Matrix) -> tuple[NDArray[np.float64], Matrix64]:
        """Bound the copies of features (N, D) that G can hold, and return their parts (D, N) outside of its range."""
        return copies_left(self.gram, features.astype(np.float64, copy=False), self.rounding)

    def check_removed(self, after: Sums, n_left: int) -> None:
        """Refuse sums that no pairs can have: G must be positive semidefinite, also when bordered by Q and Σ‖v‖²."""
        level, left = self.level, after.level
        if n_left and -REMOVAL_TOLERANCE * level <= left < DIGITS_LOST * level:
            raise ValueError(
                f"the keys to forget are so much longer than the others that {left / level:.0e} of the sum of squares "
                f"would remain, less than the {DIGITS_LOST:g} that rounding leaves readable; store the other pairs in "
                f"a new memory; nothing was changed"
            )
        # Products in single precision have blurred the sums by more than what rounding in double precision does.
        blur = 10 * float(np.finfo(np.float64).eps) * after.rounding / level
        regularised = Regularised.of(after.gram, [max(VERIFYING_SHIFT, blur)], level)
        if regularised is None:
            raise ValueError(NEVER_STORED)
        if self.n_shifted:
            return
        explained = np.vdot(after.cross / level, regularised.solve(after.cross))
        allowed = after.squared_values.sum() + max(REMOVAL_TOLERANCE, blur) * self.squared_values.sum()
        if explained > allowed:
            raise ValueError(NEVER_STORED)


def squared_size(features: Matrix) -> float:
    """Sum of all squares, in float64."""
    return float(row_squares(features).sum(dtype=np.float64))
