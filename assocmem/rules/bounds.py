"""What rounding in the sums can have made of a solution, and what they can hold of a key."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assocmem.rules.blas import Matrix64, eigenvalues_below, reciprocal_condition, row_squares
from assocmem.rules.solve import (
    EMPTY,
    EPS,
    LARGEST_RATIO,
    SAFE,
    SHIFTS,
    SMALLEST_LEVEL,
    TOLERATED,
    Problem,
    Regularised,
    mean_eigenvalue,
    smallest_shift,
)

N_PROBES = 8  # random vectors that measure an inverse
CAUTION = 5  # times an estimated error, as a bound
TAKEN_BACK = 3  # times that a shift is taken back where a bound is estimated
VERIFYING_SHIFT = 1e-10  # below which what was deleted is not looked for: rounding would be taken for it


def error_bound(
    gram: Matrix64,
    cross: Matrix64,
    weights: Matrix64,
    alpha: float,
    noise: float,
    noise_cross: NDArray[np.float64],
    n_pairs: float = np.inf,
) -> float:
    """Bound the relative distance, in the Frobenius norm, of weights from those of unrounded sums.

    To first order ΔU = R (r + ΔQ − ΔG U) with R = (G + αI)⁻¹, the residual r = Q − (G + αI) U, and the rounding ΔG and
    ΔQ of the sums; without a penalty R is that of the directions that G holds, and those turn by ΔG R U. The
    roundings are taken as random: R shrinks a random vector by its Frobenius norm, which a few vectors measure.

    Infinite where nothing is known: without a penalty, where G holds fewer directions than there are pairs. Some keys
    are then the same, or too near to each other or too short to be told apart, and the sums do not tell which.

    References
    ----------
    Higham (2002), "Accuracy and Stability of Numerical Algorithms", section 7.1, and section 4.2 for sums; Wedin
    (1973), "Perturbation theory for pseudo-inverses"; Hutchinson (1989) for the norm.
    """
    level = mean_eigenvalue(gram)
    sizes = np.abs(cross).max(axis=0, initial=0.0)
    if level == 0.0 or not sizes.any():
        return 0.0
    sizes[sizes == 0.0] = 1.0
    unit = sizes / level
    if alpha / LARGEST_RATIO > level:
        return 4 * EPS
    if not unit.all():  # weights below the smallest number
        return np.inf
    solution = weights / unit
    problem = Problem(gram, alpha / level, cross / sizes, level, noise, noise_cross / sizes)
    inverse = _Inverse.of(problem)
    if inverse is None:
        return np.inf
    blur, scatter = noise / level + EPS, inverse.size() / math.sqrt(len(gram))
    turned = 2 * blur * scatter
    if turned >= 0.5:
        return np.inf
    residual, lengths = problem.residual(solution), np.linalg.norm(solution, axis=0)
    errors = (blur * lengths + problem.noise_target) * scatter
    errors += np.linalg.norm(inverse.times(inverse.held(residual)), axis=0)
    if not inverse.direct:
        errors += inverse.unheld_errors(solution, residual, blur, n_pairs)
        if not np.isfinite(errors).all():
            return np.inf
    shares = unit / unit.max()  # no square leaves the number range
    error = CAUTION * float(np.linalg.norm(errors * shares)) / (1 - turned)
    length = float(np.linalg.norm(lengths * shares))
    if error >= length / 2:
        return max(1.0, 2 * error / max(length, SMALLEST_LEVEL))
    return error / (length - error)


@dataclass(frozen=True)
class _Inverse:
    """R = (G / level + penalty I)⁻¹ in directions that G holds, told from the others where the penalty is small."""

    problem: Problem
    factored: Regularised
    direct: bool
    told: bool

    @classmethod
    def of(cls, problem: Problem) -> _Inverse | None:
        """The inverse; None if the matrix is not positive definite."""
        smallest = smallest_shift(problem.gram, problem.noise)
        if problem.penalty < max(SHIFTS[0], smallest):
            factor, told = problem.telling_apart(smallest)
            return cls(problem, factor, direct=False, told=told)
        direct = Regularised.of(problem.gram, [problem.penalty])
        return None if direct is None else cls(problem, direct, direct=True, told=False)

    def held(self, columns: Matrix64) -> Matrix64:
        """Columns (D, n) without their parts in directions that G does not hold."""
        if not self.told:
            return columns
        return columns - self.factored.outside(columns, self.problem.gram, self.problem.noise)[0]

    def times(self, columns: Matrix64) -> Matrix64:
        """R times columns; where the factor has a larger shift than the penalty, that is taken back."""
        found = self.factored.solve(columns)
        for _ in range(0 if self.direct else TAKEN_BACK):
            found += self.factored.solve(self.held(self.problem.residual(found, columns)))
        return found

    def size(self) -> float:
        """Frobenius norm of R."""
        probes = np.random.default_rng(0).standard_normal((len(self.problem.gram), N_PROBES))
        return float(np.sqrt((self.times(self.held(probes)) ** 2).sum() / N_PROBES))

    def unheld_errors(
        self, solution: Matrix64, residual: Matrix64, blur: float, n_pairs: float
    ) -> NDArray[np.float64] | float:
        """Errors (v,) of a solution that come from directions in which G holds little or nothing."""
        problem, rank, within = self.problem, len(solution), self.held(solution)
        if (np.linalg.norm(residual, axis=0) > TOLERATED * problem.reachable(solution)).any():
            return np.inf
        errors = blur * np.linalg.norm(self.times(within), axis=0)
        least = EMPTY * (blur + EPS * np.sqrt(rank))
        n_live = int((problem.gram.diagonal() > 0.0).sum())
        unknown = eigenvalues_below(problem.gram, least * problem.level) > rank - min(n_live, n_pairs)
        if problem.penalty <= least:
            return np.inf if unknown else np.asarray(errors + np.linalg.norm(solution - within, axis=0) / CAUTION)
        lengths = np.linalg.norm(solution, axis=0)
        # What is left where G holds nothing, only the penalty divides.
        beyond = np.linalg.norm(residual - self.held(residual), axis=0)
        if unknown:
            beyond += problem.noise_target + EPS * lengths
        else:  # next to the rounding of the residual itself
            beyond[beyond <= SAFE * EPS * (np.linalg.norm(problem.target, axis=0) + lengths)] = 0.0
        return np.asarray(errors + beyond / problem.penalty)


def copies_left(gram: Matrix64, features: Matrix64, noise: float) -> tuple[NDArray[np.float64], Matrix64]:
    """Bound how many copies of features (N, D) can be in G, and return the parts (D, N) of them that G does not hold.

    G − c ψψᵀ is positive semidefinite only for c ≤ 1 / ψᵀG⁺ψ, and for no c > 0 if ψ is not in the range of G.
    """
    squares = row_squares(features)
    columns = np.asfortranarray(features.T)
    level = mean_eigenvalue(gram)
    if level == 0.0:
        return np.zeros(len(features)), columns
    regularised = Regularised.require(gram, [max(VERIFYING_SHIFT, smallest_shift(gram, noise))])
    directions = columns / np.sqrt(squares)
    copies = (level / squares) / np.einsum("ij,ij->j", directions, regularised.solve(directions))
    return copies, regularised.outside(columns, gram, noise)[0]


def condition_number(gram: Matrix64, diagonal: float) -> float:
    """Estimate the condition number of gram + diagonal I in the 1-norm, after Higham; infinite if it is singular."""
    scale = max(mean_eigenvalue(gram), diagonal)
    if scale == 0.0 or not gram.any():
        return np.nan
    sizes = np.abs(np.tril(gram / scale))
    sizes.reshape(-1)[:: len(gram) + 1] += diagonal / scale
    norm = float((sizes.sum(axis=0) + sizes.sum(axis=1) - sizes.diagonal()).max())
    regularised = Regularised.of(gram, [diagonal / scale], scale)
    return np.inf if regularised is None else 1 / max(reciprocal_condition(regularised.factor, norm), 1e-300)
