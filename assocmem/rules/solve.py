"""Solving (G + αI) U = Q from the sums of the ridge rule, also where G is singular but for rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assocmem.rules.arrays import Solution
from assocmem.rules.blas import (
    Matrix64,
    cholesky,
    cholesky_solve,
    scaled_lower,
    symmetric_norm,
    symmetric_product,
)

EPS = float(np.finfo(np.float64).eps)

# Shifts of the Gram matrix, as shares of its mean eigenvalue, from which the solution for a smaller penalty is reached
# by iteration: each pass shrinks the error in a direction with eigenvalue s by shift / (s + shift), and leaves rounding
# of about 1e-16 / shift in directions that hold nothing. The larger are the more accurate, and enough up to a load of
# about 0.97; the smaller are tried where pairs are nearly alike.
SHIFTS = (1e-6, 1e-8, 1e-10, 1e-12)
MAX_PASSES = 12
CONVERGED = 1e-13  # residual, as a share of what rounding could still reach

SMALLEST_LEVEL = 1e-300  # its inverse is a number
LARGEST_RATIO = 1e150  # of a penalty to the mean eigenvalue: its square is a number

SAFE = 30  # times the rounding of G, by which a shift must exceed it for Cholesky to be reliable
EMPTY = 100  # times the rounding of G, below which a direction holds nothing
CLEARING_PASSES = 12  # at most, by which what is held is taken out of a vector
TOLERATED = 10  # times the residual that rounding leaves

NOT_SEMIDEFINITE = (
    "the Gram matrix is not positive semidefinite, so it is no sum over stored pairs; start a new memory, or load the "
    "last one that was saved"
)


def mean_eigenvalue(gram: Matrix64) -> float:
    """Mean of the diagonal; divided before it is summed, which cannot overflow."""
    return float((gram.diagonal() / len(gram)).sum())


def times_scaled(gram: Matrix64, columns: Matrix64, level: float) -> Matrix64:
    """G / level times columns (D, n), where G times columns may leave the number range."""
    root = np.sqrt(level)
    return np.asarray(symmetric_product(gram, columns / root) / root)


def least_shift(gram: Matrix64, noise: float) -> float:
    """Shift, as a share of the mean eigenvalue, with which Cholesky succeeds although rounding has blurred G."""
    return (SAFE * noise + 8 * EPS * symmetric_norm(gram)) / mean_eigenvalue(gram)


def smallest_shift(gram: Matrix64, noise: float) -> float:
    """The least shift with which a solution is reliable."""
    return max(SHIFTS[-1], least_shift(gram, noise))


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

    def outside(self, columns: Matrix64, gram: Matrix64, noise: float) -> tuple[Matrix64, bool]:
        """Parts of columns (D, n) in directions that G does not hold, and whether they can be told from the others.

        shift (G + shift I)⁻¹ leaves a vector as it is where G holds nothing, and shrinks it by shift / (s + shift)
        where it holds s: repeated until what is left is empty to rounding.
        """
        empty = EMPTY * (noise / self.level + EPS * np.sqrt(len(gram)))
        unit = np.abs(columns).max(initial=0.0) or 1.0  # no square leaves the number range
        left = columns / unit
        sizes = np.linalg.norm(left, axis=0)
        for _ in range(CLEARING_PASSES):
            left = self.shift * self.solve(left)
            lengths = np.linalg.norm(left, axis=0)
            held = np.linalg.norm(times_scaled(gram, left, self.level), axis=0)
            if (held <= empty * lengths + EPS * CONVERGED * sizes).all():
                return left * unit, True
        return left * unit, False


def solve(
    gram: Matrix64, cross: Matrix64, alpha: float, noise: float = 0.0, noise_cross: NDArray[np.float64] | float = 0.0
) -> tuple[Matrix64, Solution]:
    """Solve (gram + alpha I) U = cross by Cholesky; for alpha near or at 0 by iterated Tikhonov.

    Parameters
    ----------
    gram : (D, D) float64
        Lower triangle of a positive semidefinite matrix.
    cross : (D, v) float64
        In the range of `gram`, but for rounding: what is outside of it would be divided by the shift, and is left out.
    alpha : float
        At 0 the solution of minimum norm.
    noise : float
        Spectral norm of the rounding in `gram`.
    noise_cross : (v,) or float
        Norm of the rounding in each column of `cross`.

    Returns
    -------
    (D, v) float64, C-contiguous, and how it was found, its condition left open

    Raises
    ------
    ValueError
        If the matrix is not positive semidefinite even to rounding.
    """
    level = mean_eigenvalue(gram)
    sizes = np.abs(cross).max(axis=0, initial=0.0)
    if level == 0.0 or not sizes.any():
        return np.zeros_like(cross), Solution("none", alpha)
    if alpha / LARGEST_RATIO > level:  # next to such a penalty nothing is stored
        return np.ascontiguousarray(cross / alpha), Solution("Cholesky", alpha)
    # Every output and G of size 1, whatever the units of keys and values: no square below leaves the number range.
    sizes[sizes == 0.0] = 1.0
    target, unit = cross / sizes, sizes / level
    problem = Problem(gram, alpha / level, target, level, noise, noise_cross / sizes)
    smallest = smallest_shift(gram, noise)
    if problem.penalty >= max(SHIFTS[0], smallest):
        solution, found = problem.directly()
    else:
        solution, found = problem.by_iteration(smallest)
    return np.ascontiguousarray(solution * unit), found


@dataclass(frozen=True)
class Problem:
    """(G / level + penalty I) U = target, every column of the target of size 1."""

    gram: Matrix64
    penalty: float
    target: Matrix64
    level: float
    noise: float
    noise_target: NDArray[np.float64]

    def directly(self) -> tuple[Matrix64, Solution]:
        """Solve with the factor of what is asked, and one correction of its rounding."""
        regularised = Regularised.require(self.gram, [self.penalty])
        solution = regularised.solve(self.target)
        solution += regularised.solve(self.residual(solution))
        return solution, Solution("Cholesky", self.penalty * self.level)

    def by_iteration(self, smallest: float) -> tuple[Matrix64, Solution]:
        """Solve with shifts that are taken back, the smallest only where the others do not lead there."""
        shifts = [shift for shift in SHIFTS if shift > smallest] + [smallest]
        for shift in shifts:
            last = shift == smallest
            allowed = [self.penalty + larger * shift for larger in ((1, 10, 100, 1e3, 1e4) if last else (1,))]
            found = Regularised.of(self.gram, allowed)
            if found is None:
                continue
            regularised = found
            beyond = np.zeros_like(self.target)
            if last and self.penalty < smallest:
                beyond, told = regularised.outside(self.target, self.gram, self.noise)
                beyond = beyond if told else np.zeros_like(beyond)
            solution, passes, converged = self.iterate(regularised, self.target - beyond)
            if converged:
                break
        else:
            if found is None:
                raise ValueError(NOT_SEMIDEFINITE)
        added = (regularised.shift - self.penalty) * self.level
        unexplained = self.unexplained(solution)
        solver = Solution("iterated Tikhonov", self.penalty * self.level, added, passes, unexplained=unexplained)
        return self.cleared(regularised, solution), solver

    def telling_apart(self, smallest: float) -> tuple[Regularised, bool]:
        """The factor with the largest shift that tells directions G holds from those it does not, and whether it does.

        The larger the shift, the less rounding it makes of what G holds.
        """
        probe = np.random.default_rng(0).standard_normal((len(self.gram), 1))
        for shift in [*(shift for shift in SHIFTS if shift > smallest), smallest]:
            regularised = Regularised.of(self.gram, [self.penalty + shift])
            if regularised is not None and regularised.outside(probe, self.gram, self.noise)[1]:
                return regularised, True
        return Regularised.require(self.gram, [self.penalty + smallest * more for more in (1, 10, 100, 1e3)]), False

    def residual(self, solution: Matrix64, target: Matrix64 | None = None) -> Matrix64:
        """What a solution leaves of the target."""
        aim = self.target if target is None else target
        return np.asarray(aim - times_scaled(self.gram, solution, self.level) - self.penalty * solution)

    def reachable(self, solution: Matrix64) -> NDArray[np.float64]:
        """Length of the residual (v,) that rounding leaves: no solution can be told to be better."""
        sizes = np.linalg.norm(self.target, axis=0) + np.linalg.norm(solution, axis=0)
        return np.asarray(
            CONVERGED * sizes + self.noise / self.level * np.linalg.norm(solution, axis=0) + self.noise_target
        )

    def iterate(self, regularised: Regularised, target: Matrix64) -> tuple[Matrix64, int, bool]:
        """Refine what a shifted factor gives; passes, and whether it got there."""
        solution = regularised.solve(target)
        last_size = np.inf
        for passes in range(MAX_PASSES):
            residual = self.residual(solution, target)
            if (np.linalg.norm(residual, axis=0) <= self.reachable(solution)).all():
                return solution, passes, True
            step = regularised.solve(residual)
            size = float(np.linalg.norm(step))
            if size > 0.5 * last_size:
                break
            solution += step
            last_size = size
        return solution, passes, False

    def cleared(self, regularised: Regularised, solution: Matrix64) -> Matrix64:
        """A solution without what rounding left of it where G holds nothing."""
        # One combination of the columns tells whether there is anything to remove.
        mixture = solution @ np.cos(np.arange(solution.shape[1]))[:, None]
        left, told = regularised.outside(mixture, self.gram, self.noise)
        if not told or not left.any():
            return solution
        left, told = regularised.outside(solution, self.gram, self.noise)
        if self.penalty > 0.0:  # what a penalty keeps there may be more than rounding
            noise = self.noise_target + self.noise / self.level * np.linalg.norm(solution, axis=0)
            told = told and bool((self.penalty * np.linalg.norm(left, axis=0) <= TOLERATED * noise).all())
        return solution - left if told else solution

    def unexplained(self, solution: Matrix64) -> float:
        """Largest share of a column of the target that is left over, beyond what rounding explains."""
        left = np.linalg.norm(self.residual(solution), axis=0)
        share = left / np.linalg.norm(self.target, axis=0).clip(SMALLEST_LEVEL)
        return float(np.where(left > TOLERATED * self.reachable(solution), share, 0.0).max(initial=0.0))
