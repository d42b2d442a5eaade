"""Recursive least squares is ridge regression at every scale of the keys, also with recalls in between."""

import numpy as np
import pytest

from assocmem import AssociativeMemory, RecursiveLeastSquares, Ridge
from tests.helpers import pairs


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("seed", range(6))
def test_a_fixed_penalty_recalls_what_ridge_recalls_at_every_scale(seed, scale):
    """One key under two values among others: their mean, not the later one, however long the keys are."""
    keys, values = pairs(12, 8, 2, seed)
    keys, values[1] = scale * keys, -values[0]
    keys[1] = keys[0]
    recursive = AssociativeMemory(8, 2, rule=RecursiveLeastSquares(alpha=1.0))
    batch = AssociativeMemory(8, 2, rule=Ridge(alpha=1.0))
    for key, value in zip(keys, values, strict=True):
        for memory in (recursive, batch):
            memory.store(key, value)
            recalled = memory.recall(keys)
            assert np.isfinite(recalled).all()
    assert np.abs(recursive.recall(keys) - batch.recall(keys)).max() < 1e-4 * np.abs(values).max()


@pytest.mark.parametrize("seed", range(6))
def test_two_values_of_one_long_key_recall_their_mean(seed):
    key = 1e9 * pairs(1, 8, 1, seed)[0]
    memory = AssociativeMemory(8, 1, rule=RecursiveLeastSquares(alpha=1.0))
    for value in (0.0, 3.0):
        memory.store(key, [[value]])
        memory.recall(key)
    assert np.isclose(memory.recall(key)[0, 0], 1.5, atol=1e-4)
