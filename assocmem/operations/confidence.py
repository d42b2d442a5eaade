"""Confidence: leverage, the standard deviation of a recall, leave-one-out residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from assocmem.cell import Cell, Progress, report
from assocmem.core import checks
from assocmem.rules import Rule, State
from assocmem.rules.arrays import Shape
from assocmem.rules.blas import Matrix64, invert_from_cholesky, symmetric_product
from assocmem.rules.constraints import free_gram, outside
from assocmem.rules.solve import LARGEST_RATIO, Regularised, solve
from assocmem.rules.sums import Sums

# The smallest penalty, as a share of the mean eigenvalue of G, with which leverages are computed: with less of it
# Cholesky would measure rounding in the directions that hold nothing.
SMALLEST_PENALTY = 1e-6
# Below, differences of sums have lost their digits, and what they tend to as α/s → 0 is the more accurate.
SMALLEST_FREEDOM = 1e-3
SMALLEST_RESIDUAL = 1e-10  # of Σ v²
INTERPOLATED = 1e-7  # 1 − h of a pair that only its own weights hold
NOT_STORED = 1e-6  # leverage above 1 that rounding does not explain


def regularised(rule: Rule, state: State) -> Regularised:
    """G + αI, factorised, with a penalty of at least SMALLEST_PENALTY and more where rounding makes that necessary."""
    sums = sums_for(rule, state, "leverage")
    share = min(max((rule.alpha_for(state) or 0.0) / sums.level, SMALLEST_PENALTY), LARGEST_RATIO)
    return Regularised.require(sums.gram, [share, 10 * share, 100 * share, 1000 * share])


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
            solved = self.regularised.solve(exact.T).T
            if self.kind == "interpolated":
                shape = np.einsum("ij,ij->i", solved, solved) * (self.regularised.shift / self.regularised.level)
            else:
                shape = 1 + np.einsum("ij,ij->i", exact, solved) / self.regularised.level
        return np.asarray(np.sqrt(self.fixed + shape[:, None] * self.share))


def deviation(rule: Rule, state: State, factored: Regularised) -> Deviation:
    """Deviation of recalls: for values with noise, or for noisy keys if the rule is made for queries at a cosine."""
    sums = sums_for(rule, state, "standard deviations")
    if rule.noise_cosine is not None:
        return noisy_key_deviation(sums, state.n_stored, factored, rule.noise_cosine, state.shape)
    return noise_deviation(sums, state.n_stored, factored, rule.alpha_for(state) or 0.0)


def noise_deviation(sums: Sums, n_stored: int, regularised: Regularised, alpha: float) -> Deviation:
    """Deviation of values observed under keys like the stored ones: σ̂² (1 + h), σ̂² = RSS / (N − df) per output.

    Averaged over such keys, σ̂² (1 + h) is the score of generalised cross-validation, which tends to the squared error
    whatever the values are. As α → 0 with fewer pairs than dimensions, RSS and N − df vanish together, which leaves
    the part of ψ outside the span of the stored features, times τ̂² = tr(Uᵀ G⁺ U) / tr G⁺ (docs/theory.md).
    """
    factor, penalty = regularised.factor, regularised.shift
    # In units in which G has the mean eigenvalue 1 and weights and values are of one size.
    targets = sums.cross / np.sqrt(regularised.level)
    weights = regularised.solve(targets)
    inverse = factor.copy()
    invert_from_cholesky(inverse)
    n, rank = float(n_stored), len(factor)
    freedom = n - rank + penalty * float(inverse.trace())
    interpolates = alpha < regularised.level * SMALLEST_PENALTY and freedom < 1
    if freedom < SMALLEST_FREEDOM:
        # All N pairs are independent; of their eigenvalues rounding leaves more than of N − D + α tr (G + αI)⁻¹.
        spectrum = scipy.linalg.eigvalsh(sums.gram / regularised.level, lower=True, check_finite=False)
        freedom = float((penalty / (spectrum[rank - int(n) :] + penalty)).sum())
    direct = sums.squared_values - (weights * targets).sum(axis=0) - penalty * (weights**2).sum(axis=0)
    least = penalty**2 * (weights * regularised.solve(weights)).sum(axis=0)
    residual = np.where(direct > SMALLEST_RESIDUAL * sums.squared_values, direct, least)
    kind = "interpolated" if interpolates else "noise"
    return Deviation(regularised, kind, residual / freedom, np.zeros_like(residual))


def noisy_key_deviation(
    sums: Sums, n_stored: int, regularised: Regularised, query_cosine: float, shape: Shape
) -> Deviation:
    """Deviation of stored values recalled with keys at a cosine, whose features have cosine κ to the stored ones.

    The features of such a key are κψ and isotropic noise of variance (1 − κ²)‖ψ‖²/D a coordinate (docs/theory.md):
    E (v − ŷ)² = Σ (v − κ Uᵀψ)²/N + (1 − κ²) ‖ψ‖² ‖u‖² / D for every output.
    """
    from assocmem.laws import feature_cosine, feature_cosine_gap  # not with the package: scipy.special

    known = query_cosine, shape.key_dim, shape.expansion
    kappa, gap = float(feature_cosine(*known)), float(feature_cosine_gap(*known))
    targets = sums.cross / np.sqrt(regularised.level)
    weights = regularised.solve(targets)
    fitted, squares = (weights * targets).sum(axis=0), (weights**2).sum(axis=0)
    unfit = sums.squared_values - kappa * (2 - kappa) * fitted - kappa**2 * regularised.shift * squares
    share = gap * (1 + kappa) * squares / (regularised.level * len(weights))
    return Deviation(regularised, "noisy keys", share, np.maximum(unfit, 0.0) / n_stored)


def leverages(features: NDArray[Any], factored: Regularised | Matrix64) -> NDArray[np.float64]:
    """Leverages ψᵀ (G + αI)⁻¹ ψ of features (B, D), from a factor or from the inverse."""
    exact = features.astype(np.float64, copy=False)
    if isinstance(factored, Regularised):
        return np.asarray(np.einsum("ij,ji->i", exact, factored.solve(exact.T)) / factored.level)
    return np.asarray(np.einsum("ij,ji->i", exact, symmetric_product(factored, exact.T)))


def shared_factor(cell: Cell) -> Regularised:
    """The factor of G + αI that leverages and deviations of one state share."""
    return cell.derived("regularised", lambda state: regularised(cell.rule, state))[1]


def leverage(cell: Cell, keys: NDArray[Any]) -> NDArray[np.float64]:
    """Leverages (N,) of checked keys (N, key_dim); see `AssociativeMemory.leverage`."""
    cell.read(lambda state: sums_for(cell.rule, state, "leverage"))
    _, inverse = cell.derived("inverse", lambda state: state.regularised_inverse)
    known = shared_factor(cell) if inverse is None else inverse
    found = np.empty(len(keys))
    for chunk, features in cell.features_of(keys):
        found[chunk] = leverages(features, known)
    return found


def recall(cell: Cell, keys: NDArray[Any], values: NDArray[Any], progress: Progress | None) -> NDArray[Any]:
    """Fill values (N, value_dim) with the recalls of keys (N, key_dim), and return their deviations."""
    cell.read(lambda state: refuse_faded_or_noisy(cell.rule, state, "standard deviations"))
    view, deviation_of = cell.derived("deviation", lambda state: deviation(cell.rule, state, shared_factor(cell)))
    deviations = np.empty(values.shape, cell.shape.dtype)
    for chunk, features in cell.features_of(keys):
        values[chunk] = features @ view.weights
        deviations[chunk] = deviation_of(features)
        report(progress, len(features))
    return deviations


def leave_one_out(cell: Cell, keys: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    """Residuals (N, value_dim) of checked stored pairs; see `AssociativeMemory.leave_one_out`."""
    residuals = np.empty(values.shape)
    with cell.writing:
        state = cell.current()
        refuse_faded_or_noisy(cell.rule, state, "leave-one-out residuals")
        for chunk, features in cell.features_of(keys):
            targets = checks.to_dtype(values[chunk], cell.shape.dtype)
            residuals[chunk] = left_out(cell.rule, state, features, targets, chunk.start)
    return residuals


def left_out(
    rule: Rule, state: State, features: NDArray[Any], values: NDArray[Any], first_row: int
) -> NDArray[np.float64]:
    """Residuals (v − ŷ) / (1 − h) of stored pairs, each as if it alone had never been stored."""
    sums, alpha = sums_for(rule, state, "leave-one-out residuals"), rule.alpha_for(state) or 0.0
    weights, fixed = rule.solve(state).weights, sums.edits.constraint()
    gram = sums.gram if fixed is None else free_gram(sums.gram, fixed.basis)
    exact = features.astype(np.float64, copy=False)
    errors = values - exact @ weights
    exact = exact if fixed is None else outside(exact, fixed.basis)
    solved = solve(gram, np.asfortranarray(exact.T), alpha)[0].T
    left = 1 - np.einsum("ij,ij->i", exact, solved)
    if (left < -NOT_STORED).any():
        row = int(np.argmin(left))
        raise ValueError(
            f"key {first_row + row} has leverage {1 - left[row]:.3g}, and a stored key has at most 1; pass keys "
            f"exactly as they were stored"
        )
    alone = left < INTERPOLATED
    lengths = np.linalg.norm(solved[alone], axis=1)[:, None]
    errors[alone], left[alone] = solved[alone] / lengths @ weights / lengths, 1.0
    return np.asarray(errors / left[:, None])


# ----------------------------------------------------------------------------------------------------- refusals


def sums_for(rule: Rule, state: State, what: str) -> Sums:
    """The sums that an answer is computed from, or ValueError if the rule keeps none or nothing is stored."""
    refuse_without_sums(rule, state, what)
    assert state.sums is not None
    if state.n_stored == 0:
        raise ValueError("nothing is stored, so there are no pairs to compare keys with; store some first")
    return state.sums


def refuse_without_sums(rule: Rule, state: State, what: str) -> None:
    """Refuse a rule that keeps no Gram matrix."""
    if state.sums is None:
        raise ValueError(
            f"the rule {rule.name!r} has no {what}, since it keeps no Gram matrix; build the memory with "
            f"rule='ridge' or 'rls'"
        )


def refuse_faded_or_noisy(rule: Rule, state: State, what: str) -> None:
    """Refuse sums in which pairs weigh differently, or that hold variances of noise beside the pairs."""
    refuse_without_sums(rule, state, what)
    if rule.fading is not None:
        raise ValueError(
            f"a memory with {rule.fading} has no {what}: its pairs weigh less the older they are, and the sums do not "
            f"say how noisy each is; build the memory with decay=1.0, or use leverage()"
        )
    if state.sums is not None and state.sums.n_noisy:
        raise ValueError(
            f"{state.sums.n_noisy} pairs were stored with noise, which stands in G like pairs that were never seen; "
            f"{what} need a memory whose pairs were stored without query_cosine"
        )
