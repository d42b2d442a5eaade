"""Recursive least squares: the ridge solution, up to date after every write."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from assocmem import _checks
from assocmem.rules._blas import (
    Matrix64,
    add_gram,
    add_product,
    cholesky,
    invert_from_cholesky,
    solve_lower,
    symmetric_product,
)
from assocmem.rules._solve import NOT_SEMIDEFINITE, Solution, mean_eigenvalue
from assocmem.rules.base import FLOAT64, Layout, Rule, State
from assocmem.rules.constraints import constraint, free_gram, outside, without
from assocmem.rules.sums import OF_VALUES, SUMS, SumRule, add_to_sums, merge_sums, solve_sums, sums_layout

BLOCK = 256
SMALLEST_ALPHA = 1e-300  # its inverse must be a number
DEFAULT_ALPHA = 1e-6  # of the first pair's mean squared feature

# Shares of the mean eigenvalue of G: below the first the penalty has faded so far that it is set to the second.
FADED = 1e-10
RENEWED = 1e-7


@dataclass(frozen=True)
class RecursiveLeastSquares(SumRule):
    """Recursive least squares: keeps R = (G + αI)⁻¹ and U = R Q beside the sums G and Q, all updated with every write.

    The same solution as `Ridge` with the same α, without a solve before a recall: O(D²) a pair. A block of B pairs
    is one step through a B × B Cholesky factor. A forgetting factor weights a pair by forgetting^age.

    Parameters
    ----------
    alpha : float above 0, or None
        Penalty on the squared weights; None takes 1e-6 of the mean squared feature of the first pair stored, which
        `AssociativeMemory.alpha` then shows, and keeps it, also when that pair is forgotten.
    forgetting : float in (0, 1]
        Weight that the past keeps with each further pair. The penalty fades with it.

    A penalty that rounding would overcome is raised to 1e-7 of the mean eigenvalue of G: one that has faded, and one
    next to which the keys are 1e8 times as long. `AssociativeMemory.alpha` shows it.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not such a number.

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
    alpha: float | None = None
    forgetting: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha is not None:
            alpha = _checks.as_number("alpha", self.alpha, SMALLEST_ALPHA, np.finfo(float).max)
            object.__setattr__(self, "alpha", alpha)
        forgetting = _checks.as_number("forgetting", self.forgetting, 0.0, 1.0, open_low=True)
        object.__setattr__(self, "forgetting", forgetting)

    def layout(self, rank: int, value_dim: int, dtype: np.dtype[Any]) -> Layout:
        """The sums of the ridge rule, the lower triangle of R, U, and the α in use (0 before the first pair).

        R alone cannot forget: at low load a stored pair has leverage 1 − 1e-9, and R knows it to 1e-7. From the
        sums, forgetting and merging are exact.
        """
        return {
            **sums_layout(rank, value_dim),
            "inverse": ((rank, rank), FLOAT64),
            "solution": ((rank, value_dim), FLOAT64),
            "alpha": ((), FLOAT64),
        }

    def add(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Update R, U and the sums with a block of pairs."""
        exact, exact_values = features.astype(np.float64, copy=False), values.astype(np.float64, copy=False)
        if state["n_stored"] == 0:
            self._begin(state, exact[0])
        block = self._block()
        kept = {name: array.copy() for name, array in state.items()} if len(exact) > block else {}
        try:
            for start in range(0, len(exact), block):
                self._step(state, exact[start : start + block], exact_values[start : start + block])
        except BaseException:  # a later block failed: take the earlier ones back
            for name, array in kept.items():
                state[name][...] = array
            raise
        n_before, n_after = int(state["n_stored"]), int(state["n_stored"]) + len(exact)
        if _doublings(n_after, exact.shape[1]) > _doublings(n_before, exact.shape[1]):
            # What the first pairs cost in digits, while R spans 1/α to 1/λ, is gained back once there are enough.
            with contextlib.suppress(ValueError):
                refresh(state)

    def _block(self) -> int:
        """Pairs in one step: within it the past must not fade by more than half, which would cost digits."""
        if self.forgetting == 1.0:
            return BLOCK
        return int(min(max(np.log(0.5) / np.log(self.forgetting), 1), BLOCK))

    def _begin(self, state: State, first: NDArray[np.float64]) -> None:
        state["alpha"][...] = alpha = self._alpha_for(first)
        state["inverse"].reshape(-1)[:: len(first) + 1] = 1.0 / alpha
        fixed = constraint(state)
        if fixed is not None:
            state["inverse"][...] = without(state["inverse"], fixed.basis)

    def _alpha_for(self, first: NDArray[np.float64]) -> float:
        return DEFAULT_ALPHA * float(first @ first) / len(first) if self.alpha is None else self.alpha

    def _step(self, state: State, features: Matrix64, values: Matrix64) -> None:
        """Woodbury: with K = R Fᵀ and L Lᵀ = I + F K, R loses (L⁻¹Kᵀ)ᵀ(L⁻¹Kᵀ), and U gains (L⁻¹Kᵀ)ᵀ L⁻¹(V − F U)."""
        past = self.forgetting ** len(features)
        if self.forgetting != 1.0:
            if float(state["alpha"]) < FADED * mean_eigenvalue(state["gram"]):
                renew(state)
            weight = self.forgetting ** (0.5 * np.arange(len(features) - 1, -1, -1))[:, None]
            features, values = features * weight, values * weight
            if past < FADED / RENEWED:  # one step fades a penalty that was just raised
                self._step_by_sums(state, features, values, past)
                return
        # Without this, what rounding leaves of R in fixed directions would grow as the past fades.
        fixed = None if self.forgetting == 1.0 else constraint(state)
        free = features if fixed is None else outside(features, fixed.basis)
        inner, gain = self._inner(state, free, past)
        if not cholesky(inner):  # R is broken, or the block outweighs the penalty by more digits than there are
            self._step_by_sums(state, features, values, past)
            return
        reduced = solve_lower(inner, gain.T)
        errors = solve_lower(inner, values - features @ state["solution"])
        if past != 1.0:
            state["inverse"] /= past
            for name in (*SUMS, "alpha"):
                state[name] *= past
        add_gram(state["inverse"], reduced, -1.0)
        add_product(state["solution"], reduced, errors)
        add_to_sums(state, features, values)

    @staticmethod
    def _step_by_sums(state: State, features: Matrix64, values: Matrix64, past: float) -> None:
        """Store a block in the sums, and renew R and U from them."""
        for name in (*SUMS, "alpha"):
            state[name] *= past
        add_to_sums(state, features, values)
        renew(state)

    @staticmethod
    def _inner(state: State, features: Matrix64, past: float) -> tuple[Matrix64, Matrix64]:
        """Return I + F K and K = R Fᵀ, R before the block with its past faded."""
        gain = symmetric_product(state["inverse"], features.T) / past
        inner = features @ gain
        inner.reshape(-1)[:: len(inner) + 1] += 1.0
        return inner, gain

    def renew(self, state: State) -> None:
        """Renew R and U from the sums."""
        refresh(state)

    of_values: ClassVar[tuple[str, ...]] = (*OF_VALUES, "rounding_cross", "solution")

    def renew_solution(self, state: State) -> None:
        """Solve for U once; R depends on no values."""
        state["solution"][...] = solve_sums(state, float(state["alpha"]))[0]

    def solve(self, state: State) -> tuple[NDArray[Any], Solution]:
        """Return U, which every write has updated."""
        return state["solution"], Solution("updated inverse", self.penalty(state))

    def combine(self, state: State, other: State) -> State:
        """Add the sums. Where None let each memory choose its α, the first one's stays."""
        merged = merge_sums(state, other)
        merged["alpha"] = (state if state["n_stored"] else other)["alpha"].copy()
        merged.update({name: np.zeros_like(state[name]) for name in ("inverse", "solution")})
        return merged

    def for_parts(self) -> Rule:
        """Return the rule that only sums: one solve, when the parts are merged, is enough."""
        return SumsAlone(self.alpha)

    def weights(self, state: State) -> NDArray[Any]:
        """Return U: it is up to date."""
        return state["solution"]

    def penalty(self, state: State) -> float | None:
        """Return α; None before the first pair has chosen it."""
        return float(state["alpha"]) or self.alpha


@dataclass(frozen=True)
class SumsAlone(RecursiveLeastSquares):
    """The sums of recursive least squares and the α of the first pair, without R and U: for parts of the pairs."""

    def layout(self, rank: int, value_dim: int, dtype: np.dtype[Any]) -> Layout:
        """The sums of the ridge rule and α."""
        return {**sums_layout(rank, value_dim), "alpha": ((), FLOAT64)}

    def add(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Add a block to the sums."""
        if state["n_stored"] == 0:
            state["alpha"][...] = self._alpha_for(features[0].astype(np.float64))
        add_to_sums(state, features, values)

    def combine(self, state: State, other: State) -> State:
        """Add the sums; the first part's α stays."""
        return {**merge_sums(state, other), "alpha": (state if state["n_stored"] else other)["alpha"].copy()}

    def renew(self, state: State) -> None:
        """Nothing to renew: parts are merged before anything is recalled."""
        return


def _doublings(n_stored: int, rank: int) -> int:
    """How often the number of pairs has doubled since there was one for every dimension."""
    return (n_stored // rank).bit_length()


def renew(state: State) -> None:
    """Raise α to what rounding cannot overcome, and renew R and U from the sums, in place.

    A forgetting factor fades the penalty with the pairs: in directions that no later key visits, R would grow without
    bound until nothing is left of it but rounding.
    """
    floor = RENEWED * mean_eigenvalue(state["gram"])
    state["alpha"][...] = max(float(state["alpha"]), floor)
    refresh(state)


def refresh(state: State) -> None:
    """Renew R and U from the sums, in place, which leaves behind what rounding has gathered in them.

    Where recalls are fixed, R is P (P G P + αI)⁻¹ P: no later pair changes U in their directions.
    """
    fixed, alpha, inverse = constraint(state), float(state["alpha"]), state["inverse"]
    if alpha:
        floor = RENEWED * mean_eigenvalue(state["gram"])
        for raised in (alpha, max(alpha, floor)):
            information = state["gram"].copy() if fixed is None else free_gram(state["gram"], fixed.basis)
            information.reshape(-1)[:: len(information) + 1] += raised
            if cholesky(information):
                break
        else:
            raise ValueError(NOT_SEMIDEFINITE)
        alpha = raised
        invert_from_cholesky(information)
        inverse = information if fixed is None else without(information, fixed.basis)
    solution, _ = solve_sums(state, alpha)
    state["alpha"][...] = alpha
    state["inverse"][...] = inverse
    state["solution"][...] = solution
