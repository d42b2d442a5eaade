"""Reduce a symmetric matrix to a band by orthogonal similarity, G = Z B Zᵀ, in matrix products.

What depends on eigenvalues alone, or on (G + αI)⁻¹ between columns, then costs next to nothing for every α. The
reduction takes 4/3 D³ multiplications, as many as four Cholesky factors. One to a tridiagonal matrix takes as many, but
half of them in products with single vectors, at the speed of memory, and eigenvectors come on top.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assocmem.core.jit import kernel
from assocmem.rules.blas import Matrix64

WIDTH = 64  # subdiagonals that stay: wide enough for matrix products, narrow enough for the eigenvalues of the band
PANEL = 512  # rows that are updated at a time, so that the update needs no second matrix


def to_band(matrix: Matrix64, columns: Matrix64, width: int = WIDTH) -> Matrix64:
    """Overwrite a symmetric matrix (D, D), lower triangle given, and columns (D, n) by Zᵀ columns.

    Returns
    -------
    (width + 1, D)
        The band B = Zᵀ matrix Z as LAPACK keeps it: row k holds the subdiagonal k.

    References
    ----------
    Bischof, Lang and Sun (2000), "A framework for symmetric band reduction", ACM Transactions on Mathematical Software
    26; the block reflectors: Schreiber and Van Loan (1989).
    """
    rank = len(matrix)
    for first in range(0, rank, PANEL):  # diagonal blocks are kept whole, so that each block row is one product
        block = matrix[first : first + PANEL, first : first + PANEL]
        block[...] = np.tril(block) + np.tril(block, -1).T
    scratch = np.empty(PANEL * rank)
    for first in range(0, rank - width - 1, width):
        start = first + width
        reflectors, scaled = _reflect(matrix[start:, first:start])
        _transform(matrix, start, reflectors, scaled, scratch)
        columns[start:] -= reflectors @ (scaled.T @ columns[start:])
    band = np.zeros((width + 1, rank))
    for k in range(min(width + 1, rank)):
        band[k, : rank - k] = matrix.diagonal(-k)
    return band


def _reflect(block: Matrix64) -> tuple[Matrix64, Matrix64]:
    """Overwrite a block (m, b) by R of its QR decomposition; return V and V T of Q = I − V T Vᵀ, (m, k) each.

    With loops of our own: LAPACK's threads take longer to start than these columns do.
    """
    reduced, count = np.ascontiguousarray(block), min(block.shape)
    reflectors, inverse = np.zeros((len(block), count)), np.eye(count)
    for j in range(count):
        column = reduced[j:, j].copy()
        tail = float(column[1:] @ column[1:])
        if tail == 0.0:
            continue
        size = -np.copysign(np.sqrt(column[0] ** 2 + tail), column[0])
        inverse[j, j] = size / (size - column[0])
        column /= column[0] - size
        column[0] = 1.0
        reflectors[j:, j] = column
        products = np.zeros(reduced.shape[1])
        _add_products(column, reduced[j:], products, j)
        products /= inverse[j, j]
        _subtract_outer(column, products, reduced[j:], j)
    block[...] = np.triu(reduced)
    # T⁻¹ + T⁻ᵀ = VᵀV; a reflector that does nothing has no column in V.
    inverse += np.triu(reflectors.T @ reflectors, 1)
    return reflectors, reflectors @ np.linalg.inv(inverse)


@kernel
def _add_products(column: NDArray[Any], rows: NDArray[Any], products: NDArray[Any], first: int) -> None:
    for i in range(rows.shape[0]):
        row, factor = rows[i], column[i]
        for k in range(first, row.shape[0]):
            products[k] += factor * row[k]


@kernel
def _subtract_outer(column: NDArray[Any], products: NDArray[Any], rows: NDArray[Any], first: int) -> None:
    for i in range(rows.shape[0]):
        row, factor = rows[i], column[i]
        for k in range(first, row.shape[0]):
            row[k] -= factor * products[k]


def _transform(matrix: Matrix64, start: int, reflectors: Matrix64, scaled: Matrix64, scratch: NDArray[Any]) -> None:
    """Replace the trailing part S of a matrix by QᵀSQ = S − V Xᵀ − X Vᵀ, X = W − V (V T)ᵀW / 2, W = S V T."""
    rank = len(matrix)
    edges = [start, *range((start // PANEL + 1) * PANEL, rank, PANEL), rank]
    image = np.zeros_like(scaled)
    for first, last in pairwise(edges):
        above, stop = first - start, last - start
        image[above:stop] += matrix[first:last, start:last] @ scaled[:stop]
        if above:
            image[:above] += matrix[first:last, start:first].T @ scaled[above:stop]
    image -= 0.5 * (reflectors @ (scaled.T @ image))
    left, right = np.hstack([reflectors, image]), np.hstack([image, reflectors])
    for first, last in pairwise(edges):
        above, stop = first - start, last - start
        product = scratch[: (stop - above) * stop].reshape(stop - above, stop)
        np.matmul(left[above:stop], right[:stop].T, out=product)
        matrix[first:last, start:last] -= product
