"""Errors expected of a memory, and of one with more pairs of the kind, from the sums that it keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from assocmem.cell import Cell
from assocmem.core import checks
from assocmem.features.crelu import CReLUFeatures
from assocmem.features.noise import noisy_keys
from assocmem.laws import Recalled, feature_cosine
from assocmem.laws.real_keys import SampleKeys, Spectrum, StoredKeys
from assocmem.operations import confidence, rehearsal
from assocmem.rules import Rule, State
from assocmem.rules.blas import Matrix64, invert_from_cholesky, row_squares, symmetric_product
from assocmem.rules.gcv import smallest_known
from assocmem.rules.sums import Sums

N_SURROGATES = 400
DRAWS = 4  # noisy versions of each
SEED = 1
LARGEST_SPECTRUM = 4096  # rank up to which eigenvectors are computed: 9 D³ operations, a minute there
N_TURNED = 400  # keys of a sample, with their queries, that are written in eigenvectors
# Difference of the mean shares of surrogate and of stored keys, from which the ones are no picture of the others: keys
# of very different lengths, or of one length beside a bias. [Where predictions are right, at most 0.18; for patches of
# a photograph, whose lengths differ, 0.3 to 0.4.]
UNLIKE = 0.2
ROOM = 0.05  # of N, by which the degrees of freedom must stay below N for errors on unseen keys


def sums_to_tell_from(rule: Rule, state: State) -> Sums | None:
    """The sums, where the weights solve a ridge problem of pairs of one weight, some with values; otherwise None."""
    sums = state.sums
    if sums is None or not state.n_stored or rule.fading is not None or sums.n_noisy or sums.level <= 0.0:
        return None
    return sums if (sums.squared_values > 0.0).any() and not sums.edits.has_directions else None


@dataclass(frozen=True)
class Surrogates:
    """Keys with the mean and covariance of the stored ones, and what is between noisy versions and their mean features.

    Parameters
    ----------
    shrinkage : (D,)
        K, the diagonal by which the features of a key become the mean of those of its noisy versions: nearly.
    features : (n, D)
        ψ of the keys.
    noise : list of (n, D)
        ψ(q) − Kψ of noisy versions q.
    """

    shrinkage: NDArray[np.float64]
    features: Matrix64
    noise: list[Matrix64]

    @classmethod
    def drawn(cls, features: CReLUFeatures, sums: Sums, n_stored: int, query_cosine: float) -> Surrogates:
        """Draw them from the sums; the linear part of the features is the key but for a factor."""
        rng = np.random.default_rng(SEED)
        d, unit = features.projection.key_dim, math.sqrt(sums.level)
        mean = sums.key_sum / unit / n_stored
        moment = np.tril(sums.gram[:d, :d]) / sums.level / n_stored
        covariance = moment + np.tril(moment, -1).T - np.outer(mean, mean)
        spectrum, vectors = scipy.linalg.eigh(covariance)
        spread = vectors * np.sqrt(spectrum.clip(0.0))
        linear = mean + rng.standard_normal((N_SURROGATES, d)) @ spread.T
        keys = linear[:, : features.key_dim] * (unit / features.kernel_arguments[2])
        queries = [noisy_keys(keys, query_cosine, rng) for _ in range(DRAWS)]
        clean, *noisy = (
            features.fold_centred(checks.to_dtype(rows, features.dtype)).astype(np.float64) for rows in (keys, *queries)
        )
        shrinkage = shrinkage_of(features, query_cosine, keys, clean, noisy)
        return cls(shrinkage, clean, [rows - clean * shrinkage for rows in noisy])


def shrinkage_of(
    features: CReLUFeatures, cosine: float, keys: Matrix64, clean: Matrix64, noisy: list[Matrix64]
) -> NDArray[np.float64]:
    """K (D,): ρ for the linear part, and for the absolute part e(ρ), or without whitening the slope of a regression."""
    d, bias = features.projection.key_dim, features.bias
    shrinkage = np.empty(features.rank)
    shrinkage[:d] = cosine
    shrinkage[features.key_dim : d] = 1.0  # the bias has no noise
    if not features.whiten:
        on_units = clean[:, d:]
        shrinkage[d:] = np.mean([np.vdot(on_units, rows[:, d:]) for rows in noisy]) / np.vdot(on_units, on_units)
        return shrinkage
    squares = row_squares(np.ascontiguousarray(keys))
    together = float(np.mean((cosine * squares + bias**2) / (squares + bias**2)))
    kappa = float(feature_cosine(together, d, features.expansion))
    shrinkage[d:] = (features.rank * kappa - d * together) / features.n_units
    return shrinkage


def surrogates(cell: Cell, query_cosine: float) -> Surrogates:
    """Those for queries at a cosine, the last one of which is kept with the state."""

    def found(state: State) -> Surrogates:
        assert state.sums is not None
        return Surrogates.drawn(cell.features, state.sums, state.n_stored, query_cosine)

    name, view = f"surrogates at {query_cosine}", cell.view()
    for other in [each for each in view.derived if each.startswith("surrogates") and each != name]:
        del view.derived[other]
    return cell.derived(name, found)[1]


def recalled(cell: Cell, query_cosine: float) -> Recalled:
    """Law (v,) of recalls of the stored values, divided by their root mean squares, output by output.

    Clean: mean share QᵀU/Σv² and crosstalk UᵀGU/Σv² − mean². For queries at a cosine with K in between, and the noise
    of surrogate keys; the nonlinear rest of their mean features changes the share (docs/real-keys.md). NaN where these
    keys are too unlike the stored ones.
    """
    state = cell.current()
    sums, n = state.sums, state.n_stored
    assert sums is not None
    live = sums.squared_values > 0.0
    unit = np.sqrt(sums.squared_values[live] / n)
    weights = cell.view().weights[:, live].astype(np.float64) / unit
    cross = sums.cross[:, live] / unit / n
    if query_cosine == 1.0 or cell.features.key_dim == 1:  # a key of length 1 has no noisy versions
        mean = np.einsum("ij,ij->j", cross, weights)
        square = np.einsum("ij,ij->j", weights, symmetric_product(sums.gram, weights)) / n
        return Recalled(mean, (square - mean**2).clip(0.0), 1 - mean)
    drawn = surrogates(cell, query_cosine)
    shrunk = drawn.shrinkage[:, None] * weights
    mean = np.einsum("ij,ij->j", cross, shrunk)
    square = np.einsum("ij,ij->j", shrunk, symmetric_product(sums.gram, shrunk)) / n
    noise = np.mean([((rest @ weights) ** 2).mean(axis=0) for rest in drawn.noise], axis=0)
    gains = rehearsal.pretender(cell)(drawn.features).gains
    own = float(np.einsum("ij,ij->i", drawn.features, gains).mean())
    if abs(own - freedom(cell) / n) > UNLIKE:
        nothing = np.full(len(mean), math.nan)
        return Recalled(nothing, nothing, nothing)
    drift = np.mean([np.einsum("ij,ij->i", rest, gains).mean() for rest in drawn.noise])
    share = mean + drift
    return Recalled(share, (square - mean**2).clip(0.0) + noise, 1 - share)


# ------------------------------------------------------------------------------------------------- other numbers


@dataclass(frozen=True)
class Decomposed:
    """The spectrum of G in units of its mean, and its eigenvectors (D, D)."""

    spectrum: Spectrum
    vectors: Matrix64
    level: float


def decomposed(cell: Cell) -> Decomposed:
    """The eigendecomposition of G, once a state."""

    def found(state: State) -> Decomposed:
        sums = state.sums
        assert sums is not None
        gram = np.tril(sums.gram) / sums.level
        values, vectors = scipy.linalg.eigh(gram, lower=True, driver="evd", overwrite_a=True, check_finite=False)
        values[values <= smallest_known(values, sums.noise / sums.level)] = 0.0
        values[: max(len(values) - state.n_stored, 0)] = 0.0
        return Decomposed(Spectrum(values, state.n_stored), vectors, sums.level)

    return cell.derived("eigenvectors", found)[1]


def stored_keys(cell: Cell, query_cosine: float) -> StoredKeys:
    """The memory as a sample of its own keys."""
    known, drawn, d = decomposed(cell), surrogates(cell, query_cosine), cell.shape.key_dim
    root = math.sqrt(known.level)
    on_key = known.vectors[:d].T @ known.vectors[:d]
    features = drawn.features @ known.vectors / root
    rests = [rest @ known.vectors / root for rest in drawn.noise]
    return StoredKeys(
        linear=on_key.diagonal().copy(),
        overlaps=on_key**2,
        shrinkage=(float(drawn.shrinkage[:d].mean()), float(drawn.shrinkage[-1])),
        noise=np.mean([(rest**2).mean(axis=0) for rest in rests], axis=0),
        drift=np.mean([(rest * features).mean(axis=0) for rest in rests], axis=0),
    )


def sample_keys(cell: Cell, sample: rehearsal.Sample) -> SampleKeys:
    """A sample in the eigenvectors of G."""
    known, sample = decomposed(cell), sample.some(N_TURNED)
    keys = rehearsal.folded(cell, sample.keys)
    asked = [keys] if sample.queries is None else rehearsal.queries_of(cell, sample.queries)
    turned = keys @ known.vectors / math.sqrt(known.level)
    queries = [turned if each is keys else each @ known.vectors / math.sqrt(known.level) for each in asked]
    return SampleKeys(np.concatenate([turned] * len(queries)), np.concatenate(queries))


# --------------------------------------------------------------------------------------------------- unseen keys


def freedom(cell: Cell) -> float:
    """Degrees of freedom Σ s/(s + α), with α at least 1e-6 of the mean eigenvalue; NaN where rounding decides."""

    def found(state: State) -> float:
        try:
            factored = confidence.shared_factor(cell)
        except ValueError:
            return math.nan
        inverse = factored.factor.copy()
        invert_from_cholesky(inverse)
        return len(inverse) - factored.shift * float(inverse.trace())

    return cell.derived("freedom", found)[1]


def unseen_error(cell: Cell, effective: float) -> float:
    """Squared error expected of values under unseen keys of the same kind, as a share of their squares.

    Generalised cross-validation: RSS/N / (1 − df/N)² (Golub, Heath and Wahba 1979; Wei, Hu and Steinhardt 2022). NaN
    where df is not below N with room, so that nothing is left over to tell from.
    """
    state = cell.current()
    sums, n = state.sums, state.n_stored
    if sums is None or len(sums.edits) or not n - effective > ROOM * n:
        return math.nan
    unit = np.sqrt(np.where(sums.squared_values > 0.0, sums.squared_values, 1.0))
    weights: NDArray[Any] = cell.view().weights.astype(np.float64) / unit
    fitted = 2 * (sums.cross / unit * weights).sum() - np.vdot(weights, symmetric_product(sums.gram, weights))
    n_live = int((sums.squared_values > 0.0).sum())
    left = max(n_live - float(fitted), 0.0)
    return left / n_live / (1 - effective / n) ** 2
