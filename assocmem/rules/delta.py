"""The delta rule: every pair corrects what the weights recall for its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from assocmem.core import checks
from assocmem.rules.arrays import Shape
from assocmem.rules.base import Cost, Rule, Solved, State
from assocmem.rules.blas import Matrix64, add_outer, add_product, normalise_extreme_rows, solve_lower
from assocmem.rules.hebbian import WeightState
from assocmem.rules.pretending import Pretended, Pretender, normalised_steps

if TYPE_CHECKING:
    from assocmem.laws import Recalled

# Pairs that are done together. More makes the products larger (faster per operation) and the B x B system that
# replaces the sequence dearer; between 64 and 256 the time per pair is flat.
BLOCK = 128

# Ages over which the error is averaged: Gauss–Legendre nodes, the error being a smooth function of age but for the
# newest pairs, at which the nodes crowd when squared.
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(64)
_AGES, _SHARES = ((_NODES + 1) / 2) ** 2, _NODE_WEIGHTS * (_NODES + 1) / 2


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
    in_place: ClassVar[bool] = True

    rate: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", checks.as_number("rate", self.rate, 0.0, 2.0, open_low=True))

    def start(self, shape: Shape) -> WeightState:
        """Return weights of 0."""
        return WeightState.zeros(shape)

    def store(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Correct the weights with one pair after the other, a block of pairs at a time."""
        weights, n_pairs = cast(WeightState, state).weights, len(features)
        features, values, squares = normalise_extreme_rows(features, values)
        if n_pairs == 1:  # the rule as it is written, without the cost of a block
            step = self.rate / float(squares[0])
            correction = step * (values[0] - features[0] @ weights)
            with state.changing():
                add_outer(weights, features[0], correction)
                state.n_stored += 1
            return
        with state.changing():
            for start in range(0, n_pairs, BLOCK):
                block = features[start : start + BLOCK]
                overlaps = block @ block.T
                step = (self.rate / overlaps.diagonal())[:, None].astype(block.dtype)
                errors = values[start : start + BLOCK] - block @ weights
                corrections = solve_lower(step * overlaps, step * errors, unit_diagonal=True)
                add_product(weights, block, corrections)
            state.n_stored += n_pairs

    def solve(self, state: State) -> Solved:
        """Return the weights: they are the state."""
        return Solved(cast(WeightState, state).weights)

    def law(self, load: float, kappa: float, gap: float, penalty: float) -> tuple[Recalled, Any]:
        """Return the law of pairs of all ages."""
        from assocmem import laws  # not with the package: scipy.special

        return laws.delta_law(load, load * _AGES, self.rate, kappa, gap), _SHARES

    def pretender(self, state: State, weights: NDArray[Any]) -> Pretender:
        """Return the function that pretends to correct the weights with one more pair."""
        exact = weights.astype(np.float64)

        def pretend(features: Matrix64) -> Pretended:
            return Pretended(exact, normalised_steps(features, self.rate), features @ exact)

        return pretend

    def cost(self, shape: Shape) -> Cost:
        """Return bytes and operations: the error, and the correction."""
        numbers = shape.rank * shape.value_dim
        return Cost(numbers * shape.dtype.itemsize, store_operations=4 * numbers)

    def n_effective(self, state: State) -> None:
        """None: the weight of a pair depends on the keys that came after it."""
        return
