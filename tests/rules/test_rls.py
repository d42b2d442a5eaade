"""Recursive least squares is ridge regression whatever the keys, in any order of writes, and with a decay."""

import numpy as np
import pytest

from assocmem import AssociativeMemory, RecursiveLeastSquares, Ridge
from assocmem.rules import Shape
from tests import naive
from tests.helpers import pairs, relative

KEY_DIM, RANK = 16, 80  # of the memories below


def shape_of(rank, value_dim):
    return Shape(rank, 0, True, value_dim, np.dtype(np.float64))


def stored_one_by_one(rule, features, values):
    state = rule.start(shape_of(features.shape[1], values.shape[1]))
    for i in range(len(features)):
        rule.store(state, features[i : i + 1], values[i : i + 1])
    return state


def memory_of(keys, values, rule="rls", *, one_by_one=False):
    memory = AssociativeMemory(keys.shape[1], values.shape[1], rule=rule)
    for key, value in zip(keys, values, strict=True) if one_by_one else [(keys, values)]:
        memory.store(key, value)
        memory.recall(keys[:1])
    return memory


# ------------------------------------------------------------------------------------------------ the penalty given


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


def test_a_penalty_that_is_lost_next_to_the_keys_is_not_raised():
    """While pairs are few only the sums are kept, and solved as under "ridge"; later R is taken up again."""
    features, values = pairs(100, 30, 2)
    features[0] *= 1e4
    rule = RecursiveLeastSquares(alpha=1e-3)
    state = rule.start(shape_of(30, 2))
    for i in range(100):
        rule.store(state, features[i : i + 1], values[i : i + 1])
        assert state.alpha == 1e-3
        if i in (3, 20, 50, 99):
            assert state.inverted == (i > 60)
            rows = np.vstack([features[: i + 1], np.sqrt(1e-3) * np.eye(30)])
            expected = np.linalg.lstsq(rows, np.vstack([values[: i + 1], np.zeros((30, 2))]), rcond=None)[0]
            # The long key leaves rounding of 1e-16 of the square of its length in the sums.
            assert relative(features[1:] @ rule.solve(state).weights, features[1:] @ expected) < 1e-5


# ----------------------------------------------------------------------------------------- the penalty that is chosen


def lengths_of(family, n):
    lengths = np.ones(n)
    if family == "first long":
        lengths[0] = 1e4
    elif family == "first short":
        lengths[0] = 1e-6
    elif family == "three decades":
        lengths = 10 ** np.random.default_rng(5).uniform(-1.5, 1.5, n)
    return lengths[:, None]


@pytest.mark.parametrize("family", ["alike", "first long", "first short", "three decades"])
@pytest.mark.parametrize("n", [20, 60, 90, 160, 400])
def test_the_order_of_the_pairs_does_not_matter(family, n):
    keys, values = pairs(n, KEY_DIM, 3)
    keys *= lengths_of(family, n)
    together = memory_of(keys, values)
    forwards, backwards = memory_of(keys, values, one_by_one=True), memory_of(keys[::-1], values[::-1], one_by_one=True)
    queries = np.vstack([keys, pairs(30, KEY_DIM, 1, seed=1)[0]])
    # A key 1e4 times longer leaves rounding of 1e-8 of the others in the sums; near the rank G is singular.
    tolerance = (1e-4 if n < 100 else 1e-6) if family == "first long" else (1e-5 if n < 100 else 1e-8)
    for memory in (forwards, backwards):
        assert memory.alpha == together.alpha
        assert relative(memory.recall(queries), together.recall(queries)) < tolerance


@pytest.mark.parametrize("factor", [1e4, 1e-6])
@pytest.mark.parametrize("n", [20, 60, 90, 160])
def test_a_first_key_of_another_length_leaves_no_trace_when_it_is_forgotten(factor, n):
    keys, values = pairs(n, KEY_DIM, 3)
    keys[0] *= factor
    memory, fresh = memory_of(keys, values, one_by_one=True), memory_of(keys[1:], values[1:], one_by_one=True)
    memory.forget(keys[0], values[0])
    queries = np.vstack([keys, pairs(30, KEY_DIM, 1, seed=1)[0]])
    assert memory.alpha == fresh.alpha
    assert relative(memory.recall(queries), fresh.recall(queries)) < 3e-5


