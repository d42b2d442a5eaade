"""Recursive least squares: the ridge solution, up to date after every write."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from assocmem.core import checks
from assocmem.rules.arrays import Shape, Solution
from assocmem.rules.base import Cost, Solved, State
from assocmem.rules.blas import (
    Matrix64,
    add_gram,
    add_product,
    cholesky,
    invert_from_cholesky,
    solve_lower,
    symmetric_product,
)
from assocmem.rules.constraints import free_gram, outside, without
from assocmem.rules.least_squares import (
    LeastSquaresRule,
    SumState,
    best_penalty,
    checked_decay,
    sums_of,
    weigh_by_age,
)
from assocmem.rules.ridge import Ridge
from assocmem.rules.solve import Regularised
from assocmem.rules.sums import Sums, squared_size

BLOCK = 256
SMALLEST_ALPHA = 1e-300  # its inverse must be a number
DEFAULT_ALPHA = 1e-6  # of the first pair's mean squared feature

# Shares of the mean eigenvalue of G: below the first the penalty has faded so far that it is set to the second.
FADED = 1e-10
RAISED = 1e-7


@dataclass
class RecursiveState(SumState):
    """The sums, the lower triangle of R = (G + αI)⁻¹, U = R Q, and the α in use (0 before the first pair).

    R alone cannot forget: at low load a stored pair has leverage 1 − 1e-9, and R knows it to 1e-7. From the sums,
    forgetting and merging are exact.
    """

    inverse: Matrix64
    solution: Matrix64
    alpha: float = 0.0

    @property
    def regularised_inverse(self) -> Matrix64 | None:
        """A copy of R; None where constraints have projected it."""
        return None if len(self.total.edits) else self.inverse.copy()


@dataclass(frozen=True)
class RecursiveLeastSquares(LeastSquaresRule):
    """Recursive least squares: keeps R = (G + αI)⁻¹ and U = R Q beside the sums G and Q, all updated with every write.

    The same solution as `Ridge` with the same α, without a solve before a recall: O(D²) a pair. A block of B pairs
    is one step through a B × B Cholesky factor. A decay weighs a pair by decay^age.

    Parameters
    ----------
    alpha : float above 0, or None
        Penalty on the squared weights; None takes 1e-6 of the mean squared feature of the first pair stored, which
        `AssociativeMemory.alpha` then shows, and keeps it, also when that pair is forgotten.
    decay : float in (0, 1]
        Weight that the past keeps with each further pair. The penalty fades with it.

    A penalty that rounding would overcome is raised to 1e-7 of the mean eigenvalue of G: one that has faded, and one
    next to which the keys are 1e8 times as long. `AssociativeMemory.alpha` shows it.

    References
    ----------
    Haykin (2002), "Adaptive Filter Theory", chapter 9; Woodbury (1950).

    Examples
    --------
    >>> import numpy as np
    >>> from assocmem import AssociativeMemory
    >>> rng = np.random.default_rng(0)
    >>> keys, values = rng.standard_normal((50, 16)), rng.standard_normal((50, 3))
    >>> memory = AssociativeMemory(key_dim=16, value_dim=3, rule=RecursiveLeastSquares(alpha=0.1))
    >>> memory.store(keys, values)
    >>> from assocmem import Ridge
    >>> batch = AssociativeMemory(key_dim=16, value_dim=3, rule=Ridge(alpha=0.1))
    >>> batch.store(keys, values)
    >>> bool(np.allclose(memory.weights, batch.weights))
    True
    """

    name: ClassVar[str] = "rls"
    in_place: ClassVar[bool] = True

    alpha: float | None = None
    decay: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha is not None:
            alpha = checks.as_number("alpha", self.alpha, SMALLEST_ALPHA, np.finfo(float).max)
            object.__setattr__(self, "alpha", alpha)
        object.__setattr__(self, "decay", checked_decay(self.decay))

    # ------------------------------------------------------------------------------------------------- contract

    def start(self, shape: Shape) -> RecursiveState:
        """Return the sums of no pairs; R stands for itself once α is known."""
        d, v = shape.rank, shape.value_dim
        return RecursiveState(shape, Sums.zeros(shape), np.zeros((d, d)), np.zeros((d, v)))

    def store(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Update R, U and the sums with a block of pairs."""
        if not len(features):
            return
        known = cast(RecursiveState, state)
        exact, exact_values = features.astype(np.float64, copy=False), values.astype(np.float64, copy=False)
        n_before, n_after, rank = state.n_stored, state.n_stored + len(exact), exact.shape[1]
        with state.changing():
            if n_before == 0:
                self._begin(known, exact[0])
            block = self._block()
            for start in range(0, len(exact), block):
                self._step(known, exact[start : start + block], exact_values[start : start + block])
            known.n_stored = n_after
            if _doublings(n_after, rank) > _doublings(n_before, rank):
                # Digits that the first pairs cost, while R spans 1/α to 1/λ, are recovered once there are enough.
                with contextlib.suppress(ValueError):
                    self.recompute(known)

    def solve(self, state: State) -> Solved:
        """Return U, which every write has updated."""
        return Solved(cast(RecursiveState, state).solution, Solution("updated inverse", self.alpha_for(state)))

    def merge(self, state: State, other: State) -> RecursiveState:
        """Add the sums; where None let each memory choose its α, the first one's stays."""
        merged = self.start(state.shape)
        merged.total = sums_of(state).plus(sums_of(other))
        merged.n_stored = state.n_stored + other.n_stored
        merged.alpha = cast(RecursiveState, state if state.n_stored else other).alpha
        self.recompute(merged)
        return merged

    def for_parts(self) -> PartialSums:
        """Return the rule that only sums: one solve, when the parts are merged, is enough."""
        return PartialSums(first_alpha=self.alpha)

    # ---------------------------------------------------------------------------------------------------- steps

    def _block(self) -> int:
        """Pairs in one step: within it the past must not fade by more than half, which would cost digits."""
        if self.decay == 1.0:
            return BLOCK
        return int(min(max(np.log(0.5) / np.log(self.decay), 1), BLOCK))

    def _begin(self, state: RecursiveState, first: NDArray[np.float64]) -> None:
        state.alpha = _alpha_for(first, self.alpha)
        state.inverse[...] = 0.0
        state.inverse.reshape(-1)[:: len(first) + 1] = 1.0 / state.alpha
        fixed = state.total.edits.constraint()
        if fixed is not None:
            state.inverse[...] = without(state.inverse, fixed.basis)

    def _step(self, state: RecursiveState, features: Matrix64, values: Matrix64) -> None:
        """Woodbury: with K = R Fᵀ and L Lᵀ = I + F K, R loses (L⁻¹Kᵀ)ᵀ(L⁻¹Kᵀ), and U gains (L⁻¹Kᵀ)ᵀ L⁻¹(V − F U)."""
        faded = self.decay != 1.0 and state.alpha < FADED * state.total.level
        if faded:
            state.alpha = RAISED * state.total.level
            self.recompute(state)
        lost = self._penalty_is_lost(state, features)
        past, features, values = weigh_by_age(self.decay, features, values)
        if lost:
            self._step_by_sums(state, features, values, past)
            return
        # Without this, what rounding leaves of R in fixed directions would grow as the past fades.
        fixed = None if self.decay == 1.0 else state.total.edits.constraint()
        free = features if fixed is None else outside(features, fixed.basis)
        gain = symmetric_product(state.inverse, free.T) / past
        inner = free @ gain
        inner.reshape(-1)[:: len(inner) + 1] += 1.0
        if not cholesky(inner):  # R is broken, or the block outweighs the penalty by more digits than there are
            self._step_by_sums(state, features, values, past)
            return
        reduced = solve_lower(inner, gain.T)
        errors = solve_lower(inner, values - features @ state.solution)
        if past != 1.0:
            state.inverse /= past
            state.alpha *= past
            state.total.fade(past)
        add_gram(state.inverse, reduced, -1.0)
        add_product(state.solution, reduced, errors)
        state.total.add(features, values)

    def _penalty_is_lost(self, state: RecursiveState, features: Matrix64) -> bool:
        """Whether rounding would overcome the penalty in the directions that hold nothing yet."""
        if self.decay != 1.0:  # one step may fade a penalty that was just raised
            return bool(self.decay ** len(features) < FADED / RAISED)
        if state.n_stored >= features.shape[1]:  # every direction is held by pairs
            return False
        level = state.total.level + squared_size(features) / features.shape[1]
        return bool(state.alpha < FADED * level)

    def _step_by_sums(self, state: RecursiveState, features: Matrix64, values: Matrix64, past: float) -> None:
        """Store a block in the sums, and recompute R and U from them with a penalty that rounding cannot overcome."""
        if past != 1.0:
            state.total.fade(past)
            state.alpha *= past
        state.total.add(features, values)
        state.alpha = max(state.alpha, RAISED * state.total.level)
        self.recompute(state)

    def recompute(self, state: State) -> None:
        """Recompute R and U from the sums, discarding accumulated rounding.

        Where recalls are fixed, R is P (P G P + αI)⁻¹ P: no later pair changes U in their directions.
        """
        known = cast(RecursiveState, state)
        total, fixed = known.total, known.total.edits.constraint()
        alpha, inverse = known.alpha, known.inverse
        if alpha:
            gram = total.gram if fixed is None else free_gram(total.gram, fixed.basis)
            floor = max(alpha, RAISED * total.level)
            unit = max(alpha, total.level)
            regularised = Regularised.require(gram, [alpha / unit, floor / unit], unit)
            alpha = alpha if regularised.shift == alpha / unit else floor
            inverse = regularised.factor
            invert_from_cholesky(inverse)
            inverse /= unit
            inverse = inverse if fixed is None else without(inverse, fixed.basis)
        solution, _ = total.solve(alpha)
        known.alpha = alpha
        known.inverse[...] = inverse
        known.solution[...] = solution

    # -------------------------------------------------------------------------------------------------- answers

    def alpha_for(self, state: State, n_pairs: int | None = None) -> float | None:
        """Return α; None before the first pair has chosen it."""
        return cast(RecursiveState, state).alpha or self.alpha

    def tuned(self, query_cosine: float, n_pairs: int, shape: Shape) -> tuple[RecursiveLeastSquares, float]:
        """Return the rule with the best penalty for such queries, for keys of norm 1, and that penalty."""
        penalty = best_penalty(query_cosine, n_pairs, shape)
        return RecursiveLeastSquares(alpha=penalty * shape.rank or None), penalty

    def cost(self, shape: Shape) -> Cost:
        """Return bytes and operations: the sums, R times the features, and its update."""
        d, v = shape.rank, shape.value_dim
        return Cost(
            state_bytes=8 * (2 * d * d + 2 * d * v + v),
            work_bytes=8 * (d * d + 2 * d * v),
            store_operations=2 * d * (d + 1) + 2 * d**2 + 6 * d * v,
        )


