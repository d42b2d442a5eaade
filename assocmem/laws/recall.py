"""The laws of capacity: what a memory recalls, known before the first pair is stored.

All laws hold for keys with random directions, independent values of mean square 1 and whitened features, for m well
below d²/2. The load is N / D. A penalty is relative: ``alpha / (D * mean ‖x‖²)``. The forms below are those in which
nothing cancels; docs/theory.md derives them from the textbook forms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from assocmem.core import checks
from assocmem.laws.channels import channel_bits, wrong_among, wrong_among_random

Array: TypeAlias = NDArray[np.float64]

# ±1 values per weight that a linear readout can hold without an error: Cover (1965), Gardner (1988). With errors and
# beyond load 2, bits per weight may exceed it (docs/theory.md).
COVER_GARDNER_LIMIT: Final = 2.0

_LARGEST = float(np.finfo(np.float64).max)


# ---------------------------------------------------------------------------------------------- feature cosine


@np.errstate(under="ignore")
def feature_cosine(cosine: ArrayLike, key_dim: int, expansion: int) -> Array:
    """Cosine κ of the whitened features of two keys at a given cosine.

    Parameters
    ----------
    cosine : array in [0, 1]
        Cosine ρ of query and stored key.
    key_dim, expansion : int
        As in `AssociativeMemory`; count a bias as one more key_dim.

    Returns
    -------
    array of the shape of `cosine`

    References
    ----------
    The covariance of |z| and |z'| for Gaussians at correlation ρ is (2/π)(√(1−ρ²) + ρ asin ρ − 1): Cho and Saul
    (2009), "Kernel Methods for Deep Learning", equation 6.

    Examples
    --------
    >>> feature_cosine([0.0, 0.9, 1.0], key_dim=128, expansion=3).round(4)
    array([0.   , 0.808, 1.   ])
    """
    rho = checks.as_array("cosine", cosine, 0.0, 1.0)
    d, m = _sizes(key_dim, expansion)
    # ρ asin ρ − (1 − √(1−ρ²)), the latter as ρ²/(1 + √(1−ρ²)): near 0 this keeps half of its digits' worth, not none.
    even = (rho * np.arcsin(rho) - rho**2 / (1 + np.sqrt((1 - rho) * (1 + rho)))) / (np.pi / 2 - 1)
    return np.asarray(np.minimum((d * rho + m * even) / (d + m), 1.0))


@np.errstate(under="ignore")
def feature_cosine_gap(cosine: ArrayLike, key_dim: int, expansion: int) -> Array:
    """1 − κ, accurate also where κ rounds to 1.

    Parameters, refusals and source as in `feature_cosine`.

    Returns
    -------
    array of the shape of `cosine`

    Examples
    --------
    >>> feature_cosine_gap([0.0, 1 - 1e-15, 1.0], key_dim=128, expansion=3)
    array([1.00000000e+00, 2.31210426e-15, 0.00000000e+00])
    """
    rho = checks.as_array("cosine", cosine, 0.0, 1.0)
    d, m = _sizes(key_dim, expansion)
    angle = np.arccos(rho)
    # With ρ = cos θ: 1 − even = (π/2 (1 − cos θ) − (sin θ − θ cos θ)) / (π/2 − 1).
    even_gap = (np.pi / 2 * (1 - rho) - _sine_minus_angle_cosine(angle)) / (np.pi / 2 - 1)
    return np.asarray(np.minimum((d * (1 - rho) + m * even_gap) / (d + m), 1.0))


@np.errstate(under="ignore")
def feature_correlation(key_dim: int, expansion: int) -> float:
    """Mean square of the covariance of the features, tr C² / D: 1 if they were uncorrelated, more for m near d²/2.

    Two units whose rows have cosine c are correlated by a (c² − 1/d), a = (1/π)/(1 − 2/π), for keys of a given norm:
    the part of |z| of degree 2, a share a of its variance, lies in the d (d + 1)/2 products of key coordinates. Rows of
    one block are orthogonal, those of different blocks have E (c² − 1/d)² = 2 (d − 1)/(d² (d + 2)). Crosstalk has this
    many times the variance of the asymptotic laws; `prediction` multiplies by it.

    Parameters
    ----------
    key_dim, expansion : int
        As in `AssociativeMemory`; count a bias as one more key_dim.

    Examples
    --------
    >>> [round(feature_correlation(128, expansion), 3) for expansion in (1, 3, 16, 32)]
    [1.003, 1.022, 1.171, 1.358]
    """
    d, m = _sizes(key_dim, expansion)
    p = m // expansion
    slope = (1 / np.pi) / (1 - 2 / np.pi)
    within, across = (p - 1) / d**2, (m - p) * 2 * (d - 1) / (d**2 * (d + 2))
    return float(1 + slope**2 * m * (within + across) / (d + m))


def _sine_minus_angle_cosine(angle: Array) -> Array:
    """Return sin θ − θ cos θ; its series θ³/3 − θ⁵/30 + ... below 1, where the two terms cancel."""
    term = small = angle**3 / 3
    for n in range(1, 12):
        term = -term * angle**2 / (2 * n * (2 * n + 3))
        small = small + term
    return np.where(angle < 1, small, np.sin(angle) - angle * np.cos(angle))


def _sizes(key_dim: int, expansion: int) -> tuple[int, int]:
    """Return d and m."""
    d = checks.as_size("key_dim", key_dim)
    return d, checks.as_size("expansion", expansion) * 2 ** (d - 1).bit_length()


def _kappa_and_gap(kappa: ArrayLike, gap: ArrayLike | None) -> tuple[Array, Array]:
    known = checks.as_array("kappa", kappa, 0.0, 1.0)
    return known, 1 - known if gap is None else checks.as_array("gap", gap, 0.0, 1.0)


# ---------------------------------------------------------------------------------------------- recalled values


@dataclass(frozen=True)
class Recalled:
    """The law of a recalled value: Gaussian around mean · (true value), with a variance.

    Parameters
    ----------
    mean, variance : array
        For values of mean square 1.
    shortfall : array
        1 − mean, known to full relative accuracy.

    Examples
    --------
    >>> law = ridge_law(load=0.5, penalty=0.1, kappa=0.9)
    >>> round(float(law.sign_error), 4), round(float(law.mean_squared_error), 4)
    (0.0129, 0.1728)
    """

    mean: Array
    variance: Array
    shortfall: Array

    @np.errstate(under="ignore")
    def scaled(self, factor: float) -> Recalled:
        """Law with `factor` times the variance, for example `feature_correlation`."""
        return Recalled(self.mean, self.variance * factor, self.shortfall)

    @property
    @np.errstate(under="ignore")
    def signal(self) -> Array:
        """Mean over standard deviation; infinite where recall is exact, 0 where nothing is recalled."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.mean / np.sqrt(self.variance)
        return np.where(self.mean == 0, 0.0, ratio)

    @property
    @np.errstate(under="ignore")
    def sign_error(self) -> Array:
        """Probability that a ±1 value is recalled with the wrong sign: Q(mean / deviation)."""
        return np.asarray(special.ndtr(-self.signal))

    @property
    @np.errstate(under="ignore")
    def mean_squared_error(self) -> Array:
        """Mean squared error of a value of variance 1."""
        return np.asarray(self.shortfall**2 + self.variance)

    @np.errstate(under="ignore")
    def wrong_class(self, n_classes: ArrayLike, pairs: float | None = None) -> Array:
        """Probability that another of C one-hot outputs is larger than the right one.

        Only the pairs of a class reach its output: crosstalk of variance/C for classes of equal sizes, independent
        between outputs since no two classes share a pair. Sizes of random labels fluctuate, and outputs of large
        classes win more often.

        Parameters
        ----------
        n_classes : array, at least 2
            Outputs that compete; one number where `pairs` is given.
        pairs : float, at least 1, optional
            Pairs with random labels; None for classes of equal sizes.

        Examples
        --------
        >>> hebbian_law(load=1.0).wrong_class([2, 10, 100]).round(4)
        array([0.1587, 0.0761, 0.    ])
        >>> round(float(hebbian_law(load=1.0).wrong_class(10, pairs=50)), 4)
        0.0826
        """
        distance = self.signal * np.sqrt(np.asarray(n_classes, np.float64))
        if pairs is None:
            return wrong_among(n_classes, distance, 1.0)
        return wrong_among_random(int(checks.as_array("n_classes", n_classes, 2, _LARGEST)), distance, pairs)


