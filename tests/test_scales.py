"""Memories of keys and values of all scales, repeated and too many of them: finite, right or refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assocmem import AssociativeMemory, DeltaRule, RecursiveLeastSquares, Ridge
from tests.helpers import RULES, SUMS, pairs, relative

every_rule = pytest.mark.parametrize("name", RULES)


both_types = pytest.mark.parametrize("dtype", ["float32", "float64"])
LONGEST = {"float32": 14, "float64": 149}  # powers of ten


def small_memory(rule, dtype="float64", **options):
    return AssociativeMemory(8, 2, expansion=1, rule=rule, dtype=dtype, **options)


def all_finite(memory, keys):
    """Everything that can be read is finite, or refused with a reason."""
    assert np.isfinite(memory.recall(keys)).all()
    assert np.isfinite(memory.recall(keys[0])).all()
    assert np.isfinite(memory.weights).all()
    assert np.isfinite(memory.offset).all()
    for array in memory._cell.current().arrays().values():
        assert np.isfinite(array).all()
    assert memory.alpha is None or np.isfinite(memory.alpha)
    assert not np.isnan(memory.error_bound or 0.0)
    memory.recompute()
    assert np.isfinite(memory.recall(keys)).all()


@every_rule
@both_types
@pytest.mark.filterwarnings("ignore:some keys are too near to each other:UserWarning")
@settings(max_examples=10)
@given(data=st.data())
def test_keys_of_all_lengths_in_one_memory(name, dtype, data):
    """Beside each other: lengths from 1e-150 to 1e150 (float32: 1e-15 to 1e15), repeated, collinear, beyond load 1."""
    powers = data.draw(st.lists(st.integers(-LONGEST[dtype], LONGEST[dtype]), min_size=1, max_size=30))
    directions = data.draw(st.lists(st.integers(0, 5), min_size=len(powers), max_size=len(powers)))
    keys, values = pairs(6, 8, 2)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    keys = keys[directions] * 10.0 ** np.array(powers)[:, None]
    memory = small_memory(RULES[name][0], dtype)
    memory.store(keys, values[directions])
    all_finite(memory, keys)


@every_rule
@both_types
@pytest.mark.parametrize("power", [-1, 0, 1])
def test_keys_and_values_at_the_ends_of_their_range(name, dtype, power):
    keys, values = pairs(5, 8, 2)
    scale = 10.0 ** (power * LONGEST[dtype])
    for value_scale in (1 / scale, 1.0):
        memory = small_memory(RULES[name][0], dtype)
        memory.store(scale * keys, value_scale * values)
        all_finite(memory, scale * keys)


@pytest.mark.parametrize(("rule", "dtype"), [
    (Ridge(), "float64"), (Ridge("gcv"), "float32"), (RecursiveLeastSquares(), "float64"), (DeltaRule(), "float32"),
])  # fmt: skip
def test_a_million_repeats_of_one_key(rule, dtype):
    key, value = pairs(1, 8, 2)
    memory = small_memory(rule, dtype)
    memory.store(np.broadcast_to(key, (1_000_000, 8)), np.broadcast_to(value, (1_000_000, 2)))
    assert memory.n_stored == 1_000_000
    assert relative(memory.recall(key), value) < (1e-9 if dtype == "float64" else 1e-4)
    all_finite(memory, pairs(9, 8, 1, seed=1)[0])
    if memory.rule.name in ("ridge", "rls"):
        assert np.isclose(memory.verify_forgotten(key).max_copies[0], 1e6, rtol=1e-3)


@both_types
def test_a_million_repeats_add_up_under_the_hebbian_rule(dtype):
    key, value = pairs(1, 8, 2)
    memory = small_memory("hebbian", dtype)
    memory.store(np.broadcast_to(key, (1_000_000, 8)), np.broadcast_to(value, (1_000_000, 2)))
    assert relative(memory.recall(key), 1e6 * value) < (1e-9 if dtype == "float64" else 1e-3)


@both_types
@pytest.mark.parametrize("rule", [Ridge(), RecursiveLeastSquares()])
def test_repeats_with_different_values_recall_their_mean(rule, dtype):
    keys, _ = pairs(3, 8, 2)
    memory = small_memory(rule, dtype)
    values = np.arange(30.0).reshape(15, 2)
    memory.store(np.repeat(keys, 5, axis=0), values)
    means = values.reshape(3, 5, 2).mean(axis=1)
    assert relative(memory.recall(keys), means) < (1e-5 if dtype == "float64" else 1e-3)


@both_types
@pytest.mark.parametrize("rule", [Ridge(), RecursiveLeastSquares(), Ridge(decay=0.99)])
def test_collinear_keys_agree_where_they_can_and_average_where_not(rule, dtype):
    """recall(2x) = 2 recall(x): pairs (x, v) and (2x, 2v) agree; (x, v) and (x, −v) leave 0."""
    keys, values = pairs(4, 8, 2)
    memory = small_memory(rule, dtype)
    memory.store(np.vstack([keys, 2 * keys]), np.vstack([values, 2 * values]))
    assert relative(memory.recall(2 * keys), 2 * values) < (1e-5 if dtype == "float64" else 1e-3)
    opposed = small_memory(Ridge(), dtype)
    opposed.store(np.vstack([keys, keys]), np.vstack([values, -values]))
    assert np.abs(opposed.recall(keys)).max() < 1e-4


@every_rule
@both_types
@pytest.mark.parametrize("load", [1.0, 1.1, 30.0])
def test_full_and_overfull_memories(name, dtype, load):
    memory = small_memory(RULES[name][0], dtype)
    keys, values = pairs(round(load * memory.rank), 8, 2)
    memory.store(keys, values)
    all_finite(memory, keys)
    if name in SUMS:
        memory.forget(keys[3:], values[3:])
        assert memory.n_stored == 3
        assert np.isfinite(memory.recall(keys)).all()


@every_rule
def test_values_of_zero_leave_nothing(name):
    memory = small_memory(RULES[name][0])
    memory.store(pairs(5, 8, 2)[0], np.zeros((5, 2)))
    all_finite(memory, pairs(5, 8, 2)[0])
    assert not memory.recall(pairs(5, 8, 2)[0]).any()
    assert memory.error_bound in (0.0, None)


@pytest.mark.parametrize("scale", [1e-145, 1.0, 1e145])
def test_float64_and_float32_tell_the_same(scale):
    """float32 within its range and its digits; the sums are double in both."""
    keys, values = pairs(9, 8, 2)
    double, single = small_memory(Ridge()), small_memory(Ridge(), "float32")
    double.store(scale * keys, values)
    single.store(keys, values)
    assert relative(single.recall(keys), double.recall(scale * keys)) < 1e-4
    assert single.recall(keys).dtype == np.float32
    assert single._cell.current().sums.gram.dtype == np.float64


def test_forgetting_by_age_for_long_ends_in_no_denormal_disaster():
    """A factor whose powers underflow: the oldest pairs are gone, the newest are there."""
    for rule in (Ridge(1e-6, decay=1e-3), RecursiveLeastSquares(decay=1e-3), "hebbian"):
        memory = small_memory(rule)
        keys, values = pairs(3000, 8, 2)
        memory.store(keys, values)
        all_finite(memory, keys)
        if rule != "hebbian":
            assert relative(memory.recall(keys[-1]), values[-1]) < 1e-3
