"""Noisy channels: the largest of many Gaussians, and the bits that a noisy ±1 value tells."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from assocmem.core import checks

Array: TypeAlias = NDArray[np.float64]

_LARGEST = float(np.finfo(np.float64).max)

# Nodes of the trapezoidal rule over a Gaussian. It converges exponentially for such integrands: the narrowest step in
# them, at a million classes, is 0.2 wide. Beyond 38 deviations a Gaussian is below the smallest float64.
_STEP = 1 / 32
_NODES = np.arange(-38, 38 + _STEP, _STEP)
with np.errstate(under="ignore"):
    _NODE_WEIGHTS = np.exp(-0.5 * _NODES**2) * (_STEP / np.sqrt(2 * np.pi))
_CHUNK = 1024


@np.errstate(under="ignore")
def wrong_among(n_classes: ArrayLike, distance: ArrayLike, spread: ArrayLike) -> Array:
    """Probability that the largest of C − 1 standard Gaussians exceeds distance + spread · (another one).

    Parameters
    ----------
    n_classes : array, at least 2
        C.
    distance : array, at least 0
        Mean of the right one, in deviations of the others.
    spread : array in [0, 1]
        Deviation of the right one.

    Examples
    --------
    >>> wrong_among(n_classes=[2, 10], distance=0.0, spread=1.0).round(9)
    array([0.5, 0.9])
    """
    shape_of = np.broadcast_arrays(
        checks.as_array("n_classes", n_classes, 2, _LARGEST),
        checks.as_array("distance", distance, 0.0, np.inf),
        checks.as_array("spread", spread, 0.0, 1.0),
    )
    classes, far, wide = (array.reshape(-1) for array in shape_of)
    wrong = np.empty(classes.shape)
    for start in range(0, len(wrong), _CHUNK):
        part = slice(start, start + _CHUNK)
        reach = far[part, None] + wide[part, None] * _NODES
        wrong[part] = -np.expm1((classes[part, None] - 1) * special.log_ndtr(reach)) @ _NODE_WEIGHTS
    return wrong.reshape(shape_of[0].shape)


# Sizes of random classes are replaced by this many, with the moments of a Poisson distribution; and a step of the nodes
# over a Gaussian that still is below the narrowest step in the integrand.
_SIZES = 3
_COARSE = slice(None, None, 4)


@np.errstate(under="ignore")
def wrong_among_random(n_classes: int, distance: ArrayLike, pairs: float) -> Array:
    """Probability as by `wrong_among` where each Gaussian has the variance of a class of random size, 1 on average.

    With `pairs` random labels a class has a Poisson number of pairs, and the crosstalk on its output a variance in
    proportion. Sizes add up to `pairs`: the variance of the sum of two, by their mean, is 2 (C − 2) / pairs.

    Parameters
    ----------
    n_classes : int, at least 2
        C.
    distance : array, at least 0
        Mean of the right one, in deviations of a class of mean size.
    pairs : float, at least 1
        Pairs of all classes together.

    Examples
    --------
    >>> [round(float(wrong_among_random(100, 4.0, pairs)), 4) for pairs in (500, 5000, 1e9)]
    [0.1234, 0.0898, 0.0854]
    """
    classes = int(checks.as_array("n_classes", n_classes, 2, _LARGEST))
    far = checks.as_array("distance", distance, 0.0, np.inf)
    mean = checks.as_number("pairs", pairs, 1.0, _LARGEST) / max(classes - 2, 1e-9)
    # Nodes and weights of the Gauss quadrature: the recurrence of the Charlier polynomials.
    k = np.arange(_SIZES)
    off = np.sqrt(k[1:] / mean)
    sizes, vectors = np.linalg.eigh(np.diag(1 + k / mean) + np.diag(off, 1) + np.diag(off, -1))
    shares, deviations = vectors[0] ** 2, np.sqrt(np.maximum(sizes, 1e-12))
    nodes, node_weights = _NODES[_COARSE], _NODE_WEIGHTS[_COARSE] / _NODE_WEIGHTS[_COARSE].sum()
    wrong = np.empty(far.size)
    for index, value in enumerate(far.reshape(-1)):
        reach = value + np.multiply.outer(deviations, nodes)
        higher = special.ndtr(-reach[..., None] / deviations) @ shares
        wrong[index] = shares @ (-np.expm1((classes - 1) * np.log1p(-np.minimum(higher, 1 - 1e-16))) @ node_weights)
    return wrong.reshape(far.shape)


@np.errstate(under="ignore")
def sign_channel_bits(error: ArrayLike) -> Array:
    """1 − H₂(error): bits that a ±1 value recalled with this error still tells.

    Parameters
    ----------
    error : array in [0, 1]
        Share of wrong signs.

    Examples
    --------
    >>> sign_channel_bits([0.0, 0.11, 0.5]).round(4)
    array([1.    , 0.5001, 0.    ])
    """
    e = checks.as_array("error", error, 0.0, 1.0)
    e = np.minimum(e, 1 - e)
    return channel_bits(1 - 2 * e, e)


@np.errstate(under="ignore")
def channel_bits(margin: Any, error: Any) -> Array:
    """1 − H₂(error) with margin 1 − 2·error: (2 u atanh u + ln(1 − u²)) / (2 ln 2), no cancellation at u = 0 or 1."""
    low = np.minimum(margin, 0.9)
    near_half = 2 * low * np.arctanh(low) + np.log1p(-(low**2))
    near_certain = 2 * (np.log(2) + special.xlogy(error, error) + special.xlog1py(1 - error, -np.asarray(error)))
    return np.asarray(np.where(margin < 0.9, near_half, near_certain) / (2 * np.log(2)))