@np.errstate(under="ignore")
def hebbian_law(load: ArrayLike, kappa: ArrayLike = 1.0, gap: ArrayLike | None = None) -> Recalled:
    """Law of the Hebbian rule: mean κ, variance N / D.

    Every stored pair adds its value times a feature cosine of variance 1/D.

    Parameters
    ----------
    load : array, at least 0
        N / D.
    kappa : array in [0, 1]
        Feature cosine of query and stored key, from `feature_cosine`.
    gap : array in [0, 1], optional
        1 − κ where κ is too near 1 to know it, from `feature_cosine_gap`.

    Examples
    --------
    >>> hebbian_law(load=[0.2, 0.8]).sign_error.round(4)
    array([0.0127, 0.1318])
    """
    y = checks.as_array("load", load, 0.0, _LARGEST)
    mean, shortfall, variance = np.broadcast_arrays(*_kappa_and_gap(kappa, gap), y)
    return Recalled(mean, variance, shortfall)


@np.errstate(under="ignore")
def ridge_law(
    load: ArrayLike, penalty: ArrayLike = 0.0, kappa: ArrayLike = 1.0, gap: ArrayLike | None = None
) -> Recalled:
    """Law of ridge regression (rules "ridge" and "rls") at every load, penalty and noise.

    With y the load, l the penalty and the root r = √((1 − y + l)² + 4yl): the shrinkage is h = 2 / (1 + y + l + r),
    its complement q = 1 − h the positive root of y q² + (1 − y + l) q − l = 0, and the noise gain t = y h / r. The
    mean is κh and the variance t (1 − κ² + κ² q²).

    Parameters
    ----------
    load : array, at least 0
        N / D.
    penalty : array, at least 0
        α / (D · mean ‖x‖²); 0 is the minimum-norm solution.
    kappa, gap : array in [0, 1]
        As in `hebbian_law`.

    References
    ----------
    Marchenko and Pastur (1967); Hastie, Montanari, Rosset and Tibshirani (2022), "Surprises in high-dimensional
    ridgeless least squares interpolation". The forms here: docs/theory.md.

    Examples
    --------
    >>> ridge_law(load=0.8, penalty=0.08, kappa=[1.0, 0.8]).sign_error.round(4)
    array([0.    , 0.1605])
    >>> ridge_law(load=[0.9, 2.0]).sign_error.round(4)  # minimum norm: 0, then Q(1 / sqrt(load - 1))
    array([0.    , 0.1587])
    """
    y, lam, k, g = np.broadcast_arrays(
        checks.as_array("load", load, 0.0, _LARGEST),
        checks.as_array("penalty", penalty, 0.0, _LARGEST),
        *_kappa_and_gap(kappa, gap),
    )
    # Beyond, it is the Hebbian rule to a hundred digits, but the squares of its small recalls would vanish.
    lam = np.minimum(lam, 1e100)
    b = (1 - y) + lam
    root = np.hypot(b, 2 * np.sqrt(y) * np.sqrt(lam))
    h = 2 / ((1 + y + lam) + root)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(b >= 0, 2 * lam / (b + root), (root - b) / (2 * y))
        q = np.where(root == 0, 0.0, q)  # load 1 without a penalty: the limit
        gain = y * h / root
        # 0 · ∞ there too: clean queries are recalled exactly, noisy ones are lost.
        noise = np.where(g == 0, 0.0, gain * (g * (1 + k)))
        unfit = np.where(root == 0, 0.0, gain * (k * q) ** 2)
    return Recalled(k * h, noise + unfit, g + k * q)


