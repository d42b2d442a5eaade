"""What a rule would recall had it stored one more pair: exactly, for any key, value and query, without storing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from assocmem.rules.blas import Matrix64, row_squares
from assocmem.rules.constraints import DEPENDENT, Constraint, outside
from assocmem.rules.solve import SHIFTS, Problem, Regularised, mean_eigenvalue, smallest_shift
from assocmem.rules.sums import Sums

EDITED = (
    "edits in another metric leave no way to tell what would be recalled had a key been stored as well, since the "
    "weights then solve no ridge problem; take them back with release(keys) first, or diagnose without keys"
)


@dataclass(frozen=True)
class Pretended:
    """Weights that storing one more pair (x, v) would leave, U + g (v − c)ᵀ, for each of n keys x.

    Parameters
    ----------
    weights : (D, v)
        U, of what is stored.
    gains : (n, D)
        g of every key.
    expected : (n, v)
        c of every key: what the rule compares its value with.
    """

    weights: Matrix64
    gains: Matrix64
    expected: Matrix64

    def recall(self, queries: Matrix64) -> tuple[NDArray[np.float64], Matrix64]:
        """Shares (n,) and crosstalk (n, v) of queries ψ(q) (n, D), one one a key, which recall share · v + crosstalk.

        share = ψ(q)ᵀg and crosstalk = Uᵀψ(q) − share · c, exactly (docs/real-keys.md).
        """
        shares = np.einsum("ij,ij->i", queries, self.gains)
        return shares, queries @ self.weights - shares[:, None] * self.expected


Pretender: TypeAlias = Callable[[Matrix64], Pretended]


@dataclass(frozen=True)
class RidgePretender:
    """Pretends to store pairs under ridge regression: g = Rψ/(1 + ψᵀRψ) with R = (G + αI)⁻¹, and c = Uᵀψ.

    One factorisation for all keys. As α → 0, g of a key with a part ψ⊥ outside of the range of G tends to ψ⊥/‖ψ⊥‖².
    With edits, R is that of the directions which they leave free.

    Parameters
    ----------
    weights : (D, v)
        The solution for G and α.
    problem : Problem
        G / unit and α / unit.
    factor : Regularised
        Of that, with a larger shift if α is next to nothing.
    direct : bool
        Whether it is without such a shift.
    root : float
        √unit, by which features are divided.
    fixed : Constraint or None
        Directions that edits have fixed.

    References
    ----------
    Sherman and Morrison (1950) for storing, Cook and Weisberg (1982), "Residuals and Influence in Regression", for the
    converse, leaving out.
    """

    weights: Matrix64
    problem: Problem
    factor: Regularised
    direct: bool
    root: float
    fixed: Constraint | None

    @classmethod
    def of(cls, sums: Sums, weights: NDArray[np.float64], alpha: float, past: float = 1.0) -> RidgePretender:
        """For the solution of sums at a penalty; `past` is the weight that they keep when the pair is stored."""
        if sums.edits.has_directions:
            raise ValueError(EDITED)
        gram, cross, fixed = sums.edits.free(sums.gram, sums.cross)
        unit = max(mean_eigenvalue(gram), alpha) or 1.0
        problem = Problem(gram, alpha / unit, cross[:, :0], unit, sums.noise, np.zeros(0))
        smallest = smallest_shift(gram, sums.noise) if gram.any() else 0.0
        if direct := problem.penalty >= max(SHIFTS[0], smallest):
            factor = Regularised.require(gram, [problem.penalty], unit)
        elif gram.any():
            factor, _ = problem.telling_apart(smallest)
        else:
            factor = Regularised.require(gram, [1.0], unit)
        return cls(np.asarray(weights, np.float64), problem, factor, direct, float(np.sqrt(unit * past)), fixed)

    def __call__(self, features: Matrix64) -> Pretended:
        """Pretend to store keys of features (n, D)."""
        rows = features if self.fixed is None else outside(features, self.fixed.basis)
        columns = np.asfortranarray((rows / self.root).T)
        gains = self._directly(columns) if self.direct else self._in_the_limit(columns)
        return Pretended(self.weights, np.ascontiguousarray(gains.T) / self.root, features @ self.weights)

    def _directly(self, columns: Matrix64) -> Matrix64:
        solved = self.factor.solve(columns)
        solved += self.factor.solve(self.problem.residual(solved, columns))
        return np.asarray(solved / (1 + np.einsum("ij,ij->j", columns, solved)))

    def _in_the_limit(self, columns: Matrix64) -> Matrix64:
        gram, penalty, noise = self.problem.gram, self.problem.penalty, self.problem.noise
        beyond, told = self.factor.outside(columns, gram, noise)
        beyond += self.factor.outside(columns - beyond, gram, noise)[0]  # what rounding of G, over the shift, has left
        sizes, room = (np.einsum("ij,ij->j", each, each) for each in (columns, beyond))
        alone = told & (room > DEPENDENT**2 * sizes)
        within = columns - beyond if told else columns
        solved, _, _ = Problem(gram, penalty, within, self.problem.level, noise, np.zeros(within.shape[1])).iterate(
            self.factor, within
        )
        if told:  # rounding of what G does not hold, divided by the shift
            solved -= self.factor.outside(solved, gram, noise)[0]
        leverage = 1 + np.einsum("ij,ij->j", columns, solved)
        over = np.where(alone, penalty * leverage + room, leverage)
        return np.asarray(np.where(alone, penalty * solved + beyond, solved) / over)


def normalised_steps(features: Matrix64, rate: float = 1.0) -> Matrix64:
    """Rate · ψ/‖ψ‖² (n, D) for features ψ (n, D)."""
    lengths = np.sqrt(row_squares(features))[:, None]  # whose squares might leave the number range
    return np.asarray(rate * (features / lengths) / lengths)
