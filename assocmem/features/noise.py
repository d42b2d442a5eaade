"""Noisy keys, and the mean and variance of their features in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assocmem.core import checks
from assocmem.core.jit import kernel
from assocmem.core.threads import run_in_row_blocks
from assocmem.features.crelu import CReLUFeatures, euclidean_norm
from assocmem.features.hadamard import MIN_BLOCK_SIZE, project_block

_ROOT_HALF = math.sqrt(0.5)
_ROOT_TWO_OVER_PI = math.sqrt(2 / math.pi)


@kernel
def mean_and_variance_of_size(center: float, deviation: float) -> tuple[float, float]:
    """Mean and variance of |z| for z ~ N(center, deviation²): the folded normal distribution."""
    if deviation == 0.0:
        return abs(center), 0.0
    a = center / deviation
    mean = a * math.erf(a * _ROOT_HALF) + _ROOT_TWO_OVER_PI * math.exp(-0.5 * a * a)
    # E z² = center² + deviation² is what |z|² has, too; far from 0 the difference may round below its value, 1.
    return deviation * mean, deviation * deviation * max(1.0 + a * a - mean * mean, 0.0)


@kernel
def _expect_rows(
    start: int,
    stop: int,
    keys: NDArray[Any],
    bias: float,
    signs: NDArray[np.int8],
    linear: float,
    scale: float,
    mean: float,
    cosine: float,
    means: NDArray[Any],
    variances: NDArray[Any],
) -> None:
    """Means and variances (N, D) of the folded features of keys with noise; as `fold_key` without it."""
    key_dim, p = keys.shape[1], signs.shape[2]
    real = means.dtype.type
    padded, x, y = np.zeros(p, keys.dtype), np.empty(p, keys.dtype), np.empty(p, keys.dtype)
    for n in range(start, stop):
        norm = euclidean_norm(keys[n])
        spread = math.sqrt((1.0 - cosine) * (1.0 + cosine)) * norm
        for i in range(key_dim):
            padded[i] = real(cosine) * keys[n, i]
            means[n, i] = real(linear) * padded[i]
            variances[n, i] = (linear * spread) ** 2 / key_dim
        d = key_dim
        if bias != 0.0:
            padded[key_dim] = bias
            means[n, key_dim] = real(linear) * padded[key_dim]
            variances[n, key_dim] = 0.0
            d += 1
        shift = mean * math.hypot(norm, bias)
        deviation = spread / math.sqrt(p)
        for block in range(signs.shape[0]):
            x, y = project_block(padded, signs[block], x, y)
            first = d + block * p
            for i in range(p):
                size, variance = mean_and_variance_of_size(np.float64(x[i]), deviation)
                means[n, first + i] = scale * (size - shift)
                variances[n, first + i] = scale * scale * variance


def expect_noisy_rows(
    features: CReLUFeatures, rows: NDArray[Any], noise: float
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Mean folded features of noisy keys, and their variances summed over the keys.

    A noisy version of a key x is ρ x + √(1−ρ²)·‖x‖/√d · (standard Gaussian noise), ρ = 1 − 2·noise; for keys of ±1 the
    mean and the variance are those of keys with a share `noise` of the signs flipped. A projected coordinate is then
    Gaussian around ρ z with variance (1−ρ²)·‖x‖²/p, and |z| a folded normal (docs/theory.md).

    Parameters
    ----------
    features : CReLUFeatures
        Of the memory.
    rows : (N, key_dim)
        Checked keys, contiguous and of the dtype of the features; x is a key without the center.
    noise : float in (0, 0.5)
        Share of flipped signs.

    Returns
    -------
    means : (N, rank)
        Of the dtype of the features.
    variances : (rank,) float64
        Sums over the keys.

    References
    ----------
    Leone, Nelson and Nottingham (1961), "The Folded Normal Distribution", Technometrics 3.
    """
    checks.refuse_unchecked("rows", rows, features.key_dim, (features.dtype,))
    means = np.empty((len(rows), features.rank), features.dtype)
    variances = np.empty_like(means)
    arguments = (features.centred(rows), *features.kernel_arguments, 1.0 - 2.0 * noise, means, variances)
    run_in_row_blocks(_expect_rows, len(rows), MIN_BLOCK_SIZE // (8 * features.n_units), *arguments)
    return means, variances.sum(axis=0, dtype=np.float64)


def noisy_keys(keys: NDArray[Any], cosine: float, rng: np.random.Generator) -> NDArray[Any]:
    """Return queries of the same norms at exactly this cosine to the keys, in random directions.

    Parameters
    ----------
    keys : (N, key_dim)
        Those of zeros have no direction, and stay as they are.
    cosine : float in [0, 1]
        Cosine of query and key; keys of length 1 have no other directions, and stay as they are.
    rng : numpy.random.Generator
        Source of the directions.

    Examples
    --------
    >>> keys = np.array([[3.0, 4.0, 0.0]])
    >>> query = noisy_keys(keys, 0.6, np.random.default_rng(0))
    >>> bool(np.isclose(np.sum(query * keys), 0.6 * 25)), bool(np.isclose(np.linalg.norm(query), 5))
    (True, True)
    """
    if cosine == 1 or keys.shape[1] == 1:
        return keys
    norms = np.linalg.norm(keys, axis=1, keepdims=True)
    units = keys / np.where(norms > 0.0, norms, 1.0)
    noise = rng.standard_normal(keys.shape)
    noise -= (noise * units).sum(axis=1, keepdims=True) * units
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    return np.asarray(norms * (cosine * units + math.sqrt((1 - cosine) * (1 + cosine)) * noise))
