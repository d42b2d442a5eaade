"""Corrections and deletions: as if the old pairs had never been seen, and what the memory says about it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assocmem import AssociativeMemory, RecursiveLeastSquares, Ridge
from tests.helpers import FIRST_KEYS, FIRST_VALUES, RULES, SUMS, memory_of_first, pairs, relative

every_sum = pytest.mark.parametrize("name", SUMS)
BOUNDED = [name for name in SUMS if name != "diagonal"]  # the rules that bound their own rounding


def memory_of(rule, keys, values, expansion=3, **options):
    memory = AssociativeMemory(keys.shape[1], values.shape[1], expansion=expansion, rule=rule, **options)
    memory.store(keys, values)
    return memory


def distance(got, expected):
    return float(np.linalg.norm(got.weights - expected.weights) / np.linalg.norm(expected.weights))


# ------------------------------------------------------------------------------------------------------- replace


@every_sum
@given(n_replaced=st.integers(0, 30), dtype=st.sampled_from(["float32", "float64"]), seed=st.integers(0, 9))
def test_replaced_is_never_stored_otherwise(name, n_replaced, dtype, seed):
    rule = RULES[name][0]
    keys, old = pairs(30, 10, 3, seed)
    new = old.copy()
    new[:n_replaced] = pairs(n_replaced, 10, 3, seed + 1)[1]
    memory, expected = (memory_of(rule, keys, values, dtype=dtype) for values in (old, new))
    memory.replace(keys[:n_replaced], old[:n_replaced], new[:n_replaced])
    assert memory.n_stored == 30
    assert distance(memory, expected) < (1e-12 if dtype == "float64" else 1e-4)


def test_replacing_leaves_the_sum_over_keys_as_it_is():
    keys, values = pairs(30, 10, 3)
    memory = memory_of("ridge", keys, values)
    memory.recall(keys)
    before = memory._cell.current().sums.gram.copy()
    memory.replace(keys, values, values[::-1])
    assert np.array_equal(memory._cell.current().sums.gram, before)


def test_one_pair_is_replaced_like_many_and_in_chunks(monkeypatch):
    keys, values = pairs(700, 6, 2)
    one, many = memory_of("ridge", keys, values), memory_of("ridge", keys, values)
    for key, old, new in zip(keys[:3], values[:3], values[3:6], strict=True):
        one.replace(key, old, new)
    many.replace(keys[:3], values[:3], values[3:6])
    assert distance(one, many) < 1e-12
    whole, chunked = memory_of("ridge", keys, values), memory_of("ridge", keys, values)
    whole.replace(keys, values, -values)
    monkeypatch.setattr("assocmem.cell.CHUNK_BYTES", 1)
    chunked.replace(keys, values, -values)
    assert distance(chunked, whole) < 1e-12


@pytest.mark.parametrize("rule", [Ridge(), RecursiveLeastSquares()])
@pytest.mark.parametrize("wrong", ["key", "value", "twice", "new value", "too few"])
def test_a_false_replacement_changes_nothing(rule, wrong):
    keys, values = pairs(30, 10, 3)
    memory = memory_of(rule, keys[:20], values[:20])
    before = memory.recall(keys)
    arguments, message = {
        "key": ((keys[25], values[25], values[0]), "never stored"),
        "value": ((keys[3], values[4], values[0]), "never stored"),
        "twice": ((keys[[3, 3]], values[[3, 3]], values[[1, 1]]), "never stored"),
        "new value": ((keys[3], values[3], [np.nan] * 3), "values row 0, column 0 is nan"),
        "too few": ((keys[:3], values[:3], values[:2]), "3 keys came with 2 values"),
    }[wrong]
    with pytest.raises(ValueError, match=message):
        memory.replace(*arguments)
    assert memory.n_stored == 20
    assert np.array_equal(memory.recall(keys), before)


@pytest.mark.parametrize("name", [name for name in RULES if name not in SUMS])
def test_rules_that_depend_on_order_refuse_to_replace(name):
    keys, values = pairs(5, 10, 3)
    memory = memory_of(RULES[name][0], keys, values)
    with pytest.raises(ValueError, match="cannot replace"):
        memory.replace(keys[0], values[0], values[1])


# ------------------------------------------------------------------------------------------- exactness, its bound


def churned(rule, load, operations, seed, dtype="float64"):
    """A memory after stores, replacements and deletions, and a fresh one of the pairs that are left."""
    rng = np.random.default_rng(seed + 1000)  # other keys than those of `pairs`
    memory = AssociativeMemory(12, 3, expansion=3, rule=rule, dtype=dtype)
    n = round(load * memory.rank)
    keys, values = (list(table) for table in pairs(n, 12, 3, seed))
    memory.store(keys, values)
    for _ in range(operations):
        i, new = rng.integers(n), rng.standard_normal(3)
        if rng.integers(2):
            memory.replace(keys[i], values[i], new)
        else:
            memory.forget(keys[i], values[i])
            keys[i] = rng.standard_normal(12)
            memory.store(keys[i], new)
        values[i] = new
    return memory, memory_of(rule, np.array(keys), np.array(values), dtype=dtype)


@every_sum
@pytest.mark.parametrize("load", [0.3, 0.9])
def test_weights_after_many_corrections_are_those_of_a_fresh_memory(name, load):
    memory, fresh = churned(RULES[name][0], load, 300, seed=0)
    assert distance(memory, fresh) < 1e-11


@pytest.mark.parametrize("name", BOUNDED)
@given(load=st.sampled_from([0.2, 0.5, 0.9, 1.5]), operations=st.integers(0, 40), seed=st.integers(0, 99))
def test_error_bound_is_a_bound_and_not_a_loose_one(name, load, operations, seed):
    memory, fresh = churned(RULES[name][0], load, operations, seed)
    assert distance(memory, fresh) <= memory.error_bound + fresh.error_bound
    assert memory.error_bound < 1e-9 * (1 if load != 0.9 else 1e3)  # at load 0.9 of 60 dimensions, conditions vary


@pytest.mark.parametrize("name", BOUNDED)
def test_error_bound_of_float32_counts_its_digits(name):
    memory, fresh = churned(RULES[name][0], 0.5, 40, 0, "float32")
    assert distance(memory, fresh) <= memory.error_bound < 1e-2
    assert memory.error_bound > 1e-8


def test_error_bound_sees_what_a_long_past_has_left():
    keys, values = pairs(20, 12, 3)
    before, after = memory_of("ridge", keys, values), memory_of("ridge", keys, values)
    many = 1e3 * pairs(20, 12, 3, seed=1)[0]
    after.store(many, values)
    after.forget(many, values)
    assert distance(after, before) > 1e-10
    assert distance(after, before) <= after.error_bound < 1e-3
    assert after.error_bound > 100 * before.error_bound


def test_error_bound_sees_the_rounding_of_the_recursive_rule_which_recomputing_takes_away():
    keys, values = pairs(40, 12, 3)
    memory = memory_of(RecursiveLeastSquares(), keys, values)
    exact = memory.recall(keys)
    before = memory.error_bound
    state = memory._cell.copied()
    state.solution *= 1 + 1e-7
    memory._cell.commit(state)
    assert memory.error_bound > 1e-7 > before
    memory.recompute()
    assert memory.error_bound < 10 * before
    assert relative(memory.recall(keys), exact) < 1e-9


@pytest.mark.parametrize("name", RULES)
def test_recomputing_changes_nothing_but_rounding(name):
    keys, values = pairs(50, 10, 3)
    memory = memory_of(RULES[name][0], keys, values)
    before = memory.recall(keys)
    memory.recompute()
    assert memory.n_stored == 50
    assert relative(memory.recall(keys), before) < 1e-9


@pytest.mark.parametrize("name", ["ridge", "ridge-alpha", "rls"])
def test_every_change_of_the_sums_counts_as_a_rounding(name):
    keys, values = pairs(30, 12, 3)
    memory, counts = memory_of(RULES[name][0], keys, values), []
    for change in (
        memory.copy,
        lambda: memory.store(keys, values),
        lambda: memory.forget(keys[0], values[0]),
        lambda: memory.replace(keys[1], values[1], values[0]),
    ):
        change()
        memory.recall(keys[0])
        counts.append(memory._cell.current().sums.noise)
    assert counts == sorted(counts)
    assert memory.merge(memory)._cell.current().sums.noise > 1.4 * counts[-1]


def test_error_bound_of_little():
    assert AssociativeMemory(4, 2).error_bound == 0
    assert AssociativeMemory(4, 2, rule="hebbian").error_bound == 0
    assert AssociativeMemory(4, 2, rule="delta").error_bound is None
    zeros = memory_of("ridge", *pairs(3, 4, 2))
    zeros.replace(pairs(3, 4, 2)[0], pairs(3, 4, 2)[1], np.zeros((3, 2)))
    assert np.isfinite(zeros.error_bound)


# ------------------------------------------------------------------------------------------------ verify_forgotten


@pytest.mark.parametrize("rule", [Ridge(), Ridge(alpha=0.5), RecursiveLeastSquares()])
@pytest.mark.parametrize("scale", [1e-120, 1.0, 1e120])
def test_a_forgotten_key_is_provably_gone(rule, scale):
    keys, values = pairs(40, 16, 3)
    memory = memory_of(rule, scale * keys, values)
    memory.store(scale * keys[:5], values[:5])
    memory.forget(scale * keys[3:10], values[3:10])
    remains = memory.verify_forgotten(scale * keys[:12])
    assert np.allclose(remains.max_copies, [2, 2, 2, 1, 1, 0, 0, 0, 0, 0, 1, 1], atol=1e-3)
    assert (remains.max_copies[5:10] < 1e-5).all()
    assert (remains.residual < 1e-9).all()


def test_a_near_duplicate_still_describes_a_key():
    keys, values = pairs(20, 16, 3)
    near = keys[0] + 1e-2 * pairs(1, 16, 3, seed=1)[0][0]
    memory = memory_of("ridge", np.vstack([keys, near]), np.vstack([values, values[:1]]))
    memory.forget(keys[0], values[0])
    assert 1e-8 < memory.verify_forgotten(keys[0]).max_copies[0] < 0.5


def test_beyond_capacity_nothing_can_be_proved():
    keys, values = pairs(500, 8, 2)
    memory = memory_of("ridge", keys, values)
    memory.forget(keys[0], values[0])
    assert memory.verify_forgotten(keys[0]).max_copies[0] > 1


def test_the_residual_sees_weights_that_the_sums_do_not_imply():
    keys, values = pairs(20, 16, 3)
    memory = memory_of(RecursiveLeastSquares(), keys, values)
    memory.forget(keys[0], values[0])
    memory.recall(keys)
    assert memory.verify_forgotten(keys[0]).residual[0] < 1e-9
    state = memory._cell.copied()
    state.solution += 0.01 * np.outer(memory.features.fold(keys[:1])[0], values[0])
    memory._cell.commit(state)
    assert memory.verify_forgotten(keys[0]).residual[0] > 0.1


def test_an_empty_memory_says_nothing():
    memory = AssociativeMemory(4, 2)
    remains = memory.verify_forgotten(np.eye(4))
    assert remains.max_copies.shape == remains.residual.shape == (4,)
    assert not remains.max_copies.any()
    assert not remains.residual.any()
    assert memory.verify_forgotten([]).max_copies.shape == (0,)


@pytest.mark.parametrize("rule", ["hebbian", "delta"])
def test_rules_without_a_sum_over_keys_cannot_verify(rule):
    memory = memory_of(rule, *pairs(3, 4, 2))
    with pytest.raises(ValueError, match=r"keeps no sum over keys.*rule='ridge' or 'rls'"):
        memory.verify_forgotten(np.eye(4))
    with pytest.raises(ValueError, match="key 1 is all zeros"):
        AssociativeMemory(4, 2).verify_forgotten([[1.0, 0, 0, 0], [0, 0, 0, 0]])


# -------------------------------------------------------------------------------------------------------- solution


def test_solution_tells_the_solver_and_its_condition():
    keys, values = pairs(100, 8, 2)
    solver = {name: memory_of(RULES[name][0], keys, values).solution.solver for name in RULES}
    assert solver == {
        **dict.fromkeys(("hebbian", "hebbian-decay", "delta", "delta-rate", "diagonal"), "none"),
        **dict.fromkeys(("ridge-alpha", "ridge-decay"), "Cholesky"),
        **dict.fromkeys(("rls", "rls-decay"), "updated inverse"),
        "ridge": "iterated Tikhonov",
    }
    memory = memory_of(Ridge(alpha=2.0), keys, values)
    features = memory.features.fold(keys)
    exact = np.linalg.cond(features.T @ features + 2.0 * np.eye(memory.rank), 1)
    assert 0.3 * exact < memory.solution.condition < 1.01 * exact
    assert memory.solution.alpha == 2.0
    assert memory.solution.shift == memory.solution.passes == 0
    recursive = memory_of(RecursiveLeastSquares(2.0), keys, values)
    assert 0.3 * exact < recursive.solution.condition < 1.01 * exact
    shifted = memory_of(Ridge(), keys[:20], values[:20]).solution
    assert shifted.passes > 0
    assert 1e5 < shifted.condition < 1e9
    assert np.isclose(shifted.shift, 1e-6 * np.trace(features[:20].T @ features[:20]) / memory.rank)


def test_solution_follows_the_state_and_survives_a_file(tmp_path):
    keys, values = pairs(30, 8, 2)
    memory = memory_of(Ridge(), keys[:10], values[:10])
    first = memory.solution
    assert memory.solution is first
    memory.store(keys[10:], values[10:])
    assert memory.solution.condition != first.condition
    memory.save(tmp_path / "memory")
    recalled = memory.recall(keys)
    loaded = AssociativeMemory.load(tmp_path / "memory")
    assert loaded.solution == memory.solution
    assert np.array_equal(loaded.recall(keys), recalled)
    assert np.isnan(AssociativeMemory(4, 2).solution.condition)


def test_noise_must_be_forgotten_as_noise():
    memory = AssociativeMemory(8, 2)
    memory.store(FIRST_KEYS[:100], FIRST_VALUES[:100], query_cosine=0.8)
    memory.store(FIRST_KEYS[100:102], FIRST_VALUES[100:102])
    before = memory.recall(FIRST_KEYS[:5])
    for change in (
        lambda: memory.forget(FIRST_KEYS[:3], FIRST_VALUES[:3]),
        lambda: memory.replace(FIRST_KEYS[:3], FIRST_VALUES[:3], FIRST_VALUES[3:6]),
    ):
        with pytest.raises(ValueError, match="3 pairs are given without noise, and 2 were stored without, 100 with"):
            change()
    with pytest.raises(ValueError, match="101 pairs are to be forgotten with noise, and 100 were stored with noise"):
        memory.forget(FIRST_KEYS[:101], FIRST_VALUES[:101], query_cosine=0.8)
    assert (memory.recall(FIRST_KEYS[:5]) == before).all()


@pytest.mark.parametrize(("size", "n", "alpha"), [(1e9, 100, 0.1), (1e5, 20, 0.0), (1e6, 20, 0.0), (1.0, 20, 0.0)])
def test_a_huge_value_that_was_deleted_is_within_the_bound(size, n, alpha):
    memory, never = memory_of_first(n, Ridge(alpha)), memory_of_first(n, Ridge(alpha))
    memory.store(FIRST_KEYS[150], size * FIRST_VALUES[150])
    memory.forget(FIRST_KEYS[150], size * FIRST_VALUES[150])
    away = np.linalg.norm(memory.weights - never.weights) / np.linalg.norm(never.weights)
    assert away <= memory.error_bound < 1e-6


def test_replacing_leaves_the_state_before_as_it_was():
    memory = memory_of_first(20)
    memory.recall(FIRST_KEYS[0])
    before = memory._cell.current()
    state = before.copy().arrays()
    memory.replace(FIRST_KEYS[:3], FIRST_VALUES[:3], 1e6 * FIRST_VALUES[:3])
    assert all((before.arrays()[name] == array).all() for name, array in state.items())
