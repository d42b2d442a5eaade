"""Sign loss: the bits of the sign of a unit's input that its two weights hide."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.polynomial import chebyshev, legendre
from numpy.typing import ArrayLike, NDArray

from assocmem.core import checks

# Half of the pairs of independent symmetric weights are aligned, and one bit is the most an aligned pair can lose.
SIGN_LOSS_BOUND: Final = 0.5

# ln of the largest ratio of two float64 numbers that is tabled; beyond, the loss is below 1e-300 bits.
_LARGEST_LOG_RATIO = 700.0
_DEGREE = 80


@np.errstate(under="ignore")
def sign_loss(w_pos: ArrayLike, w_neg: ArrayLike) -> NDArray[np.float64]:
    """Bits of the sign of z ~ N(0, 1) that f(z) = w₊ relu(z) + w₋ relu(−z) does not tell: H(sign z | f(z)).

    With weights of opposite signs f is monotone and nothing is lost. With equal signs f is a V: a value y > 0 has the
    preimages y/|w₊| and −y/|w₋|, with posterior odds of a Gaussian each. Where one weight is 0, f is 0 on one side
    only, which tells the sign: nothing is lost, which is also the limit of a growing ratio. Where both are 0, f tells
    nothing, and the whole bit is lost.

    Parameters
    ----------
    w_pos, w_neg : arrays that broadcast
        The weights of the two sides of a unit, finite.

    Returns
    -------
    array of bits in [0, 1]

    References
    ----------
    docs/theory.md, section "Sign loss". Interpolated between Gauss–Legendre quadratures, within 1e-9 of them.

    Examples
    --------
    >>> sign_loss([1.0, 1.5, 2.0, 4.0, 10.0, -1.0, 0.0], 1.0).round(4)
    array([1.    , 0.9471, 0.8662, 0.6343, 0.3749, 0.    , 0.    ])
    """
    largest = float(np.finfo(np.float64).max)
    plus, minus = np.broadcast_arrays(
        checks.as_array("w_pos", w_pos, -largest, largest), checks.as_array("w_neg", w_neg, -largest, largest)
    )
    aligned = ((plus > 0) & (minus > 0)) | ((plus < 0) & (minus < 0))
    loss = np.where((plus == 0) & (minus == 0), 1.0, 0.0)
    log_ratio = np.abs(np.log(np.abs(plus[aligned])) - np.log(np.abs(minus[aligned])))
    loss[aligned] = _loss_of_log_ratio(log_ratio)
    return loss


def _loss_of_log_ratio(log_ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate ln(loss · ratio), a smooth function of ln(1 + ln ratio)."""
    inside = np.minimum(log_ratio, _LARGEST_LOG_RATIO)
    place = 2 * np.log1p(inside) / np.log1p(_LARGEST_LOG_RATIO) - 1
    loss = np.exp(chebyshev.chebval(place, _table()) - log_ratio)
    return np.asarray(np.minimum(loss, 1.0))


@lru_cache(maxsize=1)
def _table() -> NDArray[np.float64]:
    def height(place: Any) -> Any:
        log_ratio = np.expm1((place + 1) / 2 * np.log1p(_LARGEST_LOG_RATIO))
        return np.log([scaled_loss(float(t)) for t in log_ratio])

    return np.asarray(chebyshev.chebinterpolate(height, _DEGREE))


@np.errstate(under="ignore")
def scaled_loss(log_ratio: float) -> float:
    """Sign loss times the ratio r = exp(log_ratio) of the weights, by quadrature: ∫ φ(y/r) (1 + e^−L) H₂(L) dy.

    L = −ln r + y²(1 − 1/r²)/2 are the log odds of the side with the larger weight, given the value y.
    """
    a = np.exp(-log_ratio)
    edge = np.sqrt(2 * log_ratio) + 12
    nodes, weights = _nodes()
    y = (nodes + 1) / 2 * edge
    odds = y**2 * (1 - a) * (1 + a) / 2 - log_ratio
    size = np.abs(odds)
    x = np.exp(-size)
    # (1 + e^−L) times the entropy in nats, without forming e^|L|: from either side of L = 0.
    slope = np.where(x > 1e-300, np.log1p(x) / np.maximum(x, 1e-300), 1.0)
    surprise = np.where(odds < 0, slope + np.log1p(x) + size, (1 + x) * np.log1p(x) + size * x)
    density = np.exp(-((a * y) ** 2) / 2) / np.sqrt(2 * np.pi)
    return float(weights @ (density * surprise) * edge / 2 / np.log(2))


@lru_cache(maxsize=1)
def _nodes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss–Legendre nodes on 64 equal panels of [−1, 1]: at the largest ratio the odds turn within 0.03 of 50."""
    nodes, weights = legendre.leggauss(40)
    panels = np.linspace(-1, 1, 65)[:-1, None] + 1 / 64
    return (panels + nodes / 64).ravel(), np.tile(weights / 64, 64)


@np.errstate(under="ignore")
def mean_sign_loss() -> float:
    """Mean sign loss of independent Gaussian weights, in bits: 0.3634, where the bound is one half.

    The ratio of two such weights is the tangent of a uniform angle, and half of the pairs are aligned.

    Examples
    --------
    >>> round(mean_sign_loss(), 4)
    0.3634
    """
    nodes, weights = legendre.leggauss(400)
    # Angles from 0 to π/4, the other half mirrors them; the cube crowds the nodes at 0, where the loss rises steeply.
    share = (nodes + 1) / 2
    losses = sign_loss(np.tan(np.pi / 4 * share**3), 1.0)
    return float(0.5 * (weights / 2) @ (losses * 3 * share**2))
