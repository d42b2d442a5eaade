"""The jitted recall loops: from a key to its value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assocmem._jit import kernel
from assocmem.crelu import fold_key

_ROWS_AT_A_TIME = 8  # each pass over the total serves eight rows, so the total costs an eighth of the traffic


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
    """Recall one key (key_dim,) with folded weights (rank, value_dim) into value (value_dim,)."""
    p = signs.shape[2]
    folded = np.empty(weights.shape[0], weights.dtype)
    padded, x, y = np.zeros(p, key.dtype), np.empty(p, key.dtype), np.empty(p, key.dtype)
    fold_key(key, bias, signs, linear, scale, mean, folded, padded, x, y)
    weighted_row_sum(folded, weights, value)


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
