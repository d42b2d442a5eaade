"""Rules that let the past fade: what a pair weighs, how many pairs that makes, and what chooses the penalty then."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assocmem import AssociativeMemory, Hebbian, RecursiveLeastSquares, Ridge
from assocmem.rules import Shape
from tests import naive
from tests.helpers import FIRST_KEYS, FIRST_VALUES, pairs, relative


@given(n=st.integers(1, 400), factor=st.floats(0.5, 1.0))
def test_effective_number_counts_pairs_by_their_weights(n, factor):
    memory = AssociativeMemory(2, 1, expansion=1, rule=Ridge(1.0, decay=factor))
    memory.store(*pairs(n, 2, 1))
    assert np.isclose(memory.n_effective, naive.effective_number(n, factor), rtol=1e-9)


@pytest.mark.parametrize("rule", [
    Hebbian(decay=0.9), Ridge(1.0, decay=0.9), RecursiveLeastSquares(decay=0.9),
])  # fmt: skip
def test_the_effective_number_tends_to_a_limit(rule):
    memory = AssociativeMemory(4, 1, rule=rule)
    assert memory.n_effective == 0
    memory.store(*pairs(1, 4, 1))
    assert np.isclose(memory.n_effective, 1)
    memory.store(*pairs(600, 4, 1))
    assert np.isclose(memory.n_effective, 19)
    assert memory.n_stored == 601


@pytest.mark.parametrize(("rule", "number"), [("ridge", 30), ("rls", 30), ("hebbian", 30), ("delta", None)])
def test_without_forgetting_every_pair_counts(rule, number):
    memory = AssociativeMemory(4, 1, rule=rule)
    memory.store(*pairs(30, 4, 1))
    assert memory.n_effective == number


@given(decay=st.floats(0.6, 0.999), alpha=st.floats(0.01, 10), seed=st.integers(0, 99))
def test_ridge_and_recursive_least_squares_agree_on_the_weights_of_the_past(decay, alpha, seed):
    """They differ in the penalty alone: it fades with the past of the one, and stays in the other."""
    features, values = pairs(60, 8, 2, seed)
    fading = Ridge(alpha * decay**60, decay=decay)
    recursive = RecursiveLeastSquares(alpha, decay=decay)
    results = []
    for rule in (fading, recursive):
        state = rule.start(Shape(8, 0, True, 2, np.dtype(np.float64)))
        rule.store(state, features, values)
        results.append(rule.solve(state).weights)
    if alpha * decay**60 > 1e-6:  # else the recursive one has raised its penalty
        assert relative(results[0], results[1]) < 1e-6


def test_a_long_past_leaves_nothing_but_the_recent_pairs():
    memory, recent = (AssociativeMemory(8, 2, rule=Ridge(1.0, decay=0.8)) for _ in range(2))
    keys, values = pairs(5000, 8, 2)
    memory.store(keys, values)
    recent.store(keys[-300:], values[-300:])
    assert relative(memory.recall(keys), recent.recall(keys)) < 1e-10


def test_the_best_penalty_for_noisy_queries_counts_the_weights():
    memory, plain = (AssociativeMemory(8, 1, rule=Ridge(query_cosine=0.9, decay=f)) for f in (0.9, 1.0))
    keys, values = pairs(300, 8, 1)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    memory.store(keys, values)
    plain.store(keys, values)
    # Features of whitened keys of norm 1 have squares of about D each: 10 pairs of weight 1 instead of 300.
    assert np.isclose(memory.alpha / plain.alpha, 10 / 300, rtol=0.1)


def test_forgetting_is_shown_and_has_no_law():
    rule = Ridge(1.0, decay=0.9)
    assert repr(rule) == "Ridge(alpha=1.0, decay=0.9)"
    memory = AssociativeMemory(16, 1, rule=rule)
    memory.store(*pairs(500, 16, 1))
    diagnosis = memory.diagnose()
    assert np.isnan(diagnosis.clean_error)
    assert diagnosis.warning == ""


@pytest.mark.parametrize("decay", [1e-4, 1e-12, 1e-50, 5e-324])
def test_whatever_fades_at_once_leaves_leverages_and_recalls_finite(decay):
    memory = AssociativeMemory(8, 2, rule=RecursiveLeastSquares(decay=decay))
    for key, value in zip(FIRST_KEYS[:12], FIRST_VALUES[:12], strict=True):
        memory.store(key, value)
        assert relative(memory.recall(key), value) < 1e-6
    assert 0 <= memory.leverage(FIRST_KEYS[11]) < 1 + 1e-6


@pytest.mark.parametrize("rule", [Ridge(1e300), RecursiveLeastSquares(1e200), RecursiveLeastSquares(1e308)])
def test_penalties_beyond_everything_recall_next_to_nothing(rule):
    memory = AssociativeMemory(8, 2, rule=rule)
    memory.store(1e-10 * FIRST_KEYS[:5], FIRST_VALUES[:5])
    assert np.abs(memory.recall(FIRST_KEYS[0])).max() < 1e-100
