"""The Hebbian rule: every pair adds its outer product."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from assocmem.core import checks
from assocmem.rules.arrays import NEVER_STORED, ROWS_ROUNDED_ONCE, Layout, Shape, effective_number
from assocmem.rules.base import AdditiveRule, Solved, State
from assocmem.rules.blas import Matrix64, add_product, normalise_extreme_rows
from assocmem.rules.pretending import Pretended, Pretender, normalised_steps

if TYPE_CHECKING:
    from assocmem.laws import Recalled

# Rounding after pairs are removed, as a share of what is left of an output, and what is tolerated in single precision.
TOLERATED_LOSS = {8: 1e-7, 4: 1e-3}


@dataclass
class WeightState(State):
    """Folded weights (rank, value_dim), and what rounding has made of them.

    Parameters
    ----------
    weights : (rank, value_dim)
        Of the memory's dtype.
    n_nonzero : (value_dim,)
        Pairs whose value is not 0, for every output.
    lost : (value_dim,)
        Norm of what the weights of an output have lost to rounding while they were larger than they are now.
    times : float
        How often they have been rounded since.
    """

    weights: NDArray[Any]
    n_nonzero: NDArray[np.float64]
    lost: NDArray[np.float64]
    times: float = 0.0

    @classmethod
    def zeros(cls, shape: Shape) -> WeightState:
        """The weights of an empty memory."""
        v = shape.value_dim
        return cls(shape, np.zeros((shape.rank, v), shape.dtype), np.zeros(v), np.zeros(v))

    def layout(self, arrays: Mapping[str, NDArray[Any]]) -> Layout:
        """Files of format 3 are known by their `rounding`."""
        expected = super().layout(arrays)
        if "rounding" not in arrays:
            return expected
        old: Layout = {name: expected[name] for name in expected if name not in ("n_nonzero", "lost", "times")}
        return {**old, "rounding": ((), np.dtype(np.float64))}

    def fill(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take the arrays of a file, also of format 3."""
        super().fill(arrays)
        if "rounding" in arrays:
            eps = float(np.finfo(self.weights.dtype).eps)
            self.lost[...] = 2 * eps * float(arrays["rounding"]) * math.sqrt(len(self.weights))
            self.n_nonzero[...] = np.where(self.weights.any(axis=0), 2.0**53, 0.0)

    @property
    def lengths(self) -> NDArray[np.float64]:
        """Norm of the weights of every output."""
        units = np.abs(self.weights).max(axis=0, initial=0.0).astype(np.float64)
        units[units == 0.0] = 1.0  # no square leaves the number range
        lengths: NDArray[np.float64] = units * np.sqrt(((self.weights / units) ** 2).sum(axis=0, dtype=np.float64))
        return lengths

    @property
    def noise(self) -> NDArray[np.float64]:
        """Norm of the rounding in the weights of every output, as independent errors add."""
        rounded = float(np.finfo(self.weights.dtype).eps) * math.sqrt(self.times) * self.lengths
        noise: NDArray[np.float64] = np.hypot(self.lost, rounded)
        return noise

    def note(self, values: NDArray[Any], sign: float = 1.0) -> None:
        """Count a change by pairs of these values."""
        self.times += 1.0 + len(values) / ROWS_ROUNDED_ONCE
        self.n_nonzero += sign * np.count_nonzero(values, axis=0)

    def note_losses(self) -> None:
        """Keep the rounding so far, before weights become smaller."""
        self.times += 1.0
        self.lost, self.times = self.noise, 0.0

    def refuse_lost(self, action: str) -> None:
        """Refuse weights that the rounding of larger ones has blurred."""
        gone = self.n_nonzero <= 0.0
        self.weights[:, gone], self.lost[gone] = 0.0, 0.0
        blurred = self.noise > TOLERATED_LOSS[self.weights.itemsize] * self.lengths
        if (blurred & ~gone).any():
            column = int(np.argmax(blurred & ~gone))
            raise ValueError(
                f"the values to {action} are so much larger than the others that their rounding has blurred what "
                f"would remain of output {column}; store the other pairs in a new memory; nothing was changed"
            )


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
                known.lost *= self.decay**n_pairs
                known.times *= self.decay ** (2 * n_pairs)
            add_product(known.weights, features, scaled)
            known.note(values)
            known.n_stored += n_pairs

    def solve(self, state: State) -> Solved:
        """Return the weights: they are the state."""
        return Solved(cast(WeightState, state).weights)

    def remove(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Subtract the outer products of a block."""
        known, n_pairs = cast(WeightState, state), len(features)
        known.note_losses()
        known.n_nonzero -= np.count_nonzero(values, axis=0)
        features, values, squares = normalise_extreme_rows(features, values)
        add_product(known.weights, features, values / squares[:, None], -1.0)
        known.n_stored -= n_pairs

    def exchange(self, state: State, features: NDArray[Any], old: NDArray[Any], new: NDArray[Any]) -> None:
        """Add the outer products with the differences of the values."""
        # In float64: the difference of nearly equal values would keep few digits.
        known = cast(WeightState, state)
        known.note_losses()
        known.n_nonzero += np.count_nonzero(new, axis=0) - np.count_nonzero(old, axis=0)
        features, change, squares = normalise_extreme_rows(features, new.astype(np.float64) - old)
        add_product(known.weights, features, (change / squares[:, None]).astype(new.dtype))
        known.refuse_lost("replace")

    def merge(self, state: State, other: State) -> WeightState:
        """Add the weights."""
        ours, theirs = cast(WeightState, state), cast(WeightState, other)
        return WeightState(
            state.shape,
            weights=ours.weights + theirs.weights,
            n_nonzero=ours.n_nonzero + theirs.n_nonzero,
            lost=np.hypot(ours.lost, theirs.lost),
            times=ours.times + theirs.times + 1.0,
            n_stored=ours.n_stored + theirs.n_stored,
        )

    def check_removed(self, before: State, after: State) -> None:
        """Refuse where nothing should be left and something is: then other pairs had been stored."""
        left, was = (np.abs(cast(WeightState, state).weights).max() for state in (after, before))
        if after.n_stored == 0 and left > np.sqrt(np.finfo(was.dtype).eps) * was:
            raise ValueError(NEVER_STORED)
        if after.n_stored:
            cast(WeightState, after).refuse_lost("forget")

    def law(self, load: float, kappa: float, gap: float, penalty: float) -> tuple[Recalled, Any] | None:
        """Return the law of crosstalk; None with a decay."""
        from assocmem import laws  # not with the package: scipy.special

        return (laws.hebbian_law(load, kappa, gap), 1.0) if self.decay == 1.0 else None

    def pretender(self, state: State, weights: NDArray[Any]) -> Pretender:
        """Return the function that pretends to add the outer product of a pair, while the past fades once more."""
        faded = self.decay * weights.astype(np.float64)

        def pretend(features: Matrix64) -> Pretended:
            return Pretended(faded, normalised_steps(features), np.zeros((len(features), faded.shape[1])))

        return pretend

    def n_effective(self, state: State) -> float:
        """Return the effective number of pairs of weight decay^age."""
        return effective_number(state.n_stored, self.decay)

    def error_bound(self, state: State, weights: NDArray[Any]) -> float:
        """Bound the rounding of the sum, as independent errors add."""
        known = cast(WeightState, state)
        length = float(np.linalg.norm(known.lengths / (known.lengths.max(initial=0.0) or 1.0)))
        noise = float(np.linalg.norm(known.noise / (known.lengths.max(initial=0.0) or 1.0)))
        return 2 * noise / length if length else 0.0

    @property
    def fading(self) -> str | None:
        """The decay, unless all pairs weigh the same."""
        return None if self.decay == 1.0 else f"decay={self.decay}"
