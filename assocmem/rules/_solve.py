"""Solving (G + αI) U = Q from the sums of the ridge rule, and choosing α from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from assocmem.rules._blas import (
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
    "the Gram matrix is not positive semidefinite; expected a sum over stored pairs; "
    "start a new memory, or load the last one that was saved"
)


@dataclass(frozen=True)
class Solution:
    """How the weights in use were found.

    Parameters
    ----------
    solver : str
        "Cholesky", "iterated Tikhonov", "updated inverse", or "none" for rules that solve nothing.
    alpha : float or None
        The penalty; None for a rule without one.
    shift : float
        What was added to the diagonal beyond the penalty, and taken back by iteration.
    passes : int
        Iterations that took it back.
    condition : float
        Estimate of the condition number, in the 1-norm, of the matrix that was factorised; NaN where none was.
    """

    solver: str
    alpha: float | None = None
    shift: float = 0.0
    passes: int = 0
    condition: float = np.nan


def solve_ridge(gram: Matrix64, cross: Matrix64, alpha: float, rounding: float = 0.0) -> Matrix64:
    """Return the solution that `solve` finds."""
    return solve(gram, cross, alpha, rounding)[0]


def mean_eigenvalue(gram: Matrix64) -> float:
    """Mean of the diagonal; divided before it is summed, which cannot overflow."""
    return float((gram.diagonal() / len(gram)).sum())


def shifted(gram: Matrix64, level: float, shift: float) -> Matrix64:
    """Return gram / level + shift * I as a new lower triangle."""
    scaled = scaled_lower(gram, 1 / level) if level > SMALLEST_LEVEL else gram / level
    scaled.reshape(-1)[:: len(gram) + 1] += shift
    return scaled


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
    if penalty >= SHIFTS[0] and cholesky(factor := shifted(gram, level, penalty)):
        solution = cholesky_solve(factor, target)
        if noise < BLURRED:
            solution = _cleared(factor, penalty, noise, solution, keep_more=True)
        return np.ascontiguousarray(solution * unit), Solution("Cholesky", alpha)
    lost = float(np.finfo(np.float64).eps) * (rounding_cross / size) / float(np.linalg.norm(target))
    tolerance = max(CONVERGED, noise, lost)
    best = None
    for shift in SHIFTS:
        if best is not None and shift > SHIFTS[1]:
            break
        if cholesky(factor := shifted(gram, level, penalty + shift)):
            best, passes, converged = _iterate(factor, gram / level, penalty, target, tolerance)
            found = Solution("iterated Tikhonov", alpha, shift * level, passes)
            if converged:
                best = _cleared(factor, penalty + shift, noise, best)
                break
    if best is None:
        raise ValueError(NOT_SEMIDEFINITE)
    return np.ascontiguousarray(best * unit), found


def _iterate(
    factor: Matrix64, gram: Matrix64, penalty: float, target: Matrix64, tolerance: float
) -> tuple[Matrix64, int, bool]:
    """Refine what a shifted factor gives towards (gram + penalty I) U = target; passes, and whether it got there."""
    solution = cholesky_solve(factor, target)
    last_size = np.inf
    for passes in range(MAX_PASSES):
        residual = target - symmetric_product(gram, solution) - penalty * solution
        # The residual tells convergence from rounding in directions that hold nothing, where further steps add noise.
        reachable = float(np.linalg.norm(target)) + float(np.linalg.norm(solution))
        if float(np.linalg.norm(residual)) <= tolerance * reachable:
            return solution, passes, True
        step = cholesky_solve(factor, residual)
        size = float(np.linalg.norm(step))
        if size > 0.5 * last_size:
            break
        solution += step
        last_size = size
    return solution, passes, False


def _cleared(factor: Matrix64, shift: float, noise: float, solution: Matrix64, *, keep_more: bool = False) -> Matrix64:
    """Take out of a solution what rounding left in directions that hold nothing.

    The factor is that of gram + shift I. There, shift (gram + shift I)⁻¹ leaves a vector as it is, but for the noise
    in gram, while it shrinks directions with eigenvalue s by shift / (s + shift): repeated, it leaves what is to be
    taken out. Otherwise rounding in the sums would be divided by the shift, and cost other keys half of their digits.
    """
    # One combination of the columns tells how many passes it takes, and whether there is anything to take out.
    left = solution @ np.cos(np.arange(solution.shape[1]))[:, None]
    size, last_change = float(np.linalg.norm(left)), np.inf
    passes, slow = 0, 10 * noise * np.sqrt(len(factor)) / shift  # the largest eigenvalue of noise, next to the shift
    while last_change > max(CONVERGED * size, slow * float(np.linalg.norm(left))):
        fewer = shift * cholesky_solve(factor, left)
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
        left = shift * cholesky_solve(factor, left)
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
    if not len(held) or not cholesky(factor := shifted(gram, level, shift)):
        return np.inf
    unit = (level / size) * scale
    residual = target - (symmetric_product(scaled, solution) + penalty * solution) * unit
    errors = float(np.linalg.norm(residual)) + eps * (rounding_cross / size)
    length = float(np.linalg.norm(solution))
    astray = float(np.linalg.norm(_outside(factor, shift, solution))) / length if len(held) < len(gram) else 0.0
    return (errors / (unit * length) + gram_error) / float(held[0] + penalty) + astray


def _safe_shift(rounding: float, level: float) -> float:
    """Shift, as a share of the mean eigenvalue, with which Cholesky is reliable also on sums blurred by rounding."""
    return max(SHIFTS[1], 10 * float(np.finfo(np.float64).eps) * rounding / level)


def _outside(factor: Matrix64, shift: float, columns: Matrix64) -> Matrix64:
    """Parts of columns in directions that a Gram matrix, of which `factor` is with the shift, does not hold."""
    for _ in range(CLEARING_PASSES):
        columns = shift * cholesky_solve(factor, columns)
    return columns


def copies_left(gram: Matrix64, features: Matrix64, rounding: float) -> tuple[NDArray[np.float64], Matrix64]:
    """Bound how many copies of features (N, D) can be in G, and return the parts (D, N) of them that G does not hold.

    G − c ψψᵀ is positive semidefinite only for c ≤ 1 / ψᵀG⁺ψ, and for no c > 0 if ψ is not in the range of G.
    """
    level = mean_eigenvalue(gram)
    squares = row_squares(features)
    columns = np.asfortranarray(features.T)
    if level == 0.0:
        return np.zeros(len(features)), columns
    shift = _safe_shift(rounding, level)
    if not cholesky(factor := shifted(gram, level, shift)):
        raise ValueError(NOT_SEMIDEFINITE)
    directions = columns / np.sqrt(squares)
    copies = (level / squares) / np.einsum("ij,ij->j", directions, cholesky_solve(factor, directions))
    return copies, _outside(factor, shift, columns)


def condition_number(gram: Matrix64, diagonal: float) -> float:
    """Estimate the condition number of gram + diagonal I in the 1-norm, after Higham; infinite if it is singular."""
    level = mean_eigenvalue(gram)
    if level == 0.0:
        return np.nan
    matrix = shifted(gram, level, diagonal / level)
    sizes = np.abs(np.tril(matrix))
    norm = float((sizes.sum(axis=0) + sizes.sum(axis=1) - sizes.diagonal()).max())
    return 1 / max(reciprocal_condition(matrix, norm), 1e-300) if cholesky(matrix) else np.inf


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

    spectrum, vectors = scipy.linalg.eigh(gram, lower=True, check_finite=False)
    held = spectrum > len(spectrum) * np.finfo(np.float64).eps * spectrum[-1]
    if not held.any():
        return 0.0
    s = spectrum[held]
    explained = ((vectors[:, held].T @ cross) ** 2).sum(axis=1) / s
    # N pairs of independent features are all explained: the difference would be rounding.
    unexplained = max(float(squared_values - explained.sum()), 0.0) if n > len(s) else 0.0
    spare = n_effective - len(s) if n_effective < n else max(n - len(s), 0.0)

    def score(exponent: float) -> float:
        lost = 1 / (1 + s / (10.0**exponent * s[-1]))
        freedom = (spare + lost.sum()) / n_effective
        return float((unexplained + explained @ lost**2) / n_effective / freedom**2) if freedom > 0 else np.inf

    best = GCV_EXPONENTS[np.argmin([score(exponent) for exponent in GCV_EXPONENTS])]
    refined = minimize_scalar(score, bounds=(best - 0.25, best + 0.25), method="bounded").x
    return float(10.0**refined * s[-1])
