"""The delta rule: every pair corrects what the weights recall for its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from assocmem import _checks
from assocmem.rules._blas import add_outer, add_product, moderate, solve_lower
from assocmem.rules.base import Layout, Rule, State

# Pairs that are done together. More makes the products larger (faster per operation) and the B x B system that
# replaces the sequence dearer; between 64 and 256 the time per pair is flat.
BLOCK = 128


@dataclass(frozen=True)
class DeltaRule(Rule):
    """Delta rule (normalised LMS; Kaczmarz at rate 1): U ← U + rate · ψ (v − Uᵀψ)ᵀ / ‖ψ‖², pair after pair.

    Every stored pair is recalled right at once, and slowly spoiled by later ones: the recent past weighs most.
    Blocks are done exactly as if pair after pair: with G = F Fᵀ and β = rate / diag(G), the corrections E solve
    (I + diag(β) tril(G, −1)) E = diag(β) (V − F U), and U ← U + Fᵀ E.

    Parameters
    ----------
    rate : float in (0, 2]
        Share of the error that a pair corrects.

    Raises
    ------
    TypeError, ValueError
        If the rate is not such a number.

    References
    ----------
    Widrow and Hoff (1960), "Adaptive Switching Circuits"; Kaczmarz (1937).

    Examples
    --------
    >>> from assocmem import AssociativeMemory
    >>> memory = AssociativeMemory(key_dim=2, value_dim=1, rule=DeltaRule(rate=1.0))
    >>> memory.store([[1.0, 2.0], [-1.0, 1.0]], [[3.0], [4.0]])
    >>> memory.recall([-1.0, 1.0]).round(9)
    array([4.])
    """

    name: ClassVar[str] = "delta"
    rate: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", _checks.as_number("rate", self.rate, 0.0, 2.0, open_low=True))

    def layout(self, rank: int, value_dim: int, dtype: np.dtype[Any]) -> Layout:
        """One array, the weights."""
        return {"weights": ((rank, value_dim), dtype)}

    def add(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Correct the weights with one pair after the other, a block of pairs at a time."""
        weights = state["weights"]
        features, values, squares = moderate(features, values)
        if len(features) == 1:  # the rule as it is written, without the cost of a block
            step = self.rate / float(squares[0])
            add_outer(weights, features[0], step * (values[0] - features[0] @ weights))
            return
        for start in range(0, len(features), BLOCK):
            block = features[start : start + BLOCK]
            overlaps = block @ block.T
            step = (self.rate / overlaps.diagonal())[:, None].astype(block.dtype)
            errors = values[start : start + BLOCK] - block @ weights
            corrections = solve_lower(step * overlaps, step * errors, unit_diagonal=True)
            add_product(weights, block, corrections)

    def subtract(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Unreachable: `refuse_forget` comes first."""
        raise NotImplementedError

    def combine(self, state: State, other: State) -> State:
        """Unreachable: `refuse_merge` comes first."""
        raise NotImplementedError

    def weights(self, state: State) -> NDArray[Any]:
        """Return the weights: they are the state."""
        return state["weights"]

    def effective_number(self, state: State) -> None:
        """None: what is left of a pair depends on the keys that came after it."""
        return

    def refuse_forget(self) -> None:
        """Refuse: each correction depends on all pairs before it, and none is kept."""
        raise ValueError(
            "the delta rule cannot forget: each correction depended on all pairs before it, and none is kept; "
            "expected a rule whose state is a sum; build the memory with rule='ridge', 'rls' or 'hebbian'"
        )

    def refuse_merge(self) -> None:
        """Refuse: the result depends on the order of the pairs."""
        raise ValueError(
            "the delta rule cannot merge: its weights depend on the order of the pairs; "
            "expected a rule whose state is a sum; build the memories with rule='ridge', 'rls' or 'hebbian'"
        )
