"""The ridge rule: sums of products, solved when asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from assocmem import _checks
from assocmem.rules._solve import Solution, gcv_penalty, mean_eigenvalue
from assocmem.rules.base import Layout, State
from assocmem.rules.sums import SUMS, SumRule, add_to_sums, merge_sums, solve_sums, squared_size, sums_layout

# Penalty, as a share of the mean eigenvalue, from which float32 features are multiplied in single precision: rounding
# there moves G by about 3e-7 of its mean eigenvalue, and so the solution by at most 3e-4 of itself.
SINGLE_PRECISION = 1e-3

GCV = "gcv"


@dataclass(frozen=True)
class Ridge(SumRule):
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
        function of the key with noise. `AssociativeMemory.alpha` shows the choice.
    query_cosine : float in (0, 1], or None
        Instead of alpha: the cosine of queries to the keys that were stored (counting the bias, if there is one).
        The penalty is then the best one for such queries, N (1 − κ²)/κ² times the mean ‖x‖², at every number N of
        stored pairs, or their effective number. For whitened features.
    forgetting : float in (0, 1]
        Weight that the past keeps with each further pair: a pair weighs forgetting^age in both sums, while α stays. So
        the weights lean towards 0, not towards noise, where no recent key points. With α = 0 what D pairs can hold
        is recalled exactly whatever it weighs, until its weight is below 1e-10: for forgetting give a penalty.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not such a number, both are given, or the features are not whitened.

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
    alpha: float | str = 0.0
    query_cosine: float | None = None
    forgetting: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha != GCV:
            if isinstance(self.alpha, str):
                raise ValueError(f"alpha is {self.alpha!r}; expected a number or {GCV!r}; check the spelling")
            object.__setattr__(self, "alpha", _checks.as_number("alpha", self.alpha, 0.0, np.finfo(float).max))
        if self.query_cosine is not None:
            cosine = _checks.as_number("query_cosine", self.query_cosine, 0.0, 1.0, open_low=True)
            object.__setattr__(self, "query_cosine", cosine)
            if self.alpha != 0.0:
                raise ValueError(
                    f"alpha={self.alpha!r} and query_cosine={cosine} are both given; expected one, since each "
                    f"chooses the penalty; drop the other"
                )
        forgetting = _checks.as_number("forgetting", self.forgetting, 0.0, 1.0, open_low=True)
        object.__setattr__(self, "forgetting", forgetting)

    def __repr__(self) -> str:
        chosen = f"alpha={self.alpha!r}" if self.query_cosine is None else f"query_cosine={self.query_cosine}"
        return f"Ridge({chosen})" if self.forgetting == 1.0 else f"Ridge({chosen}, forgetting={self.forgetting})"

    def for_features(self, key_dim: int, expansion: int, whiten: bool) -> Ridge:
        """With a query cosine, return a rule that knows what it means for features of these sizes."""
        if self.query_cosine is None:
            return self
        if not whiten:
            raise ValueError(
                f"query_cosine={self.query_cosine} is given for features that are not whitened; expected whiten=True, "
                f"for which the law of the best penalty holds; use it, or give alpha"
            )
        from assocmem.laws import (  # not with the package: scipy.special
            best_penalty,
            feature_cosine,
            feature_cosine_gap,
        )

        cosine = (self.query_cosine, key_dim, expansion)
        bound = replace(self)
        # Not a field: two memories of one configuration have equal rules, and files need not hold it.
        noise = float(best_penalty(1.0, feature_cosine(*cosine), feature_cosine_gap(*cosine)))
        object.__setattr__(bound, "_penalty_per_pair", noise)
        return bound

    def penalty(self, state: State) -> float | None:
        """Return α, as given or as chosen for what is stored; None where it has yet to be chosen."""
        if self.alpha == GCV:
            return self._gcv(state) if state["n_stored"] else None
        if self.query_cosine is None:
            return float(self.alpha)
        # The trace of G is N · D · mean ‖x‖², with the sum of the weights for N if the past is forgotten.
        return mean_eigenvalue(state["gram"]) * float(self._penalty_per_pair)  # type: ignore[attr-defined]

    @property
    def penalty_is_dear(self) -> bool:
        """Whether it is chosen by cross-validation."""
        return self.alpha == GCV

    def _gcv(self, state: State) -> float:
        sums = state["gram"], state["cross"], float(state["squared_values"].sum())
        return gcv_penalty(*sums, float(state["n_stored"]), self.effective_number(state))

    def layout(self, rank: int, value_dim: int, dtype: np.dtype[Any]) -> Layout:
        """The sums over all pairs."""
        return sums_layout(rank, value_dim)

    def add(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Add a block to the sums, the later pairs with more weight if the past is forgotten."""
        if self.forgetting != 1.0:
            for name in SUMS:
                state[name] *= self.forgetting ** len(features)
            weight = self.forgetting ** (0.5 * np.arange(len(features) - 1, -1, -1))[:, None]
            features, values = features * weight, values * weight
        add_to_sums(state, features, values, single=self._covers_single(state, features))

    def _covers_single(self, state: State, features: NDArray[Any]) -> bool:
        """Whether the penalty covers what products in single precision would blur.

        Small eigenvalues, on which exact recall at load near 1 stands, need float64 products also of float32 features.
        """
        if features.dtype != np.float32 or len(features) == 1 or self.alpha == GCV:
            return False
        if self.query_cosine is not None:
            return bool(self._penalty_per_pair >= SINGLE_PRECISION)  # type: ignore[attr-defined]
        level = mean_eigenvalue(state["gram"]) + squared_size(features) / features.shape[1]
        return bool(float(self.alpha) >= SINGLE_PRECISION * level)

    def combine(self, state: State, other: State) -> State:
        """Add the sums."""
        return merge_sums(state, other)

    def weights(self, state: State) -> NDArray[Any]:
        """Solve (G + αI) U = Q, or its minimum-norm limit."""
        return self.solve(state)[0]

    def solve(self, state: State) -> tuple[NDArray[Any], Solution]:
        """Solve (G + αI) U = Q, or its minimum-norm limit, and say how."""
        return solve_sums(state, self.penalty(state) or 0.0)

    def refuse_noise(self) -> None:
        """Refuse noise beside a penalty that is chosen, since the noise is one, and beside a forgetting factor."""
        if self.forgetting != 1.0:
            raise ValueError(
                f"noise is given to {self}, whose past fades; expected forgetting=1.0; store without noise, or build "
                f"the memory without forgetting"
            )
        if self.alpha == GCV or self.query_cosine is not None:
            raise ValueError(
                f"noise is given to {self}, which chooses a penalty; expected a number for alpha, since noise is "
                f"itself the penalty for noisy keys; use Ridge(), or store without noise"
            )

    def add_variances(self, state: State, variances: NDArray[np.float64]) -> None:
        """Add the variances to the diagonal of G: Σ E ψψᵀ = Σ (Eψ)(Eψ)ᵀ + Σ Cov ψ (docs/theory.md)."""
        gram = state["gram"]
        gram.reshape(-1)[:: len(gram) + 1] += variances
