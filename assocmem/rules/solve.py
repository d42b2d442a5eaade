"""Solving (G + αI) U = Q from the sums of the ridge rule, and choosing α from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from assocmem.rules.arrays import Solution
from assocmem.rules.blas import (
    Matrix64,
    cholesky,
    cholesky_solve,
    reciprocal_condition,
    row_squares,
    scaled_lower,
    symmetric_product,
)

# Shifts of the Gram matrix, as shares of its mean eigenvalue, from which the solution for a smaller penalty is reached
# by iteration: each pass shrinks the error in a direction with eigenvalue s by shift / (s + shift), and leaves rounding
# of about 1e-16 / shift in directions that hold nothing. The first is the more accurate and is enough up to a load of
# about 0.97; the second is tried where the first does not converge; the others only where Cholesky fails.
SHIFTS = (1e-6, 1e-8, 1e-7, 1e-5, 1e-4, 1e-3)
MAX_PASSES = 12
CONVERGED = 1e-13  # residual, as a share of what rounding could still reach

# Penalties that generalised cross-validation considers, as powers of ten of the largest eigenvalue.
GCV_EXPONENTS = np.arange(-12.0, 3.01, 0.25)

SMALLEST_LEVEL = 1e-300  # its inverse is a number

LARGEST_RATIO = 1e150  # of a penalty to the mean eigenvalue: its square is a number

# Noise in the sums, next to their mean eigenvalue, from which single precision has left it: nothing smaller is known.
BLURRED = 1e-9

CLEARING_PASSES = 3  # by which a shift of 1e-8 shrinks what is held by 1e-9 or more

NOT_SEMIDEFINITE = (
    "the Gram matrix is not positive semidefinite, so it is no sum over stored pairs; start a new memory, or load the "
    "last one that was saved"
)


def mean_eigenvalue(gram: Matrix64) -> float:
    """Mean of the diagonal; divided before it is summed, which cannot overflow."""
    return float((gram.diagonal() / len(gram)).sum())


@dataclass(frozen=True)
class Regularised:
    """Cholesky factor of G / level + shift · I; the level is the mean eigenvalue of G, unless another is given.

    Scaled to eigenvalues of mean 1, so that nothing leaves the number range, whatever the units of the keys.
    """

    factor: Matrix64
    level: float
    shift: float

    @classmethod
    def of(cls, gram: Matrix64, shifts: Sequence[float], level: float | None = None) -> Regularised | None:
        """Factorise with the first of the shifts for which that succeeds; None if it does with none."""
        level = mean_eigenvalue(gram) if level is None else level
        for shift in shifts:
            factor = scaled_lower(gram, 1 / level) if level > SMALLEST_LEVEL else gram / level
            factor.reshape(-1)[:: len(gram) + 1] += shift
            if cholesky(factor):
                return cls(factor, level, shift)
        return None

    @classmethod
    def require(cls, gram: Matrix64, shifts: Sequence[float], level: float | None = None) -> Regularised:
        """`of`, or ValueError if the matrix is not positive semidefinite even to rounding."""
        found = cls.of(gram, shifts, level)
        if found is None:
            raise ValueError(NOT_SEMIDEFINITE)
        return found

    def solve(self, columns: Matrix64) -> Matrix64:
        """Solve (G / level + shift · I) X = columns (D, n) -> (D, n), column-major."""
        return cholesky_solve(self.factor, columns)

    def outside(self, columns: Matrix64) -> Matrix64:
        """Parts of columns (D, n) in directions that G does not hold."""
        for _ in range(CLEARING_PASSES):
            columns = self.shift * self.solve(columns)
        return columns


def solve(
    gram: Matrix64, cross: Matrix64, alpha: float, rounding: float = 0.0, rounding_cross: float = 0.0
) -> tuple[Matrix64, Solution]:
    """Solve (gram + alpha I) U = cross by Cholesky; for alpha near or at 0 by iterated Tikhonov.

    Parameters
    ----------
    gram : (D, D) float64
        Lower triangle of a positive semidefinite matrix.
    cross : (D, v) float64
        In the range of `gram`.
    alpha : float
        At 0 the solution of minimum norm.
    rounding : float
        Mean eigenvalue of `gram` times how often it has been rounded, as independent errors add.
    rounding_cross : float
        Norm of `cross` times how often it has been rounded.

    Returns
    -------
    (D, v) float64, C-contiguous, and how it was found, its condition left open

    Raises
    ------
    ValueError
        If the matrix is not positive semidefinite even to rounding.
    """
    level = mean_eigenvalue(gram)
    size = float(np.abs(cross).max(initial=0.0))
    if level == 0.0 or size == 0.0:
        return np.zeros_like(cross), Solution("none", alpha)
    if alpha / LARGEST_RATIO > level:  # next to such a penalty nothing is stored
        return np.ascontiguousarray(cross / alpha), Solution("Cholesky", alpha)
    # Both of size 1, whatever the units of keys and values: no square below leaves the number range.
    penalty, target, unit = alpha / level, cross / size, size / level
    noise = np.finfo(np.float64).eps * max(rounding / level, 1.0)
    if penalty >= SHIFTS[0] and (regularised := Regularised.of(gram, [penalty])) is not None:
        solution = regularised.solve(target)
        if noise < BLURRED:
            solution = _without_null_space(regularised, noise, solution, keep_more=True)
        return np.ascontiguousarray(solution * unit), Solution("Cholesky", alpha)
    lost = float(np.finfo(np.float64).eps) * (rounding_cross / size) / float(np.linalg.norm(target))
    tolerance = max(CONVERGED, noise, lost)
    best = None
    for shift in SHIFTS:
        if best is not None and shift > SHIFTS[1]:
            break
        if (regularised := Regularised.of(gram, [penalty + shift])) is not None:
            best, passes, converged = _iterate(regularised, gram / level, penalty, target, tolerance)
            found = Solution("iterated Tikhonov", alpha, shift * level, passes)
            if converged:
                best = _without_null_space(regularised, noise, best)
                break
    if best is None:
        raise ValueError(NOT_SEMIDEFINITE)
    return np.ascontiguousarray(best * unit), found


def _iterate(
    regularised: Regularised, gram: Matrix64, penalty: float, target: Matrix64, tolerance: float
) -> tuple[Matrix64, int, bool]:
    """Refine what a shifted factor gives towards (gram + penalty I) U = target; passes, and whether it got there."""
    solution = regularised.solve(target)
    last_size = np.inf
    for passes in range(MAX_PASSES):
        residual = target - symmetric_product(gram, solution) - penalty * solution
        # The residual tells convergence from rounding in directions that hold nothing, where further steps add noise.
        reachable = float(np.linalg.norm(target)) + float(np.linalg.norm(solution))
        if float(np.linalg.norm(residual)) <= tolerance * reachable:
            return solution, passes, True
        step = regularised.solve(residual)
        size = float(np.linalg.norm(step))
        if size > 0.5 * last_size:
            break
        solution += step
        last_size = size
    return solution, passes, False


def _without_null_space(
    regularised: Regularised, noise: float, solution: Matrix64, *, keep_more: bool = False
) -> Matrix64:
    """Remove what rounding left of a solution in the null space of G.

    There, shift (G + shift I)⁻¹ leaves a vector as it is, but for the noise in G, while it shrinks directions with
    eigenvalue s by shift / (s + shift): repeated, it leaves what is to be removed. Otherwise rounding in the sums
    would be divided by the shift, and cost other keys half of their digits.
    """
    shift = regularised.shift
    # One combination of the columns tells how many passes it takes, and whether there is anything to remove.
    left = solution @ np.cos(np.arange(solution.shape[1]))[:, None]
    size, last_change = float(np.linalg.norm(left)), np.inf
    passes, slow = 0, 10 * noise * np.sqrt(len(solution)) / shift  # the largest eigenvalue of noise, next to the shift
    while last_change > max(CONVERGED * size, slow * float(np.linalg.norm(left))):
        fewer = shift * regularised.solve(left)
        change = float(np.linalg.norm(left - fewer))
        if change > 0.5 * last_change:  # the shift is not small next to what is held: it amplifies little rounding
            return solution
        left, last_change, passes = fewer, change, passes + 1
    if float(np.linalg.norm(left)) <= last_change:  # still shrinking: no part of it stays
        return solution
    if keep_more and float(np.linalg.norm(left)) > 10 * slow * size:  # an edit put it there, not rounding
        return solution
    left = solution
    for _ in range(passes):
        left = shift * regularised.solve(left)
    return solution - left


def error_bound(
    gram: Matrix64, cross: Matrix64, weights: Matrix64, alpha: float, rounding: float, rounding_cross: float
) -> float:
    """Bound the relative distance, in the Frobenius norm, of weights from those of unrounded sums.

    To first order ΔU = (G + αI)⁻¹ (r + ΔQ − ΔG U), with the residual r = Q − (G + αI) U of the solution and the
    rounding ΔG and ΔQ of the sums, which have been rounded `rounding` / (mean eigenvalue) times, as independent
    errors add. In directions that hold something the inverse is bounded by the smallest eigenvalue; in the others the
    weights should be 0, so that what they are is the error.

    References
    ----------
    Higham (2002), "Accuracy and Stability of Numerical Algorithms", section 7.1, and section 4.2 for sums.
    """
    level = mean_eigenvalue(gram)
    size, scale = float(np.abs(cross).max(initial=0.0)), float(np.abs(weights).max(initial=0.0))
    if level == 0.0 or size == 0.0 or scale == 0.0:
        return 0.0
    eps, times = float(np.finfo(np.float64).eps), rounding / level
    scaled, penalty, solution, target = gram / level, alpha / level, weights / scale, cross / size
    spectrum = scipy.linalg.eigvalsh(scaled, lower=True, check_finite=False)
    gram_error = eps * times * float(np.linalg.norm(spectrum))
    held = spectrum[spectrum > 10 * gram_error]
    shift = _safe_shift(rounding, level)
    regularised = Regularised.of(gram, [shift])
    if not len(held) or regularised is None:
        return np.inf
    unit = (level / size) * scale
    residual = target - (symmetric_product(scaled, solution) + penalty * solution) * unit
    errors = float(np.linalg.norm(residual)) + eps * (rounding_cross / size)
    length = float(np.linalg.norm(solution))
    astray = float(np.linalg.norm(regularised.outside(solution))) / length if len(held) < len(gram) else 0.0
    return (errors / (unit * length) + gram_error) / float(held[0] + penalty) + astray


def _safe_shift(rounding: float, level: float) -> float:
    """Shift, as a share of the mean eigenvalue, with which Cholesky is reliable also on sums blurred by rounding."""
    return max(SHIFTS[1], 10 * float(np.finfo(np.float64).eps) * rounding / level)


def copies_left(gram: Matrix64, features: Matrix64, rounding: float) -> tuple[NDArray[np.float64], Matrix64]:
    """Bound how many copies of features (N, D) can be in G, and return the parts (D, N) of them that G does not hold.

    G − c ψψᵀ is positive semidefinite only for c ≤ 1 / ψᵀG⁺ψ, and for no c > 0 if ψ is not in the range of G.
    """
    squares = row_squares(features)
    columns = np.asfortranarray(features.T)
    level = mean_eigenvalue(gram)
    if level == 0.0:
        return np.zeros(len(features)), columns
    regularised = Regularised.require(gram, [_safe_shift(rounding, level)])
    directions = columns / np.sqrt(squares)
    copies = (level / squares) / np.einsum("ij,ij->j", directions, regularised.solve(directions))
    return copies, regularised.outside(columns)


def condition_number(gram: Matrix64, diagonal: float) -> float:
    """Estimate the condition number of gram + diagonal I in the 1-norm, after Higham; infinite if it is singular."""
    level = mean_eigenvalue(gram)
    if level == 0.0:
        return np.nan
    sizes = np.abs(np.tril(gram / level))
    sizes.reshape(-1)[:: len(gram) + 1] += diagonal / level
    norm = float((sizes.sum(axis=0) + sizes.sum(axis=1) - sizes.diagonal()).max())
    regularised = Regularised.of(gram, [diagonal / level])
    return np.inf if regularised is None else 1 / max(reciprocal_condition(regularised.factor, norm), 1e-300)


def gcv_penalty(gram: Matrix64, cross: Matrix64, squared_values: float, n: float, n_effective: float) -> float:
    """Penalty of least generalised cross-validation score, from the sums alone; one eigendecomposition, O(D³).

    With G = E diag(s) Eᵀ and T = EᵀQ: GCV(α) = RSS(α)/n / (1 − df(α)/n)², where RSS is what no penalty explains
    either, plus Σ (T²/s) (α/(s + α))², and n − df = n − rank + Σ α/(s + α): sums of positive terms.

    Where pairs weigh differently, n is their effective number: the leverages hᵢ of the weighted rows have the mean
    Σ wᵢhᵢ / Σ w = df / n with n = (Σ w)² / Σ w², if the keys are alike (docs/theory.md, drift).

    References
    ----------
    Golub, Heath and Wahba (1979), Technometrics 21, equation 1.6.
    """
    from scipy.optimize import minimize_scalar  # not with the package: it doubles the time of its import

    level = mean_eigenvalue(gram) or 1.0
    spectrum, vectors = scipy.linalg.eigh(gram / level, lower=True, check_finite=False)
    held = spectrum > len(spectrum) * np.finfo(np.float64).eps * spectrum[-1]
    if not held.any():
        return 0.0
    s = spectrum[held]
    explained = ((vectors[:, held].T @ (cross / np.sqrt(level))) ** 2).sum(axis=1) / s
    # N pairs of independent features are all explained: the difference would be rounding.
    unexplained = max(float(squared_values - explained.sum()), 0.0) if n > len(s) else 0.0
    spare = n_effective - len(s) if n_effective < n else max(n - len(s), 0.0)

    def score(exponent: float) -> float:
        lost = 1 / (1 + s / (10.0**exponent * s[-1]))
        freedom = (spare + lost.sum()) / n_effective
        return float((unexplained + explained @ lost**2) / n_effective / freedom**2) if freedom > 0 else np.inf

    best = GCV_EXPONENTS[np.argmin([score(exponent) for exponent in GCV_EXPONENTS])]
    refined = minimize_scalar(score, bounds=(best - 0.25, best + 0.25), method="bounded").x
    return float(10.0**refined * s[-1] * level)
