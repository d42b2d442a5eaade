"""The reduction to a band keeps what depends on the matrix alone, at every size next to the width."""

import numpy as np
import pytest
import scipy.linalg

from assocmem.rules import banded


@pytest.mark.parametrize("width", [1, 4, 7, 20])
@pytest.mark.parametrize("rank", [1, 2, 5, 8, 9, 40, 61])
@pytest.mark.parametrize("held", [1.0, 0.5])
def test_eigenvalues_and_quadratic_forms_are_those_of_the_matrix(rank, width, held, monkeypatch):
    monkeypatch.setattr(banded, "PANEL", 16)
    rng = np.random.default_rng(rank)
    rows = rng.standard_normal((max(1, int(held * rank)), rank)) * np.logspace(0, -3, rank)
    matrix, columns = rows.T @ rows, rng.standard_normal((rank, 3))
    reduced = columns.copy()
    band = banded.to_band(np.tril(matrix), reduced, width)
    full = sum(np.diag(band[k, : rank - k], -k) for k in range(min(width + 1, rank)))
    full = full + np.tril(full, -1).T
    scale = np.linalg.norm(matrix)
    assert np.allclose(np.linalg.eigvalsh(full), np.linalg.eigvalsh(matrix), atol=1e-13 * scale)
    for shift in (1e-3 * scale, scale):
        expected = columns.T @ scipy.linalg.solve(matrix + shift * np.eye(rank), columns)
        assert np.allclose(reduced.T @ scipy.linalg.solve(full + shift * np.eye(rank), reduced), expected)


def test_a_matrix_that_is_a_band_already_and_one_of_zeros():
    zeros = banded.to_band(np.zeros((20, 20)), np.ones((20, 1)), 3)
    assert not zeros.any()
    diagonal = banded.to_band(np.diag(np.arange(20.0)), np.ones((20, 1)), 3)
    assert (diagonal[0] == np.arange(20.0)).all()
