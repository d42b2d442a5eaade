"""The jitted recall loops: from a key to its value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assocmem.core.intrinsics import atomic_add, prefetch
from assocmem.core.jit import kernel, reduction
from assocmem.features.crelu import euclidean_norm, fold_key
from assocmem.features.hadamard import copy_into, project_block

_ROWS_AT_A_TIME = 8  # each pass over the total serves eight rows, so the total costs an eighth of the traffic
_LINES_AHEAD = 4  # of a row that comes next: what follows them is fetched without being told
_CACHE_LINE = 64  # bytes


@kernel
def weighted_row_sum(coefficients: NDArray[Any], rows: NDArray[Any], total: NDArray[Any]) -> None:
    """Compute total (v,) = coefficients (D,) @ rows (D, v), several rows at a time."""
    for j in range(total.shape[0]):
        total[j] = 0.0
    last = coefficients.shape[0] - coefficients.shape[0] % _ROWS_AT_A_TIME
    for i in range(0, last, _ROWS_AT_A_TIME):
        a, b, c, d = coefficients[i], coefficients[i + 1], coefficients[i + 2], coefficients[i + 3]
        e, f, g, h = coefficients[i + 4], coefficients[i + 5], coefficients[i + 6], coefficients[i + 7]
        row_a, row_b, row_c, row_d = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
        row_e, row_f, row_g, row_h = rows[i + 4], rows[i + 5], rows[i + 6], rows[i + 7]
        for j in range(total.shape[0]):
            total[j] += (a * row_a[j] + b * row_b[j] + c * row_c[j] + d * row_d[j]) + (
                e * row_e[j] + f * row_f[j] + g * row_g[j] + h * row_h[j]
            )
    for i in range(last, coefficients.shape[0]):
        for j in range(total.shape[0]):
            total[j] += coefficients[i] * rows[i, j]


@kernel
def recall_folded(
    key: NDArray[Any],
    bias: float,
    signs: NDArray[np.int8],
    linear: float,
    scale: float,
    mean: float,
    weights: NDArray[Any],
    value: NDArray[Any],
) -> None:
    """Recall one centred key (key_dim,) with folded weights (rank, value_dim) into value (value_dim,)."""
    p = signs.shape[2]
    folded = np.empty(weights.shape[0], weights.dtype)
    padded, x, y = np.zeros(p, key.dtype), np.empty(p, key.dtype), np.empty(p, key.dtype)
    fold_key(key, bias, signs, linear, scale, mean, folded, padded, x, y)
    weighted_row_sum(folded, weights, value)


@kernel
def project_key(
    key: NDArray[Any], bias: float, signs: NDArray[np.int8], scratch: NDArray[Any], projected: NDArray[Any]
) -> float:
    """Compute z = P x (m,) of one centred key, extended by the bias; scratch (3, p). Returns the norm of x."""
    padded, x, y = scratch[0], scratch[1], scratch[2]
    d = key.shape[0]
    p = signs.shape[2]
    copy_into(padded, key)
    for i in range(d, p):
        padded[i] = 0.0
    if bias != 0.0:
        padded[d] = bias
        d += 1
    for block in range(signs.shape[0]):
        x, y = project_block(padded, signs[block], x, y)
        copy_into(projected[block * p : (block + 1) * p], x)
    norm: float = euclidean_norm(padded[:d])
    return norm


@reduction
def gated_row_sum(projected: NDArray[Any], rows: NDArray[Any], total: NDArray[Any]) -> None:
    """Compute total (v,) = Σ |z_i| rows[i, 0 if z_i >= 0 else 1]: of the rows (units, 2, v), half is read.

    The processor cannot predict which rows are next, so they are prefetched.
    """
    real = total.dtype.type
    for j in range(total.shape[0]):
        total[j] = 0.0
    last = projected.shape[0] - projected.shape[0] % _ROWS_AT_A_TIME
    n_lines = min(_LINES_AHEAD, total.shape[0] * rows.itemsize // _CACHE_LINE)
    for i in range(0, last, _ROWS_AT_A_TIME):
        if i + _ROWS_AT_A_TIME < last:
            for n in range(i + _ROWS_AT_A_TIME, i + 2 * _ROWS_AT_A_TIME):
                ahead = rows[n, 1 if projected[n] < 0.0 else 0]
                for line in range(n_lines):
                    prefetch(ahead, line * _CACHE_LINE // rows.itemsize)
        a, b, c, d = projected[i], projected[i + 1], projected[i + 2], projected[i + 3]
        e, f, g, h = projected[i + 4], projected[i + 5], projected[i + 6], projected[i + 7]
        row_a, row_b = rows[i, 1 if a < 0.0 else 0], rows[i + 1, 1 if b < 0.0 else 0]
        row_c, row_d = rows[i + 2, 1 if c < 0.0 else 0], rows[i + 3, 1 if d < 0.0 else 0]
        row_e, row_f = rows[i + 4, 1 if e < 0.0 else 0], rows[i + 5, 1 if f < 0.0 else 0]
        row_g, row_h = rows[i + 6, 1 if g < 0.0 else 0], rows[i + 7, 1 if h < 0.0 else 0]
        a, b, c, d, e, f, g, h = abs(a), abs(b), abs(c), abs(d), abs(e), abs(f), abs(g), abs(h)
        for j in range(total.shape[0]):
            total[j] += (a * real(row_a[j]) + b * real(row_b[j]) + c * real(row_c[j]) + d * real(row_d[j])) + (
                e * real(row_e[j]) + f * real(row_f[j]) + g * real(row_g[j]) + h * real(row_h[j])
            )
    for i in range(last, projected.shape[0]):
        row = rows[i, 1 if projected[i] < 0.0 else 0]
        for j in range(total.shape[0]):
            total[j] += abs(projected[i]) * real(row[j])


@kernel
def take_gated_shares(
    taken: NDArray[np.int64], projected: NDArray[Any], weights: NDArray[Any], parts: NDArray[Any]
) -> None:
    """Sum blocks of units of literal weights (m, 2, v), each into its row of parts (n_blocks, v), until none is left.

    Any number of threads may take blocks at once, counted in taken (1,); who takes which does not change a sum.
    """
    n_blocks = parts.shape[0]
    length = projected.shape[0] // n_blocks
    block = atomic_add(taken, 0, 1)
    while block < n_blocks:
        units = slice(block * length, (block + 1) * length)
        gated_row_sum(projected[units], weights[units], parts[block])
        block = atomic_add(taken, 0, 1)


@kernel
def recall_gated(
    key: NDArray[Any],
    bias: float,
    signs: NDArray[np.int8],
    weights: NDArray[Any],
    scale: NDArray[Any],
    offset: NDArray[Any],
    scratch: NDArray[Any],
    projected: NDArray[Any],
    parts: NDArray[Any],
    value: NDArray[Any],
) -> float:
    """Recall one centred key (key_dim,) into value (v,) with literal weights (m, 2, v); returns the norm of x.

    scale is (n_blocks, v), or empty for weights that are not scaled.
    """
    norm = project_key(key, bias, signs, scratch, projected)
    take_gated_shares(np.zeros(1, np.int64), projected, weights, parts)
    add_parts(parts, scale, offset, norm, value)
    return norm


@kernel
def add_parts(parts: NDArray[Any], scale: NDArray[Any], offset: NDArray[Any], norm: float, value: NDArray[Any]) -> None:
    """Compute value (v,) = Σ_b scale[b] * parts[b] + norm * offset."""
    real = value.dtype.type
    for j in range(value.shape[0]):
        value[j] = real(norm) * offset[j]
    for b in range(parts.shape[0]):
        if scale.shape[0]:
            for j in range(value.shape[0]):
                value[j] += scale[b, j] * parts[b, j]
        else:
            for j in range(value.shape[0]):
                value[j] += parts[b, j]


@kernel
def weighted_row_sums(coefficients: NDArray[Any], rows: NDArray[Any], totals: NDArray[Any]) -> None:
    """Compute totals (n, v) = coefficients (n, D) @ rows (D, v); each eight rows are read once for all n.

    A total does not depend on the others, to the last bit: unlike in a product by BLAS, where n chooses the kernel.
    """
    for n in range(totals.shape[0]):
        for j in range(totals.shape[1]):
            totals[n, j] = 0.0
    last = rows.shape[0] - rows.shape[0] % _ROWS_AT_A_TIME
    for i in range(0, last, _ROWS_AT_A_TIME):
        row_a, row_b, row_c, row_d = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
        row_e, row_f, row_g, row_h = rows[i + 4], rows[i + 5], rows[i + 6], rows[i + 7]
        for n in range(totals.shape[0]):
            total = totals[n]
            a, b, c, d = coefficients[n, i], coefficients[n, i + 1], coefficients[n, i + 2], coefficients[n, i + 3]
            e, f, g, h = coefficients[n, i + 4], coefficients[n, i + 5], coefficients[n, i + 6], coefficients[n, i + 7]
            for j in range(total.shape[0]):
                total[j] += (a * row_a[j] + b * row_b[j] + c * row_c[j] + d * row_d[j]) + (
                    e * row_e[j] + f * row_f[j] + g * row_g[j] + h * row_h[j]
                )
    for i in range(last, rows.shape[0]):
        for n in range(totals.shape[0]):
            for j in range(totals.shape[1]):
                totals[n, j] += coefficients[n, i] * rows[i, j]