@np.errstate(under="ignore")
def delta_law(
    load: ArrayLike, age: ArrayLike, rate: float = 1.0, kappa: ArrayLike = 1.0, gap: ArrayLike | None = None
) -> Recalled:
    """Law of the delta rule after one pass, for a pair that was stored `age` · D pairs ago.

    A later pair changes what is recalled by rate · cosine · (its error). With c = rate (2 − rate), the recall of a
    new key has variance P(y) = rate² (1 − exp(−c y)) / c; the mean for a stored one is κ · rate · exp(−rate · age),
    and the variance P(y) − mean² (1 − exp(−c (y − age))).

    Parameters
    ----------
    load : array, at least 0
        N / D.
    age : array in [0, load]
        Pairs stored since, divided by D.
    rate : float in (0, 2]
        Share of the error that a pair corrects.
    kappa, gap : array in [0, 1]
        As in `hebbian_law`.

    References
    ----------
    docs/theory.md; the method of Slock (1993), "On the convergence behavior of the LMS and the normalized LMS
    algorithms".

    Examples
    --------
    >>> delta_law(load=1.0, age=[0.0, 0.5, 1.0]).sign_error.round(4)
    array([0.    , 0.1925, 0.3218])
    """
    y = checks.as_array("load", load, 0.0, _LARGEST)
    x = checks.as_array("age", age, 0.0, _LARGEST)
    eta = checks.as_number("rate", rate, 0.0, 2.0, open_low=True)
    k, g = _kappa_and_gap(kappa, gap)
    if (x > y).any():
        raise ValueError(f"age holds {float(x.max())}; expected at most the load; a pair is not older than the memory")
    c = eta * (2 - eta)
    power = eta**2 * (-np.expm1(-c * y) / c if c else y)
    kept = eta * np.exp(-eta * x)
    mean = k * kept
    variance = np.maximum(power + mean**2 * np.expm1(-c * (y - x)), 0.0)
    shortfall = g + k * (1 - kept if eta != 1 else -np.expm1(-x))
    return Recalled(*np.broadcast_arrays(mean, variance, shortfall))


