"""Confidence: leverage, the standard deviation of a recall, leave-one-out residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from assocmem.cell import Cell, Progress, report
from assocmem.core import checks
from assocmem.operations.left_out import LeftOut
from assocmem.rules import Rule, State
from assocmem.rules.arrays import Shape
from assocmem.rules.blas import Matrix64, invert_from_cholesky
from assocmem.rules.solve import LARGEST_RATIO, Regularised
from assocmem.rules.sums import Sums

# The smallest penalty, as a share of the mean eigenvalue of G, with which leverages are computed: with less of it
# Cholesky would measure rounding in the directions that hold nothing.
SMALLEST_PENALTY = 1e-6
MOST_NOISE = 1e-3  # rounding of G as a share of the penalty: it moves a leverage by at most this share of itself
# Below, the difference has lost its digits, and what it tends to as α/s → 0 is the more accurate.
SMALLEST_FREEDOM = 1e-3
SMALLEST_SQUARES = 1e-280  # Σ v² below which the squares have lost digits
EPS = float(np.finfo(np.float64).eps)


def regularised(rule: Rule, state: State) -> Regularised:
    """G + αI, factorised, with a penalty of at least SMALLEST_PENALTY."""
    sums = sums_for(rule, state, "leverage")
    share = min(max((rule.alpha_for(state) or 0.0) / sums.level, SMALLEST_PENALTY), LARGEST_RATIO)
    if sums.noise > MOST_NOISE * share * sums.level:
        raise ValueError(
            f"rounding of the sums, by keys that are or were far longer than the others, is {sums.noise:.2g}, too much "
            f"for leverages and deviations at a penalty of {share * sums.level:.2g}; store the pairs that are left in "
            f"a new memory, or build it with a penalty of {sums.noise / MOST_NOISE:.2g}"
        )
    return Regularised.require(sums.gram, [share])


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
        exact = features.astype(np.float64, copy=False) / np.sqrt(self.regularised.level)
        if self.kind == "noisy keys":
            shape = np.einsum("ij,ij->i", exact, exact)
        else:
            solved = self.regularised.solve(exact.T).T
            if self.kind == "interpolated":
                shape = np.einsum("ij,ij->i", solved, solved) * self.regularised.shift
            else:
                shape = 1 + np.einsum("ij,ij->i", exact, solved)
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
    targets, unit = scaled_targets(sums, regularised)
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
    squares = (weights**2).sum(axis=0)
    direct = 1 - (weights * targets).sum(axis=0) - penalty * squares
    # Rounding of the sums may be all there is of this difference. Pairs that are all interpolated leave only what the
    # penalty takes, which is known better; of others as much as that rounding may be left.
    noise = sums.noise / regularised.level + EPS
    rounding = noise * squares + 2 * np.sqrt(squares) * sums.noise_cross / np.sqrt(regularised.level) / unit + 10 * EPS
    least = penalty**2 * (weights * regularised.solve(weights)).sum(axis=0)
    if n <= rank and freedom < 1:
        residual = np.where(direct > 1e4 * rounding, direct, least)
    else:
        residual = np.maximum(direct, 10 * rounding)
    residual *= sums.squared_values > 0
    kind = "interpolated" if interpolates else "noise"
    return Deviation(regularised, kind, residual / freedom * unit**2, np.zeros_like(residual))


def scaled_targets(sums: Sums, regularised: Regularised) -> tuple[Matrix64, NDArray[np.float64]]:
    """Q in units in which G has the mean eigenvalue 1 and every output the sum of squares 1; and the latter's units."""
    squares = sums.squared_values
    lost = (squares < SMALLEST_SQUARES) & (np.abs(sums.cross).max(axis=0) > 0)
    if lost.any():
        raise ValueError(
            f"the squared values of output {int(np.argmax(lost))} are too small for the number range, and deviations "
            f"need their sum; store larger values, for example in another unit"
        )
    unit = np.sqrt(np.where(squares > 0, squares, 1.0))
    return sums.cross / np.sqrt(regularised.level) / unit, unit


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
    targets, unit = scaled_targets(sums, regularised)
    weights = regularised.solve(targets)
    fitted, squares = (weights * targets).sum(axis=0), (weights**2).sum(axis=0)
    unfit = (sums.squared_values > 0) - kappa * (2 - kappa) * fitted - kappa**2 * regularised.shift * squares
    share = gap * (1 + kappa) * squares / len(weights)
    return Deviation(regularised, "noisy keys", share * unit**2, np.maximum(unfit, 0.0) / n_stored * unit**2)


def leverages(features: NDArray[Any], factored: Regularised) -> NDArray[np.float64]:
    """Leverages ψᵀ (G + αI)⁻¹ ψ of features (B, D)."""
    exact = features.astype(np.float64, copy=False) / np.sqrt(factored.level)
    return np.asarray(np.einsum("ij,ji->i", exact, factored.solve(exact.T)))


def shared_factor(cell: Cell) -> Regularised:
    """The factor of G + αI that leverages and deviations of one state share."""
    return cell.derived("regularised", lambda state: regularised(cell.rule, state))[1]


def leverage(cell: Cell, keys: NDArray[Any]) -> NDArray[np.float64]:
    """Leverages (N,) of checked keys (N, key_dim); see `AssociativeMemory.leverage`."""
    cell.read(lambda state: sums_for(cell.rule, state, "leverage"))
    factored, found = shared_factor(cell), np.empty(len(keys))
    for chunk, features in cell.features_of(keys):
        found[chunk] = leverages(features, factored)
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
        state, rule = cell.current(), cell.rule
        refuse_faded_or_noisy(rule, state, "leave-one-out residuals")
        sums, alpha = sums_for(rule, state, "leave-one-out residuals"), rule.alpha_for(state) or 0.0
        if sums.edits.has_directions:
            raise ValueError(
                "edits in another metric leave no leave-one-out residuals, since the weights then solve no ridge "
                "problem; take them back with release(keys) first"
            )
        left_out = LeftOut(sums, alpha, state.n_stored)
        for chunk, features in cell.features_of(keys):
            targets = checks.to_dtype(values[chunk], cell.shape.dtype)
            residuals[chunk] = left_out.residuals(features, targets, chunk.start)
    return residuals


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