@pytest.mark.parametrize("factor", [1e4, 1e-6])
def test_a_first_key_of_another_length_leaves_the_others_right(factor):
    keys, values = pairs(40, KEY_DIM, 3)
    keys[0] *= factor
    memory = memory_of(keys, values, one_by_one=True)
    assert relative(memory.recall(keys[1:]), values[1:]) < 1e-4
    assert np.abs(memory.recall(pairs(30, KEY_DIM, 1, seed=1)[0])).max() < 100


def test_alpha_is_a_share_of_the_geometric_mean_to_a_power_of_two():
    features, values = pairs(30, 8, 1)
    features *= 10 ** np.random.default_rng(1).uniform(-2, 2, 30)[:, None]
    state = stored_one_by_one(RecursiveLeastSquares(), features, values)
    exact = 1e-6 * np.exp(np.log((features**2).mean(axis=1)).mean())
    assert np.log2(state.alpha) == np.round(np.log2(exact))
    assert RecursiveLeastSquares().alpha_for(RecursiveLeastSquares().start(shape_of(8, 1))) is None


def test_parts_that_are_merged_choose_what_one_memory_chooses():
    features, values = pairs(60, 8, 2)
    features[:30] *= 100.0
    rule, parts = RecursiveLeastSquares(), RecursiveLeastSquares().for_parts()
    whole, part = rule.start(shape_of(8, 2)), [parts.start(shape_of(8, 2)) for _ in range(2)]
    rule.store(whole, features, values)
    for i in range(2):
        parts.store(part[i], features[30 * i : 30 * i + 30], values[30 * i : 30 * i + 30])
    for merged in (
        rule.merge(rule.start(shape_of(8, 2)), parts.merge(*part)),
        rule.merge(*(stored_one_by_one(rule, features[i : i + 30], values[i : i + 30]) for i in (0, 30))),
    ):
        assert merged.alpha == whole.alpha
        assert relative(rule.solve(merged).weights, rule.solve(whole).weights) < 1e-9


def test_a_replaced_value_leaves_alpha_and_costs_no_inversion(monkeypatch):
    keys, values = pairs(40, KEY_DIM, 3)
    keys[:20] *= 100.0
    memory, fresh = memory_of(keys, values), memory_of(keys, np.vstack([values[1:2], values[1:]]))
    monkeypatch.setattr(RecursiveLeastSquares, "_invert", None)
    memory.replace(keys[0], values[0], values[1])
    assert memory.alpha == fresh.alpha
    assert relative(memory.recall(keys), fresh.recall(keys)) < 1e-6


def test_a_file_without_the_sizes_of_the_keys_is_taken():
    """Files of format 3 know only α."""
    rule = RecursiveLeastSquares()
    features, values = pairs(40, 8, 2)
    state, loaded = stored_one_by_one(rule, features, values), rule.start(shape_of(8, 2))
    arrays = {name: array for name, array in state.arrays().items() if name not in ("log_sizes", "inverted")}
    assert loaded.layout(arrays).keys() == arrays.keys()
    loaded.fill({name: array.copy() for name, array in arrays.items()})
    assert relative(rule.solve(loaded).weights, rule.solve(state).weights) == 0.0
    for each in (state, loaded):
        rule.store(each, *pairs(100, 8, 2, seed=1))
    assert loaded.alpha == state.alpha
    assert relative(rule.solve(loaded).weights, rule.solve(state).weights) < 1e-12


# ------------------------------------------------------------------------------------------------------------- decay


