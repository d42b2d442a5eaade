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
def mean_sign_loss(even_over_odd: float = 1.0) -> float:
    """Mean sign loss of units whose even and odd weights b = (w₊ + w₋)/2, a = (w₊ − w₋)/2 are independent Gaussians.

    Parameters
    ----------
    even_over_odd : float, at least 0
        σ_b/σ_a; 1 are independent w₊ and w₋, for which the mean is 0.3634 bit and the bound one half.
        `trained_ratio` gives that of a memory.

    Returns
    -------
    float
        Bits.

    References
    ----------
    docs/theory.md, section "Sign loss".

    Examples
    --------
    >>> [round(mean_sign_loss(ratio), 4) for ratio in (1.0, trained_ratio(64, 1), trained_ratio(64, 8))]
    [0.3634, 0.5067, 0.9056]
    """
    ratio = checks.as_number("even_over_odd", even_over_odd, 0.0, float(np.finfo(np.float64).max))
    nodes, weights = legendre.leggauss(400)
    share = (nodes + 1) / 2
    # |a|/|b| · σ_b/σ_a is the tangent of a uniform angle from 0 to π/2, and the angles below `aligned` are aligned.
    # With `left` up to there, the smaller weight is to the larger as sin(left) to sin(2 aligned − left). The cube
    # crowds the nodes where `left` is 0 and the loss rises steeply.
    aligned = np.arctan(ratio)
    left = aligned * share**3
    losses = sign_loss(np.sin(left), np.sin(2 * aligned - left))
    return float(2 / np.pi * aligned * (weights / 2) @ (losses * 3 * share**2))


def aligned_share(even_over_odd: float) -> float:
    """Share of units whose weights have the same sign, (2/π) arctan(σ_b/σ_a), for the weights of `mean_sign_loss`."""
    return float(2 / np.pi * np.arctan(even_over_odd))


def trained_ratio(key_dim: int, expansion: int) -> float:
    """Ratio σ_b/σ_a of the even and the odd weights of a trained memory: m / (d √(1 − 2/π)), 1.66 k where d = p.

    For random keys, whitened features, and every rule that treats features of one variance alike.

    Parameters
    ----------
    key_dim, expansion : int
        As in `AssociativeMemory`; count a bias as one more key_dim.

    References
    ----------
    docs/theory.md, section "Sign loss".

    Examples
    --------
    >>> round(trained_ratio(64, 1), 3), round(trained_ratio(64, 8), 3)
    (1.659, 13.271)
    """
    d = checks.as_size("key_dim", key_dim)
    return float(_units(d, expansion) / (d * np.sqrt(1 - 2 / np.pi)))


def antipodal_loss(n_pairs: int, key_dim: int, expansion: int) -> float:
    """Relative error of a ridge memory of n antipodal pairs of keys, x and −x, with unrelated values.

    Half of the squared values are odd in x, for which the d coordinates of the key are there, half are even, for which
    the m units are: √((max(0, 1 − d/n) + max(0, 1 − m/n))/2).

    Parameters
    ----------
    n_pairs : int
        Antipodal pairs, 2n keys.
    key_dim, expansion : int
        As in `AssociativeMemory`, without a bias.

    References
    ----------
    docs/theory.md, section "Sign loss".

    Examples
    --------
    >>> [round(antipodal_loss(n, 64, 4), 3) for n in (64, 80, 320)]
    [0.0, 0.316, 0.707]
    """
    n, d = checks.as_size("n_pairs", n_pairs), checks.as_size("key_dim", key_dim)
    m = _units(d, expansion)
    return float(np.sqrt((max(0.0, 1 - d / n) + max(0.0, 1 - m / n)) / 2))


def _units(key_dim: int, expansion: int) -> int:
    """Return m."""
    return checks.as_size("expansion", expansion) << (key_dim - 1).bit_length()