@np.errstate(under="ignore")
def best_penalty(load: ArrayLike, kappa: ArrayLike, gap: ArrayLike | None = None) -> Array:
    """The penalty at which ridge answers queries of feature cosine κ best: load (1 − κ²) / κ², at every load.

    Noise of variance (1 − κ²)/κ² per coordinate in the queries is what a penalty of N times that stands for. Best is
    the signal: the fewest wrong signs and classes, and the least squared error of recalls divided by κ. The squared
    error of the recalls as they are is least at a smaller penalty (docs/theory.md).

    Parameters
    ----------
    load : array, at least 0
        N / D.
    kappa, gap : array in [0, 1]
        As in `hebbian_law`.

    Returns
    -------
    array
        The relative penalty α / (D · mean ‖x‖²); infinite at κ = 0.

    References
    ----------
    Bishop (1995), "Training with noise is equivalent to Tikhonov regularization".

    Examples
    --------
    >>> best_penalty(load=0.5, kappa=[1.0, 0.8])
    array([0.     , 0.28125])
    """
    y = checks.as_array("load", load, 0.0, _LARGEST)
    k, g = _kappa_and_gap(kappa, gap)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(np.where(g == 0, 0.0, y * (g * (1 + k)) / k**2))


@np.errstate(under="ignore")
def bits_per_weight(load: ArrayLike, law: Recalled) -> Array:
    """Bits of ±1 values that the signs of recalls tell per weight: load · (1 − H₂(sign error)).

    The size of a recall, which says how sure its sign is, is not used.

    Parameters
    ----------
    load : array, at least 0
        N / D.
    law : Recalled
        From one of the laws above, at this load.

    Returns
    -------
    array
        Bits per weight; `COVER_GARDNER_LIMIT` is the most without errors.

    References
    ----------
    Shannon (1948): capacity of the binary symmetric channel.

    Examples
    --------
    >>> bits_per_weight(load=[0.5, 1.0, 2.0], law=ridge_law(load=[0.5, 1.0, 2.0])).round(4)
    array([0.5   , 1.    , 0.7378])
    """
    y = checks.as_array("load", load, 0.0, _LARGEST)
    return np.asarray(y * channel_bits(special.erf(law.signal / np.sqrt(2)), law.sign_error))