def test_the_error_of_a_fading_memory_does_not_jump():
    """A noiseless linear map, in more dimensions than the recent pairs hold: the penalty that is left decides."""
    keys, map_ = pairs(1200, KEY_DIM, 1)[0], pairs(KEY_DIM, 2, 1)[0]
    memory = AssociativeMemory(KEY_DIM, 2, rule=RecursiveLeastSquares(decay=0.8))
    features, queries = memory.features.fold(keys), pairs(50, KEY_DIM, 1, seed=1)[0]
    expected, errors = queries @ map_, []
    state = memory.rule.start(shape_of(RANK, 2))
    for i in range(len(keys)):
        memory.rule.store(state, features[i : i + 1], keys[i : i + 1] @ map_)
        errors.append(relative(memory.features.fold(queries) @ memory.rule.solve(state).weights, expected))
    steady = np.array(errors[300:])
    assert steady.max() < 0.02
    assert steady.max() < 8 * np.median(steady)


@pytest.mark.parametrize(("decay", "n_distinct", "tolerance"), [
    (0.95, 4000, 1e-10), (0.999, 4000, 1e-10), (0.3, 4000, 1e-4), (0.99, 10, 1e-4),
])  # fmt: skip
def test_single_writes_with_a_decay_stay_with_the_weighted_batch(decay, n_distinct, tolerance):
    features, values = pairs(4000, 24, 2)
    index = np.arange(4000) % n_distinct
    features, values = features[index], values[index]
    rule = RecursiveLeastSquares(decay=decay)
    state = rule.start(shape_of(24, 2))
    for i in range(4000):
        rule.store(state, features[i : i + 1], values[i : i + 1])
        if i in (500, 2047, 3000, 3999):
            weight = decay ** (0.5 * np.arange(i, -1, -1.0))[:, None]
            rows = np.vstack([weight * features[: i + 1], np.sqrt(state.alpha) * np.eye(24)])
            expected = np.linalg.lstsq(rows, np.vstack([weight * values[: i + 1], np.zeros((24, 2))]), rcond=None)[0]
            assert relative(rule.solve(state).weights, expected) < tolerance


def test_a_penalty_fades_away_where_pairs_hold_every_direction():
    features, values = pairs(3000, 10, 1)
    rule = RecursiveLeastSquares(alpha=1.0, decay=0.99)
    state = rule.start(shape_of(10, 1))
    for i in range(3000):
        rule.store(state, features[i : i + 1], values[i : i + 1])
    assert np.isclose(state.alpha, 0.99**3000)
    expected = naive.recursive_least_squares(features, values, 1.0, 0.99)
    assert relative(rule.solve(state).weights, expected) < 1e-12


# ----------------------------------------------------------------------------------------------- edits and leverages


@pytest.mark.parametrize("decay", [1.0, 0.99])
def test_an_edited_memory_solves_from_its_sums(decay):
    keys, values = pairs(60, KEY_DIM, 2)
    memory = memory_of(keys[:30], values[:30], RecursiveLeastSquares(alpha=0.5, decay=decay))
    memory.edit(keys[0], values[5])
    for key, value in zip(keys[30:], values[30:], strict=True):
        memory.store(key, value)
        memory.recall(key)
    fold, alpha = memory.features.fold, memory.alpha
    assert np.isclose(alpha, 0.5 * decay**60)
    weight = np.sqrt(decay) ** np.arange(59, -1, -1.0)[:, None]
    expected = naive.constrained_ridge(weight * fold(keys), weight * values, alpha, fold(keys[:1]), values[5:6])
    assert relative(memory.recall(keys), fold(keys) @ expected) < 1e-8
    assert memory.solution.solver != "updated inverse"


@pytest.mark.parametrize("alpha", [None, 1e-6, 1.0, 1e4])
@pytest.mark.parametrize("n", [20, 78, 200])
def test_no_stored_key_has_a_leverage_above_1(alpha, n):
    keys, values = pairs(n, KEY_DIM, 2)
    memory = memory_of(keys, values, RecursiveLeastSquares(alpha=alpha), one_by_one=True)
    assert memory.leverage(keys).max() <= 1.0
