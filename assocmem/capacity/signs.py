"""Sign loss of memories: aligned weights, the bits that they lose, and antipodal keys; reported and measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from assocmem import __version__
from assocmem.capacity.measuring import interval, label_of
from assocmem.core import checks
from assocmem.features.crelu import CReLUFeatures
from assocmem.laws.prediction import predicted_error
from assocmem.laws.sign_loss import aligned_share, antipodal_loss, mean_sign_loss, sign_loss, trained_ratio
from assocmem.memory import AssociativeMemory
from assocmem.rules import Rule, as_rule

ALIGNED: Final = "aligned units"
LOSS: Final = "sign loss"
WRONG: Final = "wrong signs"
ANTIPODAL: Final = "antipodal error"


@dataclass(frozen=True)
class SignReport:
    """Sign loss of the units of a memory, for every output.

    Parameters
    ----------
    aligned : (value_dim,)
        Share of units whose two weights have the same sign.
    aligned_by_law : (value_dim,)
        (2/π) arctan(σ_b/σ_a), from the deviations of the even part b and the odd part a of the weights.
    loss : (value_dim,)
        Mean sign loss of the units, in bits.
    """

    aligned: NDArray[np.float64]
    aligned_by_law: NDArray[np.float64]
    loss: NDArray[np.float64]


@np.errstate(under="ignore")
def sign_report(memory: AssociativeMemory) -> SignReport:
    """Report the aligned share of units, measured and by the arctan law, and the mean sign loss, for every output.

    Parameters
    ----------
    memory : AssociativeMemory
        With at least one pair.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> memory = AssociativeMemory(key_dim=64, value_dim=2, expansion=4)
    >>> memory.store(rng.standard_normal((200, 64)), rng.standard_normal((200, 2)))
    >>> report = sign_report(memory)
    >>> bool(np.all(abs(report.aligned - report.aligned_by_law) < 0.08))
    True
    """
    if memory.n_stored == 0:
        raise ValueError("the memory holds no pairs, and weights of 0 have no signs: store something first")
    weights = memory.weights.astype(np.float64)
    plus, minus = weights / (np.abs(weights).max() or 1.0)  # no square leaves the number range
    odd, even = np.sqrt(np.mean((plus - minus) ** 2, axis=0)), np.sqrt(np.mean((plus + minus) ** 2, axis=0))
    aligned = np.mean((plus > 0) == (minus > 0), axis=0)
    return SignReport(aligned, 2 / np.pi * np.arctan2(even, odd), sign_loss(plus, minus).mean(axis=0))


@np.errstate(under="ignore")
def antipodal_error(
    n_pairs: int, key_dim: int = 64, expansion: int = 4, *, bias: float = 0.0, value_dim: int = 64, seed: int = 0
) -> float:
    """Error of a ridge memory that stored n antipodal pairs of keys, x and −x, with unrelated values.

    Only the odd part of the features distinguishes x from −x, and it has d dimensions for every expansion: exact up to
    n = d, beyond it the error is `laws.sign_loss.antipodal_loss`. With a bias the keys are not antipodal, and 2n pairs
    are exact up to the rank.

    Parameters
    ----------
    n_pairs : int
        Antipodal pairs, 2n keys.
    key_dim, expansion, bias, value_dim, seed
        As in `AssociativeMemory`.

    Returns
    -------
    float
        ‖recalled − stored‖ / ‖stored‖.

    Examples
    --------
    >>> [round(antipodal_error(n), 2) for n in (64, 80)], round(antipodal_error(150, bias=1.0), 6)
    ([0.0, 0.3], 0.0)
    """
    count = checks.as_size("n_pairs", n_pairs)
    memory = AssociativeMemory(key_dim, value_dim, expansion=expansion, bias=bias, seed=seed)
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((count, key_dim)) / np.sqrt(key_dim)
    keys, values = np.concatenate([half, -half]), rng.standard_normal((2 * count, value_dim))
    memory.store(keys, values)
    return float(np.linalg.norm(memory.recall(keys) - values) / np.linalg.norm(values))


# ------------------------------------------------------------------------------------------------------ measuring


@dataclass(frozen=True)
class SignPoint:
    """One row of a table of sign losses: a measured quantity with its interval, and the predicted one.

    Parameters
    ----------
    quantity : str
        "aligned units", a share; "sign loss", the mean over all units, in bits; "wrong signs", the share of recalls of
        stored keys; or "antipodal error", that of `antipodal_error`.
    rule : str
        Label of the rule.
    load : float
        N / D.
    n_pairs : int
        N; of keys x and −x both are counted. 0 for predictions that hold for every load.
    bias : float
        Bias of the memory.
    trials : int
        Memories measured; 0 on a predicted curve.
    measured, low, high : float
        Mean over the trials, and its interval of confidence 99 %; NaN on a predicted curve.
    predicted : float
        The quantity by the law; NaN where none is known.
    key_dim, expansion, rank, value_dim : int
        d, k, D and v.
    seed : int
        Seed of the measurement.
    version : str
        Version of this package.
    """

    quantity: str
    rule: str
    load: float
    n_pairs: int
    bias: float
    trials: int
    measured: float
    low: float
    high: float
    predicted: float
    key_dim: int
    expansion: int
    rank: int
    value_dim: int
    seed: int
    version: str = __version__


def measure_signs(
    rule: str | Rule,
    load: float,
    *,
    key_dim: int = 64,
    expansion: int = 4,
    value_dim: int = 32,
    trials: int = 5,
    seed: int = 0,
) -> list[SignPoint]:
    """Measure aligned units, sign loss and wrong signs of memories of random keys and values of ±1.

    Parameters
    ----------
    rule : rule name or object
        As for `AssociativeMemory`.
    load : float above 0
        N / D; the N that is nearest is stored, at least one pair.
    key_dim, expansion, value_dim : int
        As for `AssociativeMemory`.
    trials : int, at least 2
        Memories.
    seed : int
        The same seed gives the same points.

    Examples
    --------
    >>> aligned, loss, wrong = measure_signs("ridge", 0.5, trials=2)
    >>> round(loss.measured, 2), round(loss.predicted, 2), wrong.measured
    (0.82, 0.82, 0.0)
    """
    rule = as_rule(rule)
    label = label_of(rule)
    trials, seed = checks.as_size("trials", trials, 2), checks.as_size("seed", seed, 0)
    features = CReLUFeatures(key_dim, expansion)
    n_pairs = max(1, round(checks.as_number("load", load, np.nextafter(0.0, 1.0), 1e9) * features.rank))
    measured = []
    for trial in range(trials):
        rng = np.random.default_rng((seed, n_pairs, trial))
        memory = AssociativeMemory(key_dim, value_dim, expansion=expansion, rule=rule, seed=int(rng.integers(2**31)))
        keys = rng.standard_normal((n_pairs, key_dim))
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
        values = np.where(rng.random((n_pairs, value_dim)) < 0.5, -1.0, 1.0)
        memory.store(keys, values)
        report = sign_report(memory)
        wrong = np.mean(memory.recall(keys) * values <= 0)
        measured.append((report.aligned.mean(), report.loss.mean(), wrong))
    aligned, loss, wrong = np.array(measured).T
    ratio = trained_ratio(key_dim, expansion)
    sizes = {"key_dim": key_dim, "expansion": expansion, "value_dim": value_dim}
    penalty = float(np.mean(memory.alpha or 0.0)) / features.rank
    predicted = predicted_error(rule, n_pairs / features.rank, 1.0, "sign", penalty=penalty, **sizes)
    common: dict[str, Any] = {
        "rule": label,
        "features": features,
        "value_dim": value_dim,
        "n_pairs": n_pairs,
        "seed": seed,
    }
    return [
        _point(ALIGNED, aligned_share(ratio), aligned, **common),
        _point(LOSS, mean_sign_loss(ratio), loss, **common),
        _point(WRONG, predicted, wrong, judged=trials * n_pairs * value_dim, **common),
    ]


def measure_antipodal(
    n_pairs: int,
    bias: float,
    *,
    key_dim: int = 64,
    expansion: int = 4,
    value_dim: int = 64,
    trials: int = 5,
    seed: int = 0,
) -> SignPoint:
    """Measure `antipodal_error` of several memories.

    Parameters
    ----------
    n_pairs, bias, key_dim, expansion, value_dim
        As there.
    trials : int, at least 2
        Memories; their seeds are `seed`, `seed` + 1 and so on.
    seed : int
        The same seed gives the same point.
    """
    sizes = {"key_dim": key_dim, "expansion": expansion, "value_dim": value_dim}
    errors = [
        antipodal_error(n_pairs, bias=bias, seed=seed + trial, **sizes)
        for trial in range(checks.as_size("trials", trials, 2))
    ]
    features = CReLUFeatures(key_dim, expansion, bias=bias)
    predicted = antipodal_loss(n_pairs, key_dim, expansion)
    if bias:
        predicted = 0.0 if 2 * n_pairs <= features.rank else math.nan
    return _point(
        ANTIPODAL,
        predicted,
        errors,
        rule="ridge",
        features=features,
        value_dim=value_dim,
        n_pairs=2 * n_pairs,
        seed=seed,
    )


def predicted_signs(
    key_dim: int, expansions: Sequence[int], antipodal_pairs: Sequence[int], *, expansion: int = 4
) -> list[SignPoint]:
    """Predict aligned units and sign loss, which neither rule nor load changes, and the antipodal error without a bias.

    Parameters
    ----------
    key_dim : int
        As for `AssociativeMemory`.
    expansions : sequence of int
        Expansions for which aligned units and sign loss are predicted.
    antipodal_pairs : sequence of int
        Numbers n of antipodal pairs.
    expansion : int
        Of the memory of antipodal pairs.
    """
    points = []
    common: dict[str, Any] = {"value_dim": 1, "seed": 0}
    for k in expansions:
        ratio, features = trained_ratio(key_dim, k), CReLUFeatures(key_dim, k)
        for quantity, predicted in ((ALIGNED, aligned_share(ratio)), (LOSS, mean_sign_loss(ratio))):
            points.append(_point(quantity, predicted, rule="any", features=features, n_pairs=0, **common))
    features = CReLUFeatures(key_dim, expansion)
    for n in antipodal_pairs:
        predicted = antipodal_loss(n, key_dim, expansion)
        points.append(_point(ANTIPODAL, predicted, rule="ridge", features=features, n_pairs=2 * n, **common))
    return points


def _point(
    quantity: str,
    predicted: float,
    measured: Sequence[float] | NDArray[np.float64] = (),
    *,
    rule: str,
    features: CReLUFeatures,
    value_dim: int,
    n_pairs: int,
    seed: int,
    judged: int = 0,
) -> SignPoint:
    """Return a row; judged is the number of recalls of which the measured are shares, 0 for other quantities."""
    low, high = interval(measured, judged, counts=judged > 0) if len(measured) else (math.nan, math.nan)
    return SignPoint(
        quantity=quantity,
        rule=rule,
        load=n_pairs / features.rank,
        n_pairs=n_pairs,
        bias=features.bias,
        trials=len(measured),
        measured=float(np.mean(measured)) if len(measured) else math.nan,
        low=low,
        high=high,
        predicted=predicted,
        key_dim=features.key_dim,
        expansion=features.expansion,
        rank=features.rank,
        value_dim=value_dim,
        seed=seed,
    )
