"""The Hebbian rule: every pair adds its outer product."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from assocmem.core import checks
from assocmem.rules.arrays import NEVER_STORED, Shape, effective_number, roundings
from assocmem.rules.base import AdditiveRule, Solved, State
from assocmem.rules.blas import add_product, normalise_extreme_rows

if TYPE_CHECKING:
    from assocmem.laws import Recalled

SAMPLE = 4096  # weights whose size tells that of all: reading all of them would cost as much as storing a pair


@dataclass
class WeightState(State):
    """Folded weights (rank, value_dim), and the mean size of a weight times how often it has been rounded."""

    weights: NDArray[Any]
    rounding: float = 0.0

    @classmethod
    def zeros(cls, shape: Shape) -> WeightState:
        """The weights of an empty memory."""
        return cls(shape, np.zeros((shape.rank, shape.value_dim), shape.dtype))

    def note_rounding(self, n_rows: int) -> None:
        """Add one rounding for every time that the weights were changed, as independent errors add."""
        self.rounding = math.hypot(self.rounding, roundings(n_rows) * self.magnitude)

    @property
    def magnitude(self) -> float:
        """Mean size of a weight, from a sample."""
        weights = self.weights.reshape(-1)
        return float(np.abs(weights[:: max(1, len(weights) // SAMPLE)]).mean())


@dataclass(frozen=True)
class Hebbian(AdditiveRule):
    """Hebbian rule: U ← decay · U + ψ vᵀ / ‖ψ‖² for every pair.

    The cheapest write, O(D v), and the fastest to fill up: recalls carry crosstalk of variance N/D from the start.

    Parameters
    ----------
    decay : float in (0, 1]
        Weight that the past keeps with each further pair; 1 keeps everything.

    Examples
    --------
    >>> from assocmem import AssociativeMemory
    >>> memory = AssociativeMemory(key_dim=8, value_dim=2, rule=Hebbian())
    >>> memory.store([1.0, -2.0, 0.5, 1.5, 0.0, 0.3, -0.7, 2.0], [1.0, -1.0])
    >>> memory.recall([1.0, -2.0, 0.5, 1.5, 0.0, 0.3, -0.7, 2.0]).round(9)
    array([ 1., -1.])
    """

    name: ClassVar[str] = "hebbian"
    in_place: ClassVar[bool] = True

    decay: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "decay", checks.as_number("decay", self.decay, 0.0, 1.0, open_low=True))

    def start(self, shape: Shape) -> WeightState:
        """Return weights of 0."""
        return WeightState.zeros(shape)

    def store(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Add the outer products of a block, the later ones decayed less."""
        known, n_pairs = cast(WeightState, state), len(features)
        features, values, squares = normalise_extreme_rows(features, values)
        scaled = values / squares[:, None]
        if self.decay != 1.0:
            age = np.arange(n_pairs - 1, -1, -1)
            scaled *= (self.decay**age)[:, None].astype(values.dtype)
        with state.changing():
            if self.decay != 1.0:
                known.weights *= self.decay**n_pairs
                known.rounding *= self.decay**n_pairs
            add_product(known.weights, features, scaled)
            known.note_rounding(n_pairs)
            known.n_stored += n_pairs

    def solve(self, state: State) -> Solved:
        """Return the weights: they are the state."""
        return Solved(cast(WeightState, state).weights)

    def remove(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Subtract the outer products of a block."""
        known, n_pairs = cast(WeightState, state), len(features)
        features, values, squares = normalise_extreme_rows(features, values)
        add_product(known.weights, features, values / squares[:, None], -1.0)
        known.note_rounding(n_pairs)
        known.n_stored -= n_pairs

    def exchange(self, state: State, features: NDArray[Any], old: NDArray[Any], new: NDArray[Any]) -> None:
        """Add the outer products with the differences of the values."""
        # In float64: the difference of nearly equal values would keep few digits.
        known, n_pairs = cast(WeightState, state), len(features)
        features, change, squares = normalise_extreme_rows(features, new.astype(np.float64) - old)
        add_product(known.weights, features, (change / squares[:, None]).astype(new.dtype))
        known.note_rounding(n_pairs)

    def merge(self, state: State, other: State) -> WeightState:
        """Add the weights."""
        ours, theirs = cast(WeightState, state), cast(WeightState, other)
        merged = WeightState(state.shape, ours.weights + theirs.weights, n_stored=ours.n_stored + theirs.n_stored)
        merged.rounding = math.hypot(ours.rounding, theirs.rounding)
        merged.note_rounding(0)
        return merged

    def check_removed(self, before: State, after: State) -> None:
        """Refuse where nothing should be left and something is: then other pairs had been stored."""
        left, was = (np.abs(cast(WeightState, state).weights).max() for state in (after, before))
        if after.n_stored == 0 and left > np.sqrt(np.finfo(was.dtype).eps) * was:
            raise ValueError(NEVER_STORED)

    def law(self, load: float, kappa: float, gap: float, penalty: float) -> tuple[Recalled, Any] | None:
        """Return the law of crosstalk; None with a decay."""
        from assocmem import laws  # not with the package: scipy.special

        return (laws.hebbian_law(load, kappa, gap), 1.0) if self.decay == 1.0 else None

    def n_effective(self, state: State) -> float:
        """Return the effective number of pairs of weight decay^age."""
        return effective_number(state.n_stored, self.decay)

    def error_bound(self, state: State, weights: NDArray[Any]) -> float:
        """Bound the rounding of the sum: as independent errors add, a root mean square being at most twice a mean."""
        known = cast(WeightState, state)
        magnitude = known.magnitude
        if magnitude == 0.0:
            return 0.0
        return float(2 * np.finfo(weights.dtype).eps * known.rounding / magnitude)

    @property
    def fading(self) -> str | None:
        """The decay, unless all pairs weigh the same."""
        return None if self.decay == 1.0 else f"decay={self.decay}"
