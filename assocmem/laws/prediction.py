"""The error that the law of a rule predicts, and the number of pairs up to which it stays within a bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import numpy as np

from assocmem.laws.channels import sign_channel_bits
from assocmem.laws.recall import Array, Recalled, feature_correlation, feature_cosine, feature_cosine_gap

KINDS: Final = ("sign", "gaussian", "onehot")

MOST_PAIRS: Final = 10**15

# Factors between the pair numbers of the grid on which `pairs_within` searches: where errors are monotone, and near the
# rank, where that of ridge with a small penalty peaks; next to the rank, distances are halved so many times.
COARSE_STEP: Final = 2.0
FINE_STEP: Final = 1.25
HALVINGS: Final = 12


class HasLaw(Protocol):
    """A learning rule, as far as its law is concerned."""

    def law(self, load: float, kappa: float, gap: float, penalty: float) -> tuple[Recalled, Any] | None:
        """Law of recalls and the shares of its entries; None where none is known."""


@np.errstate(under="ignore")
def predicted_error(
    rule: HasLaw,
    load: float,
    cosine: float,
    kind: str,
    *,
    key_dim: int,
    expansion: int,
    value_dim: int,
    penalty: float = 0.0,
) -> float:
    """Error that the law of a rule predicts; NaN for a rule without a law, such as one whose past fades.

    Parameters
    ----------
    rule : Rule
        Its configuration decides about the law; the penalty is given apart.
    load : float
        N / D.
    cosine : float in [0, 1]
        Cosine of query and stored key.
    kind : {"sign", "gaussian", "onehot"}
        Share of wrong signs of ±1 values, mean squared error of values of variance 1, or share of wrong classes
        among value_dim one-hot outputs, with random labels.
    key_dim, expansion, value_dim : int
        Sizes of the memory; key_dim counts a bias.
    penalty : float
        α / (D · mean ‖x‖²), for the rules that have one.

    Returns
    -------
    float

    Examples
    --------
    >>> from assocmem import Hebbian
    >>> sizes = {"key_dim": 128, "expansion": 3, "value_dim": 16}
    >>> round(predicted_error(Hebbian(), 0.2, 0.9, "sign", **sizes), 4)
    0.037
    """
    kappa = float(feature_cosine(cosine, key_dim, expansion))
    gap = float(feature_cosine_gap(cosine, key_dim, expansion))
    found = rule.law(load, kappa, gap, penalty)
    if found is None:
        return math.nan
    law, shares = found
    rank = key_dim + expansion * 2 ** (key_dim - 1).bit_length()
    errors = errors_of(law.scaled(feature_correlation(key_dim, expansion)), kind, value_dim, max(load * rank, 1.0))
    return float(np.sum(errors * np.asarray(shares)))


def errors_of(law: Recalled, kind: str, value_dim: int, pairs: float | None = None) -> Array:
    """Errors of a kind that a law gives, of its shape; classes have random sizes, `pairs` altogether, or equal ones."""
    if kind == "gaussian":
        return law.mean_squared_error
    if kind == "sign":
        return law.sign_error
    return law.wrong_class(value_dim, pairs) if value_dim > 1 else np.zeros(np.shape(law.mean))


@np.errstate(under="ignore")
def bits_of(kind: str, load: float, error: float, value_dim: int) -> float:
    """Bits per weight that values recalled with this error tell of the stored ones; NaN for Gaussian values.

    For one-hot values each weight column belongs to one class: load · (log₂ C − H₂(e) − e log₂(C − 1)) / C.
    """
    if kind == "gaussian":
        return math.nan
    if kind == "sign":
        return load * float(sign_channel_bits(error))
    if value_dim == 1:
        return 0.0
    doubt = 1.0 - float(sign_channel_bits(error)) + error * math.log2(value_dim - 1)
    return load * (math.log2(value_dim) - doubt) / value_dim


def pairs_within(error: float, predicted: Callable[[int], float], start: int, rank: int, most: int = MOST_PAIRS) -> int:
    """Largest number of pairs N such that the predicted error is within a bound from `start` pairs up to N.

    The error need not grow with N: that of ridge without a penalty has a peak at N = rank, beyond which it may be
    within the bound again. So the first crossing is looked for on a grid that is fine near the rank, and then found by
    bisection.

    Parameters
    ----------
    error : float
        The bound.
    predicted : function of the number of pairs
        Predicted error; NaN is not within the bound.
    start : int, at least 1
        Smallest number of pairs that matters.
    rank : int
        D, where an error may peak.
    most : int
        Largest number of pairs to look at.

    Returns
    -------
    int
        `start` - 1 if not even `start` pairs are within the bound, and `most` if all numbers are.

    Examples
    --------
    >>> pairs_within(0.5, lambda pairs: 0.9 if 95 <= pairs <= 105 else 0.1, start=10, rank=100)
    94
    """
    within = start - 1
    for pairs in _grid(start, rank, most):
        if predicted(pairs) <= error:
            within = pairs
        else:
            return _bisected(error, predicted, within, pairs) if within >= start else within
    return within


def _bisected(error: float, predicted: Callable[[int], float], within: int, past: int) -> int:
    while past - within > 1:
        middle = (within + past) // 2
        within, past = (middle, past) if predicted(middle) <= error else (within, middle)
    return within


def _grid(start: int, rank: int, most: int) -> Iterator[int]:
    """Numbers of pairs in ascending order, from `start` to `most`, the rank and its neighbours among them."""
    near = {rank + side * round(rank / 2**halving) for halving in range(2, HALVINGS) for side in (-1, 0, 1)}
    special = [pairs for pairs in sorted(near) if start < pairs < most]
    pairs = start
    while pairs < most:
        yield pairs
        step = FINE_STEP if rank / 4 <= pairs <= 16 * rank else COARSE_STEP
        pairs = max(pairs + 1, int(step * pairs))
        if special and pairs >= special[0]:
            pairs = special.pop(0)
    yield most
