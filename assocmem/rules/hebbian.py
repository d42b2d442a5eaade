"""The Hebbian rule: every pair adds its outer product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from assocmem import _checks
from assocmem.rules._blas import add_product, moderate
from assocmem.rules.base import NEVER_STORED, Layout, Rule, State, effective_number

SAMPLE = 4096  # weights whose size tells that of all: reading all of them would cost as much as storing a pair


@dataclass(frozen=True)
class Hebbian(Rule):
    """Hebbian rule: U ← decay · U + ψ vᵀ / ‖ψ‖² for every pair.

    The cheapest write, O(D v), and the fastest to fill up: recalls carry crosstalk of variance N/D from the start.

    Parameters
    ----------
    decay : float in (0, 1]
        What remains of the weights after each further pair; 1 keeps everything.

    Raises
    ------
    TypeError, ValueError
        If the decay is not such a number.

    Examples
    --------
    >>> from assocmem import AssociativeMemory
    >>> memory = AssociativeMemory(key_dim=8, value_dim=2, rule=Hebbian())
    >>> memory.store([1.0, -2.0, 0.5, 1.5, 0.0, 0.3, -0.7, 2.0], [1.0, -1.0])
    >>> memory.recall([1.0, -2.0, 0.5, 1.5, 0.0, 0.3, -0.7, 2.0]).round(9)
    array([ 1., -1.])
    """

    name: ClassVar[str] = "hebbian"
    decay: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "decay", _checks.as_number("decay", self.decay, 0.0, 1.0, open_low=True))

    def layout(self, rank: int, value_dim: int, dtype: np.dtype[Any]) -> Layout:
        """One array, the weights."""
        return {"weights": ((rank, value_dim), dtype)}

    def add(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Add the outer products of a block, the later ones decayed less."""
        features, values, squares = moderate(features, values)
        scaled = values / squares[:, None]
        if self.decay != 1.0:
            age = np.arange(len(features) - 1, -1, -1)
            scaled *= (self.decay**age)[:, None].astype(values.dtype)
            for name in ("weights", "rounding"):
                state[name] *= self.decay ** len(features)
        add_product(state["weights"], features, scaled)

    def subtract(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Subtract the outer products of a block."""
        features, values, squares = moderate(features, values)
        add_product(state["weights"], features, values / squares[:, None], -1.0)

    of_values: ClassVar[tuple[str, ...]] = ("weights",)

    def exchange(self, state: State, features: NDArray[Any], old: NDArray[Any], new: NDArray[Any]) -> None:
        """Add the outer products with what the values change by."""
        # In float64: the difference of nearly equal values would keep few digits.
        features, change, squares = moderate(features, new.astype(np.float64) - old)
        add_product(state["weights"], features, (change / squares[:, None]).astype(new.dtype))

    def effective_number(self, state: State) -> float:
        """Return the effective number of pairs that weigh decay^age."""
        return effective_number(int(state["n_stored"]), self.decay)

    def magnitude(self, state: State) -> float:
        """Return the mean size of a weight, of a sample of them."""
        weights = state["weights"].reshape(-1)
        return float(np.abs(weights[:: max(1, len(weights) // SAMPLE)]).mean())

    def error_bound(self, state: State, weights: NDArray[Any]) -> float:
        """Bound the rounding of the sum: as independent errors add, a root mean square being at most twice a mean."""
        magnitude = self.magnitude(state)
        if magnitude == 0.0:
            return 0.0
        return float(2 * np.finfo(weights.dtype).eps * float(state["rounding"]) / magnitude)

    def combine(self, state: State, other: State) -> State:
        """Add the weights."""
        return {"weights": state["weights"] + other["weights"]}

    def weights(self, state: State) -> NDArray[Any]:
        """Return the weights: they are the state."""
        return state["weights"]

    def refuse_forget(self) -> None:
        """Refuse with a decay: how much of a pair is left depends on when it was stored."""
        self._refuse_decay("forget")

    def refuse_merge(self) -> None:
        """Refuse with a decay: the result would depend on which memory is the older."""
        self._refuse_decay("merge")

    def verify(self, before: State, after: State) -> None:
        """Refuse where nothing should be left and something is: then other pairs had been stored."""
        left, was = np.abs(after["weights"]).max(), np.abs(before["weights"]).max()
        if after["n_stored"] == 0 and left > np.sqrt(np.finfo(was.dtype).eps) * was:
            raise ValueError(NEVER_STORED)

    def _refuse_decay(self, what: str) -> None:
        if self.decay != 1.0:
            raise ValueError(
                f"Hebbian(decay={self.decay}) cannot {what}: what is left of a pair depends on when it was stored; "
                f"expected decay=1.0; build the memory without a decay"
            )
