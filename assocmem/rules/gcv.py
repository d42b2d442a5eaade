"""Generalised cross-validation: the penalty of least predicted error, from the sums alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from assocmem.rules.banded import to_band
from assocmem.rules.blas import Matrix64, scaled_lower
from assocmem.rules.solve import NOT_SEMIDEFINITE, mean_eigenvalue

if TYPE_CHECKING:
    from assocmem.rules.sums import Sums

Vector: TypeAlias = NDArray[np.float64]

EXPONENTS = np.arange(-12.0, 3.01, 0.5)  # penalties considered, as powers of ten of the largest eigenvalue
HALVINGS = 9  # of their distance, around the best of them

EPS = float(np.finfo(np.float64).eps)
NOISE_MARGIN = 2.0  # an eigenvalue is known if it is so many times the rounding in the sums

SMALLEST_BANDED = 2048  # rank from which a band matrix is faster than eigenvectors
# Penalty, as a share of the largest eigenvalue, below which rounding in directions that hold nothing blurs what the
# band matrix says: there eigenvectors decide.
SMALLEST_BANDED_PENALTY = 1e-6

SMALLEST_WEIGHT = 1e-25  # of a pair next to the latest: what is below holds nothing that the sums know
CLASS_WIDTH = 0.02  # weights within it, relatively, count as one: errs by its square over 24


# ------------------------------------------------------------------------------------------------------ the pairs


@dataclass(frozen=True)
class Ages:
    """Weights of the pairs relative to the latest, and how many pairs have each; ages that hold nothing left out."""

    weights: Vector
    counts: Vector

    @classmethod
    def of(cls, n_stored: int, decay: float) -> Ages:
        """Weights decay^age of N pairs, those of nearly the same weight in one class."""
        if decay == 1.0:
            return cls(np.ones(1), np.full(1, float(n_stored)))
        rate = -math.log(decay)
        n_held = min(n_stored, 1 + int(-math.log(SMALLEST_WEIGHT) / rate))
        width = max(1, int(CLASS_WIDTH / rate))
        first = np.arange(0, n_held, width)
        counts = np.diff(np.append(first, n_held))
        return cls(np.exp(-rate * (first + 0.5 * (counts - 1))), counts.astype(np.float64))

    @property
    def n(self) -> float:
        """Number of pairs that hold something."""
        return float(self.counts.sum())

    def freedom(self, spare: Vector) -> Vector:
        """Σ w (1 − h)² for the leverages h of like keys whose 1 − h have the sum `spare`, (c,) -> (c,).

        h = w l / (1 + w l), with one l for all keys: what a key adds to the sums of all others (docs/theory.md, drift).
        """
        if len(self.weights) == 1:
            return np.asarray(self.weights[0] * spare**2 / self.counts[0])
        low, high = np.full(len(spare), -60.0), np.full(len(spare), 120.0)  # of log l
        for _ in range(60):
            middle = 0.5 * (low + high)
            too_small = (1 / (1 + np.exp(middle)[:, None] * self.weights)) @ self.counts > spare
            low, high = np.where(too_small, middle, low), np.where(too_small, high, middle)
        return np.asarray((1 / (1 + np.exp(low)[:, None] * self.weights)) ** 2 @ (self.counts * self.weights))


# ------------------------------------------------------------------------------------------- sums, once decomposed


@dataclass(frozen=True)
class Eigen:
    """G / level in its eigenvectors: the eigenvalues (r,) above rounding, their vectors (D, r) and their parts of Q."""

    level: float
    held: Vector
    vectors: Matrix64
    coordinates: Matrix64

    @classmethod
    def of(cls, gram: Matrix64, cross: Matrix64, n_pairs: float, noise: float) -> Eigen:
        """Decompose G (lower triangle) over its mean eigenvalue, and Q over the root of it."""
        level = mean_eigenvalue(gram) or 1.0
        scaled = scaled_lower(gram, 1 / level)
        spectrum, vectors = scipy.linalg.eigh(scaled, lower=True, driver="evd", overwrite_a=True, check_finite=False)
        n_held = len(known(spectrum, n_pairs, noise / level))
        vectors = vectors[:, len(spectrum) - n_held :]
        return cls(level, spectrum[len(spectrum) - n_held :], vectors, vectors.T @ (cross / math.sqrt(level)))

    def explained(self) -> Vector:
        """Σ (Eᵀq)² / s for every column q of Q, (v,): what least squares explains of Σv²."""
        return np.asarray((self.coordinates**2 / self.held[:, None]).sum(axis=0))

    def lost(self, penalties: Vector) -> Vector:
        """Σ (Eᵀq)²/s (α/(s + α))² (v,), for one α or one for each column: what the penalty leaves unexplained."""
        shares = 1 / (1 + self.held[:, None] / penalties)
        return np.asarray((self.coordinates**2 / self.held[:, None] * shares**2).sum(axis=0))

    def solve(self, penalties: Vector) -> Matrix64:
        """(G + αI)⁻¹ Q, (D, v), for one α a column, without the directions that G does not hold."""
        shares = self.coordinates / (self.held[:, None] + penalties / self.level)
        return np.ascontiguousarray(self.vectors @ shares / math.sqrt(self.level))

    def condition(self, penalty: float) -> float:
        """Condition number of G + αI in the 2-norm."""
        if not len(self.held):
            return 1.0
        share = penalty / self.level
        smallest = float(self.held[0]) if len(self.held) == len(self.vectors) else 0.0
        return (float(self.held[-1]) + share) / (smallest + share)


@dataclass(frozen=True)
class Banded:
    """G / level as a band matrix B = ZᵀGZ, with the eigenvalues (r,) above rounding, and Zᵀ Q / level.

    Where the eigenvectors would be needed, as for G⁺, (B + floor)⁻¹ serves, with a floor below all that is held.
    """

    level: float
    held: Vector
    band: Matrix64
    columns: Matrix64
    floored: Matrix64

    @classmethod
    def of(cls, gram: Matrix64, cross: Matrix64, n_pairs: float, noise: float) -> Banded:
        """Decompose G (lower triangle) over its mean eigenvalue, and Q over the root of it."""
        level = mean_eigenvalue(gram) or 1.0
        columns = cross / math.sqrt(level)
        band = to_band(scaled_lower(gram, 1 / level), columns)
        spectrum = scipy.linalg.eigvals_banded(band, lower=True, check_finite=False)
        floored = _factor(band, smallest_known(spectrum, noise / level))
        return cls(level, known(spectrum, n_pairs, noise / level), band, columns, floored)

    def explained(self) -> Vector:
        """As that of `Eigen`."""
        return np.asarray((self.columns * _solve(self.floored, self.columns)).sum(axis=0))

    def lost(self, penalties: Vector) -> Vector:
        """As that of `Eigen`, for one α: α² Uᵀ G⁺ U with U = (G + αI)⁻¹ Q, of which no digits cancel."""
        weights = _solve(_factor(self.band, float(penalties[0])), self.columns)
        return np.asarray(penalties[0] ** 2 * (weights * _solve(self.floored, weights)).sum(axis=0))


def _factor(band: Matrix64, shift: float) -> Matrix64:
    """Cholesky factor of a band matrix with a shift."""
    shifted = band.copy()
    shifted[0] += shift
    try:
        return np.asarray(scipy.linalg.cholesky_banded(shifted, overwrite_ab=True, lower=True, check_finite=False))
    except np.linalg.LinAlgError:
        raise ValueError(NOT_SEMIDEFINITE) from None


def _solve(factor: Matrix64, columns: Matrix64) -> Matrix64:
    return np.asarray(scipy.linalg.cho_solve_banded((factor, True), columns, check_finite=False))


def smallest_known(spectrum: Vector, noise: float) -> float:
    """The size of the eigenvalues that may be rounding."""
    return max(len(spectrum) * EPS * float(spectrum[-1]), NOISE_MARGIN * noise)


def known(spectrum: Vector, n_pairs: float, noise: float) -> Vector:
    """The largest eigenvalues: at most one a pair, and none that may be rounding."""
    most = min(int(n_pairs), len(spectrum))
    largest = spectrum[len(spectrum) - most :]
    return largest[largest > smallest_known(spectrum, noise)]


# ------------------------------------------------------------------------------------------------------- the search


def gcv_penalty(sums: Sums, n_stored: int, decay: float) -> float:
    """Penalty of least generalised cross-validation score over all outputs together; see `penalties_of`.

    From a rank of 2048 on by a band matrix, in about a third of the time of one eigendecomposition. Where that finds
    next to no penalty, as for values without noise, and below that rank, by the eigendecomposition.
    """
    ages, noise = Ages.of(n_stored, decay), sums.noise
    cross, squares, _ = _of_one_size(sums)
    if len(sums.gram) >= SMALLEST_BANDED:
        banded = Banded.of(sums.gram, cross, ages.n, noise)
        (penalty,) = penalties_of(banded, ages, squares, noise, joint=True)
        if len(banded.held) and penalty > SMALLEST_BANDED_PENALTY * banded.level * banded.held[-1]:
            return float(penalty)
        del banded
    return float(penalties_of(Eigen.of(sums.gram, cross, ages.n, noise), ages, squares, noise, joint=True)[0])


def gcv_weights(sums: Sums, n_stored: int, decay: float) -> tuple[Matrix64, Vector, float]:
    """Weights (D, v) with a penalty of least score for every output, the penalties (v,), and a condition number.

    One eigendecomposition for all outputs; with edits one solve for every output besides.
    """
    ages, noise = Ages.of(n_stored, decay), sums.noise
    cross, squares, unit = _of_one_size(sums)
    found = Eigen.of(sums.gram, cross, ages.n, noise)
    penalties = penalties_of(found, ages, squares, noise, joint=False)
    if len(sums.edits):
        columns = [sums.solve(float(alpha))[0][:, j] for j, alpha in enumerate(penalties)]
        weights = np.ascontiguousarray(np.stack(columns, axis=1))
    else:
        weights = found.solve(penalties) * unit
    return weights, penalties, found.condition(float(penalties.min()))


def penalties_of(found: Banded | Eigen, ages: Ages, squares: Vector, noise: float, *, joint: bool) -> Vector:
    """Penalties of least score, one for every output or one for all, from the decomposed sums and Σv² (v,).

    The score is the squared error of a pair left out, Σ w e² / Σ w (1 − h)², as every e is 1 − h times the error
    without the pair, and the leverages h are those of like keys with these weights: for equal weights Golub, Heath and
    Wahba's RSS / (1 − df/N)² / N. RSS is what no penalty explains either, plus Σ (Eᵀq)²/s (α/(s + α))², and N − df is
    N − rank + Σ α/(s + α): sums of positive terms.

    References
    ----------
    Golub, Heath and Wahba (1979), Technometrics 21, equation 1.6.
    """
    held, n_outputs = found.held, 1 if joint else len(squares)
    if not len(held):
        return np.zeros(n_outputs)
    # N pairs of independent features are all explained: the difference would be rounding.
    unexplained = squares - found.explained() if ages.n > len(held) else np.zeros(len(squares))
    unexplained = unexplained.clip(0.0)

    def scores(exponents: Vector) -> Vector:
        penalties = 10.0**exponents * held[-1]
        spare = ages.n - len(held) + (1 / (1 + held[:, None] / penalties)).sum(axis=0)
        residual = unexplained + found.lost(penalties)
        return np.asarray((residual.sum(keepdims=True) if joint else residual) / ages.freedom(spare))

    # A penalty below the rounding of the sums would tell directions apart that they do not.
    least = max(EXPONENTS[0], math.log10(noise / found.level / held[-1])) if noise > 0 else EXPONENTS[0]
    best = _least(scores, n_outputs, np.unique(EXPONENTS.clip(least)))
    return np.asarray(10.0**best * held[-1] * found.level)


def _least(score: Callable[[Vector], Vector], n: int, grid: Vector) -> Vector:
    """Exponents (n,) of least score: the best of a grid, refined by halving steps around it."""
    table = np.array([score(np.full(n, exponent)) for exponent in grid])
    best, least = grid[table.argmin(axis=0)], table.min(axis=0)
    step = EXPONENTS[1] - EXPONENTS[0]
    for _ in range(HALVINGS):
        step /= 2
        for other in (best - step, best + step):
            inside = other.clip(grid[0], grid[-1])
            found = score(inside)
            best, least = np.where(found < least, inside, best), np.minimum(found, least)
    return np.asarray(best)


def _of_one_size(sums: Sums) -> tuple[Matrix64, Vector, float]:
    """Q and Σv² in a unit of values in which no square leaves the number range, and the unit."""
    unit = float(np.sqrt(sums.squared_values.max(initial=0.0))) or 1.0
    return sums.cross / unit, (sums.squared_values / unit / unit).clip(0.0), unit
