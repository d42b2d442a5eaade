"""The base of the rules that keep sums: "ridge" and "rls"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assocmem.core import checks
from assocmem.rules.arrays import Shape, effective_number
from assocmem.rules.base import AdditiveRule, State
from assocmem.rules.pretending import Pretender, RidgePretender
from assocmem.rules.sums import Sums

if TYPE_CHECKING:
    from assocmem.laws import Recalled


@dataclass
class SumState(State):
    """A state that keeps the sums over all pairs."""

    total: Sums

    @property
    def sums(self) -> Sums:
        """The sums over all pairs."""
        return self.total

    @property
    def is_empty(self) -> bool:
        """Whether there are neither pairs nor constraints."""
        return self.n_stored == 0 and not len(self.total.edits)


class LeastSquaresRule(AdditiveRule):
    """A rule that keeps the sums, and a factor by which the past fades."""

    decay: float

    @property
    def fading(self) -> str | None:
        """The decay, unless all pairs weigh the same."""
        return None if self.decay == 1.0 else f"decay={self.decay}"

    def remove(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Subtract a block from the sums."""
        sums_of(state).add(features, values, -1.0)
        state.n_stored -= len(features)

    def n_effective(self, state: State) -> float:
        """Return the effective number of pairs of weight decay^age."""
        return effective_number(state.n_stored, self.decay)

    def error_bound(self, state: State, weights: NDArray[Any]) -> float | None:
        """Bound the rounding of the solution by residual, rounding of the sums and smallest eigenvalue."""
        return sums_of(state).error_bound(weights, self.alpha_for(state) or 0.0, state.n_stored)

    def pretender(self, state: State, weights: NDArray[Any]) -> Pretender:
        """Return the function that pretends to solve with one more pair, at a penalty that fades as the sums do."""
        return RidgePretender.of(sums_of(state), weights, self.alpha_for(state) or 0.0, self.decay)

    def law(self, load: float, kappa: float, gap: float, penalty: float) -> tuple[Recalled, Any] | None:
        """Return the law of ridge regression; None where the past fades."""
        from assocmem import laws  # not with the package: scipy.special

        return (laws.ridge_law(load, penalty, kappa, gap), 1.0) if self.decay == 1.0 else None


def sums_of(state: State) -> Sums:
    """The sums of a state that a rule of this kind has started."""
    assert state.sums is not None
    return state.sums


def weigh_by_age(
    decay: float, features: NDArray[Any], values: NDArray[Any]
) -> tuple[float, NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """The factor by which a block fades the past, its pairs times roots of their weights decay^age, and these roots.

    No roots if nothing fades.
    """
    if decay == 1.0:
        return 1.0, features, values, None
    roots = decay ** (0.5 * np.arange(len(features) - 1, -1, -1))
    return decay ** len(features), features * roots[:, None], values * roots[:, None], roots


def checked_decay(value: float) -> float:
    """Return a decay in (0, 1], or refuse."""
    return checks.as_number("decay", value, 0.0, 1.0, open_low=True)


def best_penalty(query_cosine: float, n_pairs: int, shape: Shape) -> float:
    """The penalty, by D and the mean ‖x‖², with which n pairs are best recalled by queries of a cosine."""
    from assocmem import laws  # not with the package: scipy.special

    known = (query_cosine, shape.key_dim, shape.expansion)
    kappa, gap = laws.feature_cosine(*known), laws.feature_cosine_gap(*known)
    return min(float(laws.best_penalty(n_pairs / shape.rank, kappa, gap)), 1e300)
