"""Which law a rule follows: the predicted error of a memory."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from assocmem import channels, laws
from assocmem.rules import DeltaRule, Hebbian, RecursiveLeastSquares, Ridge, Rule

KINDS: Final = ("sign", "gaussian", "onehot")

# Ages over which the delta rule's error is averaged: Gauss–Legendre nodes, the error being a smooth function of age
# but for the newest pairs.
_AGES, _AGE_WEIGHTS = np.polynomial.legendre.leggauss(64)


def predicted_error(
    rule: Rule,
    load: float,
    cosine: float,
    kind: str,
    *,
    key_dim: int,
    expansion: int,
    value_dim: int,
    penalty: float = 0.0,
) -> float:
    """Error that the laws predict; NaN for a rule without a law, such as one that forgets by age.

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
        among value_dim one-hot outputs.
    key_dim, expansion, value_dim : int
        Sizes of the memory; key_dim counts a bias.
    penalty : float
        α / (D · mean ‖x‖²), for the rules that have one.

    Returns
    -------
    float

    Examples
    --------
    >>> sizes = {"key_dim": 128, "expansion": 3, "value_dim": 16}
    >>> round(predicted_error(Hebbian(), 0.2, 0.9, "sign", **sizes), 4)
    0.037
    """
    kappa = laws.feature_cosine(cosine, key_dim, expansion)
    gap = laws.feature_cosine_gap(cosine, key_dim, expansion)
    crowd = laws.crowding(key_dim, expansion)
    if isinstance(rule, Hebbian) and rule.decay == 1.0:
        return error_of(laws.hebbian_law(load, kappa, gap).crowded(crowd), kind, value_dim)
    if isinstance(rule, (Ridge, RecursiveLeastSquares)) and rule.forgetting == 1.0:
        return error_of(laws.ridge_law(load, penalty, kappa, gap).crowded(crowd), kind, value_dim)
    if isinstance(rule, DeltaRule):
        # Squared, so that the nodes crowd at the newest pairs.
        share = (_AGES + 1) / 2
        ages = laws.delta_law(load, load * share**2, rule.rate, kappa, gap).crowded(crowd)
        errors = _errors_of(ages, kind, value_dim)
        return float(errors @ (_AGE_WEIGHTS * share))
    return math.nan


def _errors_of(law: laws.Recalled, kind: str, value_dim: int) -> laws.Array:
    if kind == "gaussian":
        return law.mean_squared_error
    if kind == "sign":
        return law.sign_error
    return law.wrong_class(value_dim) if value_dim > 1 else np.zeros(np.shape(law.mean))


def error_of(law: laws.Recalled, kind: str, value_dim: int) -> float:
    """Error of a kind that a law gives for numbers, not arrays."""
    return float(_errors_of(law, kind, value_dim))


def bits_of(kind: str, load: float, error: float, value_dim: int) -> float:
    """Bits per weight that values recalled with this error tell of the stored ones; NaN for Gaussian values.

    For one-hot values each weight column belongs to one class: load · (log₂ C − H₂(e) − e log₂(C − 1)) / C.
    """
    if kind == "gaussian":
        return math.nan
    if kind == "sign":
        return load * float(channels.sign_channel_bits(error))
    if value_dim == 1:
        return 0.0
    doubt = 1.0 - float(channels.sign_channel_bits(error)) + error * math.log2(value_dim - 1)
    return load * (math.log2(value_dim) - doubt) / value_dim
