"""What a memory knows of its own errors: leverage, the deviation of a recall, leave-one-out residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from assocmem import _checks
from assocmem._core import MemoryCore, Progress, report
from assocmem.rules._blas import Matrix64, cholesky, cholesky_solve, invert_from_cholesky, symmetric_product
from assocmem.rules._solve import LARGEST_RATIO, NOT_SEMIDEFINITE, mean_eigenvalue, solve_ridge
from assocmem.rules.base import FIXED, State
from assocmem.rules.constraints import constraint, free_gram, outside

# The smallest penalty, as a share of the mean eigenvalue of G, with which leverages are computed: with less of it
# Cholesky would measure rounding in the directions that hold nothing.
SMALLEST_PENALTY = 1e-6
# Below, differences of sums have lost their digits, and what they tend to as α/s → 0 is the more accurate.
SMALLEST_FREEDOM = 1e-3
SMALLEST_RESIDUAL = 1e-10  # of Σ v²
INTERPOLATED = 1e-7  # 1 − h of a pair that only its own weights hold
NOT_STORED = 1e-6  # leverage above 1 that rounding does not explain


@dataclass(frozen=True)
class Regularised:
    """G + αI, factorised, in units of the mean eigenvalue of G: what leverages are computed with."""

    factor: Matrix64
    level: float
    penalty: float  # α / level, at least SMALLEST_PENALTY

    @classmethod
    def of(cls, gram: Matrix64, alpha: float) -> Regularised:
        """Factorise, with a larger penalty where rounding makes that necessary."""
        level = mean_eigenvalue(gram)
        for raised in (1.0, 10.0, 100.0, 1000.0):
            penalty = raised * min(max(alpha / level, SMALLEST_PENALTY), LARGEST_RATIO)
            factor = gram / level
            factor.reshape(-1)[:: len(gram) + 1] += penalty
            if cholesky(factor):
                return cls(factor, level, penalty)
        raise ValueError(NOT_SEMIDEFINITE)

    def solve(self, features: NDArray[Any]) -> Matrix64:
        """Return level · (G + αI)⁻¹ Fᵀ as rows, (B, D), for features F (B, D)."""
        return np.asarray(cholesky_solve(self.factor, features.astype(np.float64, copy=False).T).T)


@dataclass(frozen=True)
class Deviation:
    """The predictive standard deviation of a recall: √(fixed + share · s(x)) for every output.

    s(x) is 1 + h(x) for values observed with noise, α ‖(G + αI)⁻¹ψ‖² for pairs that are interpolated, and ‖ψ‖² for
    stored values asked for with noisy keys.
    """

    regularised: Regularised
    kind: str
    share: NDArray[np.float64]
    fixed: NDArray[np.float64]

    def __call__(self, features: NDArray[Any]) -> Matrix64:
        """Deviations (B, v) of the recalls of folded features (B, D)."""
        exact = features.astype(np.float64, copy=False)
        if self.kind == "noisy keys":
            shape = np.einsum("ij,ij->i", exact, exact)
        else:
            solved = self.regularised.solve(exact)
            if self.kind == "interpolated":
                shape = np.einsum("ij,ij->i", solved, solved) * (self.regularised.penalty / self.regularised.level)
            else:
                shape = 1 + np.einsum("ij,ij->i", exact, solved) / self.regularised.level
        return np.asarray(np.sqrt(self.fixed + shape[:, None] * self.share))


def noise_deviation(state: State, alpha: float) -> Deviation:
    """Deviation of values observed under keys like the stored ones: σ̂² (1 + h), σ̂² = RSS / (N − df) per output.

    Averaged over such keys, σ̂² (1 + h) is the score of generalised cross-validation, which tends to the squared error
    whatever the values are. As α → 0 with fewer pairs than dimensions, RSS and N − df vanish together, and what is left
    is the part of ψ outside the span of the stored features, times τ̂² = tr(Uᵀ G⁺ U) / tr G⁺ (docs/theory.md).
    """
    regularised = Regularised.of(state["gram"], alpha)
    factor, penalty = regularised.factor, regularised.penalty
    # In units in which G has the mean eigenvalue 1 and weights and values are of one size.
    targets = state["cross"] / np.sqrt(regularised.level)
    weights = cholesky_solve(factor, targets)
    inverse = factor.copy()
    invert_from_cholesky(inverse)
    n, rank = float(state["n_stored"]), len(factor)
    freedom = n - rank + penalty * float(inverse.trace())
    interpolates = alpha < regularised.level * SMALLEST_PENALTY and freedom < 1
    if freedom < SMALLEST_FREEDOM:
        # All N pairs are independent; of their eigenvalues rounding leaves more than of N − D + α tr (G + αI)⁻¹.
        spectrum = scipy.linalg.eigvalsh(state["gram"] / regularised.level, lower=True, check_finite=False)
        freedom = float((penalty / (spectrum[rank - int(n) :] + penalty)).sum())
    direct = state["squared_values"] - (weights * targets).sum(axis=0) - penalty * (weights**2).sum(axis=0)
    least = penalty**2 * (weights * cholesky_solve(factor, weights)).sum(axis=0)
    residual = np.where(direct > SMALLEST_RESIDUAL * state["squared_values"], direct, least)
    kind = "interpolated" if interpolates else "noise"
    return Deviation(regularised, kind, residual / freedom, np.zeros_like(residual))


def noisy_key_deviation(state: State, alpha: float, kappa: float, gap: float) -> Deviation:
    """Deviation of stored values recalled with keys whose features have cosine κ to the stored ones; gap is 1 − κ.

    The features of such a key are κψ and isotropic noise of variance (1 − κ²)‖ψ‖²/D a coordinate (docs/theory.md):
    E (v − ŷ)² = Σ (v − κ Uᵀψ)²/N + (1 − κ²) ‖ψ‖² ‖u‖² / D for every output.
    """
    regularised = Regularised.of(state["gram"], alpha)
    targets = state["cross"] / np.sqrt(regularised.level)
    weights = cholesky_solve(regularised.factor, targets)
    fitted, squares = (weights * targets).sum(axis=0), (weights**2).sum(axis=0)
    unfit = state["squared_values"] - kappa * (2 - kappa) * fitted - kappa**2 * regularised.penalty * squares
    share = gap * (1 + kappa) * squares / (regularised.level * len(weights))
    return Deviation(regularised, "noisy keys", share, np.maximum(unfit, 0.0) / float(state["n_stored"]))


class Confidence(MemoryCore):
    """What a memory knows of its own errors."""

    def leverage(self, keys: ArrayLike) -> Any:
        """Leverage h = ψᵀ (G + αI)⁻¹ ψ of keys: how little of a key is in what was stored.

        Near 0 for a key like many stored ones, at most 1 for a stored key, ‖ψ‖²/α for a direction never met. Under
        rule "ridge" with a penalty below 1e-6 of the mean eigenvalue of G, 0 included, 1e-6 of it is taken: the
        limit α → 0 is infinite for every key outside the span of the stored ones, and orders nothing.

        One factorisation for every state of the memory, two triangular solves a key; under rule "rls" one product
        with the inverse that it keeps.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            As in `recall`.

        Returns
        -------
        (N,) float64, or one number

        Raises
        ------
        TypeError, ValueError
            If the keys are unusable, nothing is stored, or the rule keeps no Gram matrix.

        References
        ----------
        Hoaglin and Welsch (1978), "The Hat Matrix in Regression and ANOVA".

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> from assocmem import AssociativeMemory
        >>> memory = AssociativeMemory(8, 1)
        >>> stored = rng.standard_normal((20, 8))
        >>> memory.store(stored, rng.standard_normal((20, 1)))
        >>> bool(memory.leverage(stored).max() <= 1 < memory.leverage(rng.standard_normal(8)))
        True
        """
        self._refuse_without_gram("leverage")
        table, single = _checks.as_table("keys", keys, self.key_dim)
        self._check_keys(table)
        with self._guard:
            self._refuse_empty()
            inverse = self._inverse()
            regularised = None if inverse is not None else self._regularised()
        leverages = np.empty(len(table))
        for chunk, features in self._features_of(table):
            exact = features.astype(np.float64, copy=False)
            if inverse is not None:
                leverages[chunk] = np.einsum("ij,ji->i", exact, symmetric_product(inverse, exact.T))
            elif regularised is not None:
                leverages[chunk] = np.einsum("ij,ij->i", exact, regularised.solve(exact)) / regularised.level
        return leverages[0] if single else leverages

    def leave_one_out(self, keys: ArrayLike, values: ArrayLike) -> NDArray[Any]:
        """Errors with which stored pairs would be recalled had they never been stored: (v − ŷ) / (1 − h).

        Each pair by itself, at the penalty in use. Exact; where the pair is interpolated, v − ŷ and 1 − h are both 0
        and their quotient is cᵀU / ‖c‖² with c = (G + αI)⁻¹ψ.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Exactly what was stored.
        values : (N, value_dim) or (value_dim,)
            Exactly what was stored.

        Returns
        -------
        (N, value_dim) or (value_dim,) float64

        Raises
        ------
        TypeError, ValueError
            If keys or values are unusable, a key was never stored (where its leverage shows it), the rule keeps no
            Gram matrix, or weights the past down.

        References
        ----------
        Allen (1974), "The Relationship between Variable Selection and Data Augmentation and a Method for Prediction";
        for the interpolated pairs docs/theory.md.

        Examples
        --------
        >>> from assocmem import AssociativeMemory
        >>> memory = AssociativeMemory(2, 1)
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]])
        >>> residual = memory.leave_one_out([2.0, 1.0], [2.0])
        >>> memory.forget([2.0, 1.0], [2.0])
        >>> bool(np.allclose(residual, 2.0 - memory.recall([2.0, 1.0])))
        True
        """
        self._refuse_without_gram("leave-one-out residuals")
        self._refuse_faded("leave-one-out residuals")
        _, single = _checks.as_table("keys", keys, self.key_dim)
        key_table, value_table = self._checked_pairs(keys, values)
        residuals = np.empty(value_table.shape)
        with self._writing:
            self._refuse_empty()
            self._refuse_noisy("leave-one-out residuals")
            alpha = self.alpha or 0.0
            weights, gram, fixed = self.rule.weights(self._state), self._state["gram"], constraint(self._state)
            gram = gram if fixed is None else free_gram(gram, fixed.basis)
            start = 0
            for features, targets in self._feature_chunks(key_table, value_table):
                exact = features.astype(np.float64, copy=False)
                errors = targets - exact @ weights
                exact = exact if fixed is None else outside(exact, fixed.basis)
                solved = solve_ridge(gram, np.asfortranarray(exact.T), alpha).T
                left = 1 - np.einsum("ij,ij->i", exact, solved)
                _refuse_never_stored(left, start)
                alone = left < INTERPOLATED
                lengths = np.linalg.norm(solved[alone], axis=1)[:, None]
                errors[alone], left[alone] = solved[alone] / lengths @ weights / lengths, 1.0
                residuals[start : start + len(exact)] = errors / left[:, None]
                start += len(exact)
        return residuals[0] if single else residuals

    # ------------------------------------------------------------------------------------------------ inside

    def _recall_with_deviation(
        self, table: NDArray[Any], values: NDArray[Any], progress: Progress | None
    ) -> NDArray[Any]:
        """Fill `values` (N, value_dim) with the recalls of checked keys, and return their deviations."""
        self._refuse_without_gram("standard deviations")
        self._refuse_faded("standard deviations")
        deviations = np.empty(values.shape, self.dtype)
        with self._guard:  # weights and deviation of one state
            self._refuse_empty()
            self._refuse_noisy("standard deviations")
            deviation, weights = self._deviation(), self._begin_reading()
        try:
            for chunk, features in self._features_of(table):
                values[chunk] = features @ weights
                deviations[chunk] = deviation(features)
                report(progress, len(features))
        finally:
            self._end_reading()
        return deviations

    def _regularised(self) -> Regularised:
        """G + αI of the published state, factorised once; under `_guard`."""
        if "deviation" in self._derived:
            shared: Regularised = self._derived["deviation"].regularised
            return shared
        if "regularised" not in self._derived:
            self._derived["regularised"] = Regularised.of(self._state["gram"], self.alpha or 0.0)
        known: Regularised = self._derived["regularised"]
        return known

    def _inverse(self) -> Matrix64 | None:
        """A copy of the (G + αI)⁻¹ that rule "rls" keeps, which no write changes; under `_guard`."""
        if FIXED[0] in self._state:  # that inverse is 0 in their directions
            return None
        if "inverse" in self._state and "inverse" not in self._derived:
            self._derived["inverse"] = self._state["inverse"].copy()
        return self._derived.get("inverse")

    def _deviation(self) -> Deviation:
        """The deviation of the published state; under `_guard`."""
        if "deviation" not in self._derived:
            alpha, cosine = self.alpha or 0.0, getattr(self.rule, "query_cosine", None)
            if cosine is None:
                self._derived["deviation"] = noise_deviation(self._state, alpha)
            else:
                from assocmem.laws import feature_cosine, feature_cosine_gap  # not with the package: scipy.special

                known = (cosine, self.features.projection.key_dim, self.expansion)
                kappa, gap = float(feature_cosine(*known)), float(feature_cosine_gap(*known))
                self._derived["deviation"] = noisy_key_deviation(self._state, alpha, kappa, gap)
        deviation: Deviation = self._derived["deviation"]
        return deviation

    def _refuse_without_gram(self, what: str) -> None:
        if "gram" not in self._state:
            raise ValueError(
                f"rule {self.rule.name!r} has no {what}: it keeps no Gram matrix of what was stored; expected rule "
                f"'ridge' or 'rls'; build the memory with one of them"
            )

    def _refuse_faded(self, what: str) -> None:
        forgetting = getattr(self.rule, "forgetting", 1.0)
        if forgetting != 1.0:
            raise ValueError(
                f"a memory with forgetting={forgetting} has no {what}: its pairs weigh less the older they are, and "
                f"the sums do not say how noisy each is; expected forgetting=1.0; build the memory without, or use "
                f"leverage()"
            )

    def _refuse_noisy(self, what: str) -> None:
        """Refuse where G holds variances of noise beside the pairs; under `_guard`."""
        if self._state["n_noisy"]:
            raise ValueError(
                f"{int(self._state['n_noisy'])} pairs were stored with noise, which stands in G like pairs that were "
                f"never seen; expected pairs stored without, for {what}; ask a memory without noise"
            )

    def _refuse_empty(self) -> None:
        self._flush()
        if self._state["n_stored"] == 0:
            raise ValueError("nothing is stored; expected pairs to compare keys with; store some first")


def _refuse_never_stored(left: NDArray[np.float64], first_row: int) -> None:
    """Refuse keys whose 1 − h is below 0."""
    if (left < -NOT_STORED).any():
        row = int(np.argmin(left))
        raise ValueError(
            f"key {first_row + row} has leverage {1 - left[row]:.3g}; expected at most 1, as a stored key has; pass "
            f"keys exactly as they were stored"
        )
