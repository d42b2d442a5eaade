"""The sums over pairs that least squares needs: G = Σ ψψᵀ, Q = Σ ψvᵀ and Σ v², and what rounding has made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assocmem.rules.arrays import ROWS_ROUNDED_ONCE, Arrays, Layout, Shape, Solution
from assocmem.rules.blas import (
    Matrix,
    Matrix64,
    add_gram,
    add_gram_single,
    add_product,
    norm,
    row_squares,
    single_noise,
    symmetric_norm,
)
from assocmem.rules.bounds import condition_number, copies_left, error_bound
from assocmem.rules.constraints import RidgeProblem
from assocmem.rules.edits import Edits
from assocmem.rules.solve import mean_eigenvalue

EPS = float(np.finfo(np.float64).eps)
EPS_SINGLE = float(np.finfo(np.float32).eps)

# What files of format 3 do not have.
_NEW = ("n_nonzero", "lost_cross", "lost", "times")
_UNKNOWN = 2.0**53


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
    n_nonzero : (v,)
        Pairs whose value is not 0, for every output.
    key_sum : (d,)
        Sum of the linear part of the features: of the keys, times √d or √(k/2). NaN if pairs come from a file of a
        format before 5, which did not hold it.
    lost_cross : (v,)
        Norm of what Q has lost to rounding while its columns were larger than they are now, and in single precision.
    edits : Edits
        Recalls that are fixed, whatever is stored.
    lost : float
        The same of G, in the spectral norm.
    times : float
        How often the sums have been rounded since.
    n_noisy : int
        Pairs stored with noise, of which G holds the variances too.
    n_shifted : int
        Edits in another metric in files of format 3, which left Q outside of the range of G.
    """

    gram: Matrix64
    cross: Matrix64
    squared_values: NDArray[np.float64]
    n_nonzero: NDArray[np.float64]
    key_sum: NDArray[np.float64]
    lost_cross: NDArray[np.float64]
    edits: Edits
    lost: float = 0.0
    times: float = 0.0
    n_noisy: int = 0
    n_shifted: int = 0

    @classmethod
    def zeros(cls, shape: Shape) -> Sums:
        """The sums of no pairs."""
        d, v = shape.rank, shape.value_dim
        return cls(
            gram=np.zeros((d, d)),
            cross=np.zeros((d, v)),
            squared_values=np.zeros(v),
            n_nonzero=np.zeros(v),
            key_sum=np.zeros(shape.key_dim),
            lost_cross=np.zeros(v),
            edits=Edits.none(shape),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays by name, without a sum of keys that is not known."""
        found = super().arrays()
        if not self.knows_keys:
            del found["key_sum"]
        return found

    def layout(self, arrays: Mapping[str, NDArray[Any]]) -> Layout:
        """Those of format 3 are known by their `rounding`; the sum of the keys may be missing."""
        expected = super().layout(arrays)
        if "key_sum" not in arrays:
            del expected["key_sum"]
        if "rounding" not in arrays:
            return expected
        old = {name: ((), np.dtype(np.float64)) for name in ("rounding", "rounding_cross")}
        return {**{name: entry for name, entry in expected.items() if name not in _NEW}, **old}

    def fill(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take the arrays of a file, also of format 3."""
        super().fill(arrays)
        if "key_sum" not in arrays:
            self.key_sum[...] = np.nan if self.gram.any() else 0.0
        if "rounding" in arrays:
            self.lost, self.times = 4 * EPS * float(arrays["rounding"]), 1.0
            self.lost_cross[...] = EPS * float(arrays["rounding_cross"])
            self.n_nonzero[...] = np.where(self.squared_values > 0.0, _UNKNOWN, 0.0)

    @property
    def level(self) -> float:
        """Mean eigenvalue of G."""
        return mean_eigenvalue(self.gram)

    @property
    def knows_keys(self) -> bool:
        """Whether the sum of the keys is known."""
        return bool(np.isfinite(self.key_sum).all())

    # --------------------------------------------------------------------------------------------------- rounding

    @property
    def noise(self) -> float:
        """Spectral norm of what rounding has added to G, as of a matrix of independent errors."""
        return math.hypot(self.lost, self._rounded(symmetric_norm(self.gram)))

    @property
    def noise_cross(self) -> NDArray[np.float64]:
        """Norm of what rounding has added to every column of Q."""
        total: NDArray[np.float64] = np.hypot(self.lost_cross, EPS * math.sqrt(self.times) * self.largest_products)
        return total

    @property
    def largest_products(self) -> NDArray[np.float64]:
        """Norms (v,) that the columns of Q = Σ ψv can have at most; roots first, which cannot overflow."""
        roots: NDArray[np.float64] = np.sqrt(symmetric_norm(self.gram)) * np.sqrt(self.squared_values.clip(0.0))
        return roots

    def _rounded(self, size: float) -> float:
        """Spectral norm of the rounding of a matrix of this Frobenius norm."""
        return 2 * EPS * math.sqrt(self.times / len(self.gram)) * size

    def note_losses(self) -> None:
        """Keep the rounding so far, before sums become smaller."""
        self.lost, self.lost_cross, self.times = self.noise, self.noise_cross, 0.0

    # ------------------------------------------------------------------------------------------- changes in place

    def fade(self, factor: float) -> None:
        """Multiply all sums, as the past loses weight."""
        self.gram *= factor
        self.cross *= factor
        self.squared_values *= factor
        self.key_sum *= factor
        self.lost *= factor
        self.lost_cross *= factor
        self.times *= factor * factor  # what comes next is rounded anew

    def add(
        self,
        features: Matrix,
        values: Matrix,
        factor: float = 1.0,
        *,
        roots: Matrix | None = None,
        single: bool = False,
    ) -> None:
        """Add `factor` times a block of pairs.

        Features and values are already multiplied with `roots` (B,) of weights of the pairs, if these differ. With
        `single`, float32 features are multiplied in single precision.
        """
        exact_values = values.astype(np.float64, copy=False)
        squares = np.einsum("ij,ij->j", exact_values, exact_values)
        times = 1.0 + len(features) / ROWS_ROUNDED_ONCE
        self.times += times
        if factor < 0.0:
            self.note_losses()
        if single:
            size = add_gram_single(self.gram, features, factor)
            self.cross += np.float64(factor) * (features.T @ values)
            blur = EPS_SINGLE * math.sqrt(times)
            self.lost = math.hypot(self.lost, single_noise(features))
            self.lost_cross = np.hypot(self.lost_cross, blur * math.sqrt(size) * np.sqrt(squares))
        else:
            exact = features.astype(np.float64, copy=False)
            add_gram(self.gram, exact, factor)
            add_product(self.cross, exact, exact_values, factor)
        self.squared_values += factor * squares
        linear = features[:, : len(self.key_sum)]
        if roots is not None:
            self.key_sum += factor * (roots @ linear)
        elif len(linear) == 1:
            self.key_sum += factor * linear[0]
        else:
            self.key_sum += factor * linear.sum(axis=0, dtype=np.float64)
        self.n_nonzero += math.copysign(1.0, factor) * np.count_nonzero(exact_values, axis=0)

    def add_variances(self, variances: NDArray[np.float64]) -> None:
        """Add variances (D,) of features around stored means: Σ E ψψᵀ = Σ (Eψ)(Eψ)ᵀ + Σ Cov ψ (docs/theory.md)."""
        self.gram.reshape(-1)[:: len(self.gram) + 1] += variances

    def add_values(self, features: Matrix, values: Matrix) -> None:
        """Add values to pairs of which G is there already: Q ← Q + Σ ψvᵀ."""
        exact = values.astype(np.float64, copy=False)
        add_product(self.cross, features.astype(np.float64, copy=False), exact)
        self.squared_values += np.einsum("ij,ij->j", exact, exact)
        self.n_nonzero += np.count_nonzero(exact, axis=0)
        self.times += 1.0 + len(features) / ROWS_ROUNDED_ONCE

    def forget_values(self) -> None:
        """Set what depends on values to that of no pairs."""
        for array in (self.cross, self.squared_values, self.n_nonzero, self.lost_cross):
            array[...] = 0.0

    def correct(self, features: Matrix64, old: Matrix64, change: Matrix64) -> None:
        """Change the values of pairs that were subtracted, from `old` by `change`, so that more of them is gone."""
        add_product(self.cross, features, change, -1.0)
        new = old + change
        self.squared_values -= np.einsum("ij,ij->j", change, new + old)
        self.n_nonzero -= np.count_nonzero(new, axis=0) - np.count_nonzero(old, axis=0)

    def plus(self, other: Sums) -> Sums:
        """The sums over the pairs of both, under the constraints of both."""
        return Sums(
            gram=self.gram + other.gram,
            cross=self.cross + other.cross,
            squared_values=self.squared_values + other.squared_values,
            n_nonzero=self.n_nonzero + other.n_nonzero,
            key_sum=self.key_sum + other.key_sum,
            lost_cross=np.hypot(self.lost_cross, other.lost_cross),
            edits=self.edits.plus(other.edits),
            lost=math.hypot(self.lost, other.lost),
            times=self.times + other.times + 1.0,
            n_noisy=self.n_noisy + other.n_noisy,
            n_shifted=self.n_shifted + other.n_shifted,
        )

    # --------------------------------------------------------------------------------------------------- answers

    def solve(self, alpha: float) -> tuple[Matrix64, Solution]:
        """Ridge weights (D, v) under the constraints, and how they were found."""
        return self.edits.solve(RidgeProblem(self.gram, self.cross, alpha, self.noise, self.noise_cross))

    def condition(self, solution: Solution) -> float:
        """Estimate the condition number of G with penalty and shift."""
        return condition_number(self.edits.free(self.gram, self.cross)[0], (solution.alpha or 0.0) + solution.shift)

    def error_bound(self, weights: Matrix, alpha: float, n_stored: int) -> float | None:
        """Bound the relative error of weights, by that of a solution in double precision and the distance from it."""
        if self.edits.has_directions:
            return None
        solution, _ = self.solve(alpha)
        length = norm(solution)
        if length == 0.0:
            return 0.0 if not weights.any() else np.inf
        gram, cross, fixed = self.edits.free(self.gram, self.cross)
        n_pairs = min(len(gram) if self.n_noisy else n_stored + self.edits.n_soft, len(gram)) - self.edits.n_exact
        free = solution if fixed is None else solution - fixed.offset
        bound = error_bound(gram, cross, free, alpha, self.noise, self.noise_cross, n_pairs)
        return bound + norm(weights - solution) / length + EPS

    def copies(self, features: Matrix) -> tuple[NDArray[np.float64], Matrix64]:
        """Bound the copies of features (N, D) that G can hold, and return their parts (D, N) outside of its range."""
        return copies_left(self.gram, features.astype(np.float64, copy=False), self.noise)


def squared_size(features: Matrix) -> float:
    """Sum of all squares, in float64."""
    return float(row_squares(features).sum(dtype=np.float64))
