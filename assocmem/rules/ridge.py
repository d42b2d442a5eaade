"""The ridge rule: sums of products, solved when asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from assocmem.core import checks
from assocmem.rules.arrays import Shape, Solution
from assocmem.rules.base import Cost, Solved, State
from assocmem.rules.blas import single_noise
from assocmem.rules.gcv import gcv_penalty, gcv_weights
from assocmem.rules.least_squares import (
    LeastSquaresRule,
    SumState,
    best_penalty,
    checked_decay,
    sums_of,
    weigh_by_age,
)
from assocmem.rules.pretending import Pretender, RidgePretender
from assocmem.rules.sums import EPS_SINGLE, Sums, squared_size

# Rounding of G, as a share of the penalty, up to which float32 features are multiplied in single precision: it moves
# the solution by at most as much of itself.
SINGLE_PRECISION = 3e-4
# Rounding of the past as a multiple of what independent errors make it: keys that are stored many times are rounded in
# the same way each time.
REPEATED = 10.0

GCV = "gcv"

ONE_PENALTY = (
    "{rule} has a penalty for every output, and this needs one for all of them; build the memory with "
    'Ridge("gcv"), or ask memory.with_rule(Ridge("gcv"))'
)


@dataclass(frozen=True)
class Ridge(LeastSquaresRule):
    """Ridge regression from the sums G = Σ ψψᵀ and Q = Σ ψvᵀ: U = (G + αI)⁻¹ Q, solved when a recall needs it.

    Order, chunks and shards do not matter, memories merge by addition, pairs are forgotten by subtraction. With
    α = 0 it is the minimum-norm least-squares solution: exact recall of up to D pairs.

    Sums of products square the condition number: pairs are told apart, and recalled exactly, if their keys differ by
    more than about 1e-3 of their length and the lengths by less than about 1e3. Nearer keys blur into one another.

    Parameters
    ----------
    alpha : float, at least 0, or "gcv"
        Absolute penalty on the squared weights, in the features that the memory uses; what scikit-learn's `Ridge`
        calls alpha. "gcv" chooses it by generalised cross-validation whenever it solves: for values that are a
        function of the key with noise. `AssociativeMemory.alpha` shows the choice. With a decay, it predicts the
        error of the next pair from weighted pairs (docs/theory.md, drift).
    query_cosine : float in (0, 1], or None
        Instead of alpha: the cosine of queries to the keys that were stored (counting the bias, if there is one).
        The penalty is then the best one for such queries, N (1 − κ²)/κ² times the mean ‖x‖², at every number N of
        stored pairs, or their effective number. For whitened features.
    decay : float in (0, 1]
        Weight that the past keeps with each further pair: a pair weighs decay^age in both sums, while α stays.
        Directions without recent keys decay to 0. With α = 0 what D pairs can hold
        is recalled exactly whatever it weighs, until its weight is below 1e-10: with a decay, give a penalty.
    per_output : bool
        With "gcv": choose a penalty for every output, as scikit-learn's `alpha_per_target`; `AssociativeMemory.alpha`
        is then (value_dim,). Each recall after a store takes one eigendecomposition. What needs one penalty for all
        outputs is refused: confidence, leave-one-out and diagnose; error_bound is None.

    References
    ----------
    Hoerl and Kennard (1970), "Ridge Regression"; iterated Tikhonov regularisation: Engl, Hanke and Neubauer (1996),
    "Regularization of Inverse Problems", section 5.1. Golub, Heath and Wahba (1979), "Generalized Cross-Validation as a
    Method for Choosing a Good Ridge Parameter".

    Examples
    --------
    >>> import numpy as np
    >>> from assocmem import AssociativeMemory
    >>> rng = np.random.default_rng(0)
    >>> keys, values = rng.standard_normal((100, 32)), rng.standard_normal((100, 3))
    >>> memory = AssociativeMemory(key_dim=32, value_dim=3, rule=Ridge(alpha=0.0))
    >>> memory.store(keys, values)
    >>> bool(np.allclose(memory.recall(keys), values))
    True
    """

    name: ClassVar[str] = "ridge"
    in_place: ClassVar[bool] = True

    alpha: float | str = 0.0
    query_cosine: float | None = None
    decay: float = 1.0
    per_output: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.per_output, bool | np.bool_):
            raise TypeError(f"per_output must be True or False, got {self.per_output!r}")
        object.__setattr__(self, "per_output", bool(self.per_output))
        if self.per_output and self.alpha != GCV:
            raise ValueError(
                f"per_output=True is for penalties that are chosen, got alpha={self.alpha!r}; pass {GCV!r}"
            )
        if self.alpha != GCV:
            if isinstance(self.alpha, str):
                raise ValueError(f"alpha must be a number or {GCV!r}, got {self.alpha!r}")
            object.__setattr__(self, "alpha", checks.as_number("alpha", self.alpha, 0.0, np.finfo(float).max))
        if self.query_cosine is not None:
            cosine = checks.as_number("query_cosine", self.query_cosine, 0.0, 1.0, open_low=True)
            object.__setattr__(self, "query_cosine", cosine)
            if self.alpha != 0.0:
                raise ValueError(
                    f"alpha={self.alpha!r} and query_cosine={cosine} both set the penalty; pass one of them"
                )
        object.__setattr__(self, "decay", checked_decay(self.decay))

    def __repr__(self) -> str:
        chosen = f"alpha={self.alpha!r}" if self.query_cosine is None else f"query_cosine={self.query_cosine}"
        fading = "" if self.decay == 1.0 else f", decay={self.decay}"
        return f"Ridge({chosen}{fading}{', per_output=True' if self.per_output else ''})"

    # ------------------------------------------------------------------------------------------------- contract

    def start(self, shape: Shape) -> SumState:
        """Return the sums of no pairs."""
        if self.query_cosine is not None and not shape.whiten:
            raise ValueError(
                f"query_cosine={self.query_cosine} needs whitened features, for which the law of the best penalty "
                f"holds; build the memory with whiten=True, or give alpha"
            )
        return SumState(shape, Sums.zeros(shape))

    def store(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Add a block to the sums, the later pairs with more weight if the past fades."""
        sums, n_pairs = sums_of(state), len(features)
        past, features, values, roots = weigh_by_age(self.decay, features, values)
        single = self._covers_single(state, past, features)
        with state.changing():
            if past != 1.0:
                sums.fade(past)
            sums.add(features, values, roots=roots, single=single)
            state.n_stored += n_pairs

    def solve(self, state: State) -> Solved:
        """Solve (G + αI) U = Q, or its minimum-norm limit."""
        if self.per_output and state.n_stored:
            weights, penalties, condition = gcv_weights(sums_of(state), state.n_stored, self.decay)
            return Solved(weights, Solution("eigenvectors", cast(Any, penalties), condition=condition))
        return Solved(*sums_of(state).solve(self.alpha_for(state) or 0.0))

    def merge(self, state: State, other: State) -> SumState:
        """Add the sums."""
        total = sums_of(state).plus(sums_of(other))
        return SumState(state.shape, total, n_stored=state.n_stored + other.n_stored)

    # -------------------------------------------------------------------------------------------------- answers

    def alpha_for(self, state: State, n_pairs: int | None = None) -> float | None:
        """Return α, as given or as chosen for what is stored; None where it has yet to be chosen."""
        growth = 1.0 if n_pairs is None else n_pairs / max(state.n_stored, 1)
        if self.alpha == GCV:
            if self.per_output and state.n_stored:
                raise ValueError(ONE_PENALTY.format(rule=self))
            return gcv_penalty(sums_of(state), state.n_stored, self.decay) if state.n_stored else None
        if self.query_cosine is None:
            return float(self.alpha)
        # The trace of G is N · D · mean ‖x‖², with the sum of the weights for N if the past fades.
        return sums_of(state).level * growth * self._penalty_per_pair(state.shape)

    @staticmethod
    @lru_cache(maxsize=64)
    def _penalty_of(query_cosine: float, shape: Shape) -> float:
        return best_penalty(query_cosine, shape.rank, shape)

    def _penalty_per_pair(self, shape: Shape) -> float:
        return self._penalty_of(self.query_cosine, shape)

    def _covers_single(self, state: State, past: float, features: NDArray[Any]) -> bool:
        """Whether the penalty covers what products of a block in single precision would blur.

        Small eigenvalues, on which exact recall at load near 1 stands, need float64 products also of float32 features.
        """
        chosen = self.alpha == GCV or (self.alpha == 0.0 and self.query_cosine is None)
        if features.dtype != np.float32 or len(features) == 1 or chosen:
            return False
        sums, size, rank = sums_of(state), squared_size(features), features.shape[1]
        level = past * sums.level + size / rank
        alpha = float(self.alpha) if self.query_cosine is None else level * self._penalty_per_pair(state.shape)
        if EPS_SINGLE * size / rank > SINGLE_PRECISION * alpha:  # as much as rounds equal eigenvalues is too much
            return False
        room = SINGLE_PRECISION * alpha - REPEATED * past * sums.noise
        # An eighth of the rows tells cheaply where the whole block would not fit either.
        return bool(single_noise(features[::8]) <= room and single_noise(features) <= room)

    def error_bound(self, state: State, weights: NDArray[Any]) -> float | None:
        """Bound the rounding of the solution; None for penalties per output."""
        return None if self.per_output else super().error_bound(state, weights)

    def pretender(self, state: State, weights: NDArray[Any]) -> Pretender:
        """Return the function that pretends to solve with one more pair, at the penalty in use."""
        if self.decay == 1.0:
            return super().pretender(state, weights)
        # The sums fade and the penalty stays: next to them it grows.
        alpha = (self.alpha_for(state) or 0.0) / self.decay
        return RidgePretender.of(sums_of(state), sums_of(state).solve(alpha)[0], alpha, self.decay)

    def tuned(self, query_cosine: float, n_pairs: int, shape: Shape) -> tuple[Ridge, float]:
        """Return the rule that chooses the best penalty for such queries, and that penalty."""
        rule = Ridge() if query_cosine == 1 else Ridge(query_cosine=query_cosine)
        return rule, best_penalty(query_cosine, n_pairs, shape)

    def cost(self, shape: Shape) -> Cost:
        """Return bytes and operations: solving needs a second array of D × D, eigenvectors two more."""
        d, v = shape.rank, shape.value_dim
        return Cost(
            state_bytes=8 * (d * d + d * v + v),
            work_bytes=8 * ((3 if self.per_output else 1) * d * d + 2 * d * v),
            store_operations=d * (d + 1) + 2 * d * v,
            solve_operations=d**3 // 3 + 4 * d**2 * v,
        )

    @property
    def alpha_is_expensive(self) -> bool:
        """Whether it is chosen by cross-validation."""
        return self.alpha == GCV

    @property
    def noise_cosine(self) -> float | None:
        """The cosine of noisy queries that the penalty is chosen for, if it is."""
        return self.query_cosine

    @property
    def adds_variances(self) -> bool:
        """Whether neither the penalty is chosen, since the noise is one, nor the past fades."""
        return self.decay == 1.0 and self.alpha != GCV and self.query_cosine is None