def _doublings(n_stored: int, rank: int) -> int:
    """How often the number of pairs has doubled since there was one for every dimension."""
    return (n_stored // rank).bit_length()


def _alpha_for(first: NDArray[Any], alpha: float | None) -> float:
    """The penalty given, or that chosen by the features (D,) of the first pair."""
    exact = first.astype(np.float64, copy=False)
    return DEFAULT_ALPHA * float(exact @ exact) / len(exact) if alpha is None else alpha


@dataclass
class PartialState(SumState):
    """The sums over a part of the pairs, and the α that its first pair chooses."""

    alpha: float = 0.0


@dataclass(frozen=True)
class PartialSums(Ridge):
    """The sums of recursive least squares without R and U, for parts of the pairs that are merged into a memory."""

    name: ClassVar[str] = "rls part"
    first_alpha: float | None = None

    def start(self, shape: Shape) -> PartialState:
        """Return the sums of no pairs."""
        return PartialState(shape, Sums.zeros(shape))

    def store(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Add a block to the sums."""
        if state.n_stored == 0 and len(features):
            cast(PartialState, state).alpha = _alpha_for(features[0], self.first_alpha)
        super().store(state, features, values)

    def merge(self, state: State, other: State) -> PartialState:
        """Add the sums; the first part's α stays."""
        first = cast(PartialState, state if state.n_stored else other)
        total, n_stored = sums_of(state).plus(sums_of(other)), state.n_stored + other.n_stored
        return PartialState(state.shape, total, first.alpha, n_stored=n_stored)
