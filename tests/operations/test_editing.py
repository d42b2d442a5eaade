"""Edits against dense systems with Lagrange multipliers, and what the memory promises after them."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assocmem import AssociativeMemory, DeltaRule, Hebbian, RecursiveLeastSquares, Ridge
from tests import naive
from tests.helpers import FIRST_KEYS, FIRST_VALUES, memory_of_first, pairs, relative

KEY_DIM, EXPANSION, ALPHA = 8, 2, 0.5
RANK = KEY_DIM * (1 + EXPANSION)
RULES = [Ridge(alpha=ALPHA), RecursiveLeastSquares(alpha=ALPHA)]
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
every_exact_rule = pytest.mark.parametrize("rule", [*RULES, Ridge(), RecursiveLeastSquares()], ids=str)


def memory_of(keys, values, rule, **options):
    memory = AssociativeMemory(KEY_DIM, values.shape[1], expansion=EXPANSION, rule=rule, **options)
    memory.store(keys, values)
    return memory


def folded(memory):
    """The folded weights, as what `recall` makes of D independent keys says they are."""
    probes = pairs(4 * RANK, KEY_DIM, 1, seed=12345)[0]
    return np.linalg.lstsq(memory.features.fold(probes), memory.recall(probes), rcond=None)[0]


# ---------------------------------------------------------------------------------------- against the oracles


@every_rule
@given(
    n=st.integers(0, 60), n_edited=st.integers(1, 6), n_held=st.integers(0, 6),
    stored=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_edit_is_ridge_under_constraints(rule, n, n_edited, n_held, stored, seed):
    keys, values = pairs(n, KEY_DIM, 2, seed)
    memory, fold = memory_of(keys, values, rule), AssociativeMemory(KEY_DIM, 2, expansion=EXPANSION).features.fold
    new_keys, new_values = pairs(n_edited, KEY_DIM, 2, seed + 100)
    held = pairs(n_held, KEY_DIM, 2, seed + 200)[0]
    if stored and n >= n_edited:
        new_keys = keys[:n_edited]
    before, kept = folded(memory), memory.recall(held)
    edit = memory.edit(new_keys, new_values, held)
    fixed, targets = fold(np.vstack([new_keys, held])), np.vstack([new_values, kept])
    expected = naive.constrained_ridge(fold(keys), values, ALPHA, fixed, targets)
    assert relative(memory.recall(new_keys), new_values) < 1e-9
    assert np.allclose(memory.recall(held), kept, atol=1e-9)
    assert relative(folded(memory), expected) < 1e-7
    assert relative(edit.weight.T, expected) < 1e-7
    # The same as the smallest change in the metric of what is stored.
    metric = fold(keys).T @ fold(keys) + ALPHA * np.eye(RANK)
    assert relative(edit.change.T, naive.smallest_change(metric, fixed, targets - fixed @ before)) < 1e-6
    assert memory.n_stored == n


@every_rule
@given(n=st.integers(1, 60), penalty=st.sampled_from([0.01, 1.0, 30.0]), seed=st.integers(0, 99))
def test_edit_with_a_penalty_is_a_block_step_of_recursive_least_squares(rule, n, penalty, seed):
    keys, values = pairs(n, KEY_DIM, 2, seed)
    memory, (new_keys, new_values) = memory_of(keys, values, rule), pairs(3, KEY_DIM, 2, seed + 100)
    before, edited = folded(memory), memory.features.fold(new_keys)
    memory.edit(new_keys, new_values, penalty=penalty)
    covariance = np.linalg.inv(memory.features.fold(keys).T @ memory.features.fold(keys) + ALPHA * np.eye(RANK))
    gain = covariance @ edited.T @ np.linalg.inv(edited @ covariance @ edited.T + penalty * np.eye(3))
    assert relative(folded(memory), before + gain @ (new_values - edited @ before)) < 1e-7
    assert memory.n_stored == n


@every_exact_rule
@given(
    n=st.integers(0, 12), sizes=st.lists(st.integers(1, 2), min_size=2, max_size=3),
    penalty=st.sampled_from([0.0, 0.0, 0.5]), protect=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_several_edits_at_once_are_the_same_one_after_the_other(rule, n, sizes, penalty, protect, seed):
    keys, values = pairs(n, KEY_DIM, 2, seed)
    if n == 0 and rule == RecursiveLeastSquares():
        return  # α is chosen by the first pair: the two memories would differ in it
    new_keys, new_values = pairs(sum(sizes), KEY_DIM, 2, seed + 100)
    held = pairs(2, KEY_DIM, 2, seed + 200)[0] if protect else None
    together, in_turn = memory_of(keys, values, rule), memory_of(keys, values, rule)
    together.edit(new_keys, new_values, held, penalty=penalty)
    for part in np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]):
        in_turn.edit(new_keys[part], new_values[part], held, penalty=penalty)
    assert relative(folded(in_turn), folded(together)) < 1e-6


@every_exact_rule
@given(
    n=st.integers(1, 12), cut=st.integers(0, 12), when=st.sampled_from(["first", "between", "last"]),
    one_by_one=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_later_writes_work_and_keep_the_edit(rule, n, cut, when, one_by_one, seed):
    """Stores, edits and deletions in any order are one ridge problem under constraints."""
    keys, values = pairs(n, KEY_DIM, 2, seed)
    new_keys, new_values = pairs(2, KEY_DIM, 2, seed + 100)
    passing, gone = pairs(4, KEY_DIM, 2, seed + 300)
    memory = AssociativeMemory(KEY_DIM, 2, expansion=EXPANSION, rule=rule)
    memory.store(*pairs(1, KEY_DIM, 2, seed + 400))
    for step, (first, last) in {"first": (0, 0), "between": (0, cut), "last": (cut, n)}.items():
        rows = range(min(first, n), min(last, n))
        for part in [[i] for i in rows] if one_by_one else [list(rows)]:
            memory.store(keys[part], values[part])
            memory.recall(keys[:1])
        if step == when:
            memory.store(passing, gone)
            memory.edit(new_keys, new_values)
            memory.forget(passing, gone)
    fold, (first_key, first_value) = memory.features.fold, pairs(1, KEY_DIM, 2, seed + 400)
    features, targets = fold(np.vstack([first_key, keys])), np.vstack([first_value, values])
    alpha = rule.alpha or 1e-7
    expected = naive.constrained_ridge(features, targets, alpha, fold(new_keys), new_values)
    assert relative(memory.recall(new_keys), new_values) < 1e-8
    assert relative(memory.recall(keys), fold(keys) @ expected) < (1e-7 if rule.alpha else 1e-5)


# ------------------------------------------------------------------------------------------ what it promises


@pytest.mark.parametrize("rule", [Ridge(), RecursiveLeastSquares()], ids=str)
@pytest.mark.parametrize("load", [0.2, 0.8])
def test_without_a_penalty_and_below_capacity_no_stored_pair_is_disturbed(rule, load):
    keys, values = pairs(round(load * 320), 64, 3)
    memory = AssociativeMemory(64, 3, rule=rule)
    memory.store(keys, values)
    strange, wanted = pairs(10, 64, 3, seed=1)
    edit = memory.edit(np.vstack([strange, keys[:5]]), np.vstack([wanted, values[5:10]]))
    assert relative(memory.recall(strange), wanted) < 1e-9
    assert relative(memory.recall(keys[:5]), values[5:10]) < 1e-9
    assert edit.locality(keys[5:]).largest_change < 1e-5
    assert edit.locality(keys[:5]).largest_change > 0.1


@every_exact_rule
def test_a_key_can_be_edited_again_and_others_stay(rule):
    keys, values = pairs(10, KEY_DIM, 2)
    memory, again = memory_of(keys, values, rule), memory_of(keys, values, rule)
    memory.edit(keys[:2], [[1.0, 2.0], [3.0, 4.0]])
    memory.edit(keys[0], [5.0, 6.0])
    again.edit(keys[:2], [[5.0, 6.0], [3.0, 4.0]])
    assert relative(folded(memory), folded(again)) < 1e-7
    again.edit(keys[0], [7.0, 8.0], penalty=1e6)  # no longer fixed, and hardly moved
    assert relative(again.recall(keys[0]), [5.0, 6.0]) > 0.1
    assert relative(again.recall(keys[1]), [3.0, 4.0]) < 1e-9


@every_exact_rule
def test_copies_files_and_merged_memories_keep_edits(rule, tmp_path):
    keys, values = pairs(10, KEY_DIM, 2)
    memory, new_keys, wanted = memory_of(keys, values, rule), pairs(2, KEY_DIM, 1, seed=5)[0], np.eye(2)
    memory.edit(new_keys, wanted)
    memory.save(tmp_path / "memory.safetensors")
    loaded = AssociativeMemory.load(tmp_path / "memory.safetensors")
    assert np.array_equal(loaded.recall(new_keys), memory.recall(new_keys))
    other_keys, other_values = pairs(5, KEY_DIM, 2, seed=6)
    other = memory_of(other_keys, other_values, rule)
    for twin in (loaded, memory.copy(), pickle.loads(pickle.dumps(memory)), memory.merge(other), other.merge(memory)):
        twin.store(*pairs(3, KEY_DIM, 2, seed=7))
        assert relative(twin.recall(new_keys), wanted) < 1e-8
    other.edit(pairs(1, KEY_DIM, 1, seed=8)[0], [1.0, 1.0])
    assert relative(memory.merge(other).recall(new_keys), wanted) < 1e-8
    contrary = memory_of(keys, values, rule)
    contrary.edit(new_keys[0], [9.0, 9.0])
    with pytest.raises(ValueError, match="of 2 keys with a fixed recall and 1 to fix, only 2 have independent feat"):
        memory.merge(contrary)


@every_exact_rule
def test_an_edit_outlives_all_pairs_and_may_come_first(rule):
    keys, values = pairs(5, KEY_DIM, 2)
    memory = memory_of(keys[1:], values[1:], rule)
    memory.edit(keys[0], [1.0, 2.0])
    memory.forget(keys[1:], values[1:])
    empty = AssociativeMemory(KEY_DIM, 2, expansion=EXPANSION, rule=rule)
    empty.edit(keys[0], [1.0, 2.0])
    for each in (memory, empty, empty.copy()):
        assert each.n_stored == 0
        assert relative(each.recall(keys[0]), [1.0, 2.0]) < 1e-9
        each.store(keys[1:], values[1:])
        assert relative(each.recall(keys[0]), [1.0, 2.0]) < 1e-9
        assert relative(each.recall(keys[1:]), values[1:]) < (0.9 if rule.alpha else 1e-5)


def test_recursive_least_squares_keeps_an_edit_through_many_writes():
    rule = RecursiveLeastSquares(decay=0.99)
    memory, new_keys = memory_of(*pairs(10, KEY_DIM, 2), rule), pairs(2, KEY_DIM, 1, seed=5)[0]
    memory.edit(new_keys, np.eye(2))
    for key, value in zip(*pairs(300, KEY_DIM, 2, seed=6), strict=True):
        memory.store(key, value)
        memory.recall(key)
    assert relative(memory.recall(new_keys), np.eye(2)) < 1e-8


def test_float32():
    memory = memory_of(*pairs(10, KEY_DIM, 2), Ridge(), dtype="float32")
    new_keys, held = pairs(2, KEY_DIM, 1, seed=5)[0], pairs(3, KEY_DIM, 1, seed=6)[0]
    kept = memory.recall(held)
    memory.edit(new_keys, np.eye(2), held)
    assert relative(memory.recall(new_keys), np.eye(2)) < 1e-5
    assert relative(memory.recall(held), kept) < 1e-5


# ------------------------------------------------------------------------------------------- another metric


@every_rule
@pytest.mark.parametrize("penalty", [0.0, 2.0])
@pytest.mark.parametrize("n", [10, 60])
@pytest.mark.parametrize("sampled", [True, False])
def test_edit_in_the_metric_of_a_sample(rule, penalty, n, sampled):
    memory, sample = memory_of(*pairs(n, KEY_DIM, 2), rule), 3 * pairs(100, KEY_DIM, 1, seed=4)[0]
    new_keys, wanted = pairs(2, KEY_DIM, 2, seed=5)
    held = pairs(2, KEY_DIM, 1, seed=6)[0]
    fold, before, kept = memory.features.fold, folded(memory), memory.recall(held)
    second_moment = fold(sample).T @ fold(sample) / 100
    memory.edit(new_keys, wanted, held, penalty=penalty, metric=sample if sampled else second_moment)
    errors = wanted - fold(new_keys) @ before
    if penalty:
        # With preserved keys taken out: Lagrange multipliers for them, a penalty for the edited.
        metric = second_moment + fold(new_keys).T @ fold(new_keys) / penalty
        system = np.block([[metric, fold(held).T], [fold(held), np.zeros((2, 2))]])
        change = np.linalg.solve(system, np.vstack([fold(new_keys).T @ errors / penalty, np.zeros((2, 2))]))[:RANK]
    else:
        fixed = fold(np.vstack([new_keys, held]))
        change = naive.smallest_change(second_moment, fixed, np.vstack([errors, np.zeros((2, 2))]))
        assert relative(memory.recall(new_keys), wanted) < 1e-9
    assert relative(folded(memory), before + change) < 1e-6
    assert np.allclose(memory.recall(held), kept, atol=1e-9)
    memory.store(*pairs(5, KEY_DIM, 2, seed=8))
    assert np.allclose(memory.recall(held), kept, atol=1e-9)
    memory.recall(held, return_confidence=True)


def test_no_edit_changes_the_sums_or_counts_as_a_pair():
    memory, sample = memory_of(*pairs(60, KEY_DIM, 2), Ridge()), pairs(100, KEY_DIM, 1, seed=4)[0]
    sums = memory._cell.current().sums.copy()
    memory.edit(*pairs(2, KEY_DIM, 2, seed=5), metric=sample)
    memory.edit(*pairs(2, KEY_DIM, 2, seed=6), penalty=0.1)
    memory.edit(*pairs(2, KEY_DIM, 2, seed=7), pairs(2, KEY_DIM, 2, seed=8)[0])
    now = memory._cell.current().sums
    for name in ("gram", "cross", "squared_values"):
        assert np.array_equal(getattr(now, name), getattr(sums, name))
    assert memory.n_stored == 60


@every_exact_rule
@pytest.mark.parametrize("n", [0, 10, 60])
def test_an_edit_in_a_metric_may_reach_directions_in_which_nothing_is_stored(rule, n):
    memory, sample = memory_of(*pairs(n, KEY_DIM, 2), rule), pairs(100, KEY_DIM, 1, seed=4)[0]
    key, fold = pairs(1, KEY_DIM, 1, seed=5)[0], memory.features.fold
    before = folded(memory)
    memory.edit(key, [1.0, 2.0], metric=sample)
    expected = naive.smallest_change(fold(sample).T @ fold(sample) / 100, fold(key), [[1.0, 2.0]] - fold(key) @ before)
    assert relative(folded(memory), before + expected) < 1e-8


@pytest.mark.filterwarnings("ignore:this edit")  # the metric leaves the change to few directions
@settings(max_examples=12)
@given(n=st.integers(1, 4), n_factors=st.integers(1, 60), spread=st.floats(-10, 0), seed=st.integers(0, 999))
def test_no_change_costs_less_in_a_metric_of_any_scales_and_correlations(n, n_factors, spread, seed):
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((RANK, n_factors))
    metric = factors @ factors.T + 10**spread * np.eye(RANK)
    scales = 10 ** rng.uniform(-5, 5, RANK) / np.sqrt(metric.diagonal())
    metric = scales[:, None] * metric * scales
    metric = (metric + metric.T) / 2
    memory, (keys, wanted) = memory_of(*pairs(30, KEY_DIM, 2), Ridge(ALPHA)), pairs(n, KEY_DIM, 2, seed + 100)
    errors = wanted - memory.recall(keys)
    edit = memory.edit(keys, wanted, metric=metric)
    assert relative(memory.recall(keys), wanted) < 1e-9
    rounding = (metric.diagonal()[:, None] * (1e-15 * edit.weight.T) ** 2).sum()  # of weights as float64
    least = naive.least_cost(metric, memory.features.fold(keys), errors)
    assert naive.cost(metric, edit.change.T) < (1 + 1e-6) * least + rounding


def test_metrics_in_which_two_keys_change_the_weights_alike():
    """No combination of the two directions meets both values: the metric of what is stored does the rest."""
    memory, (keys, wanted) = memory_of(*pairs(30, KEY_DIM, 2), Ridge(ALPHA)), pairs(2, KEY_DIM, 2, seed=5)
    first, second = memory.features.fold(keys)
    other = np.linalg.inv(np.outer(first, first) + 1e-13 * np.eye(RANK) * (first @ first))
    memory.edit(keys[0], wanted[0], metric=np.eye(RANK))
    memory.edit(keys[1], wanted[1], metric=(other + other.T) / 2)
    assert abs(first @ second) > 0
    assert relative(memory.recall(keys), wanted) < 1e-9


# ------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("given", "error", "message"), [
    (lambda k, v: {"keys": k, "values": v[:1]}, ValueError, "2 keys came with 1 values"),
    (lambda k, v: {"keys": k, "values": v, "penalty": -1}, ValueError, "penalty must be .*got -1.0"),
    (lambda k, v: {"keys": k, "values": v, "preserve": k[:, :3]}, ValueError, r"preserve have shape \(2, 3\)"),
    (lambda k, v: {"keys": k, "values": v, "preserve": [[np.nan] * 8]}, ValueError, "preserve row 0, column 0 is nan"),
    (lambda k, v: {"keys": k, "values": v, "metric": [[np.nan] * 8]}, ValueError, "metric row 0, column 0 is nan"),
    (lambda k, v: {"keys": k, "values": v, "preserve": k[:1]}, ValueError, "or are both edited and preserved"),
    (lambda k, v: {"keys": k[[0, 0]], "values": v}, ValueError, "only 1 have independent features"),
    (lambda k, v: {"keys": np.vstack([k, 2 * k]), "values": np.vstack([v, v])}, ValueError, "only 2 have independent"),
    (lambda k, v: {"keys": k, "values": v, "metric": np.ones((3, 3))}, ValueError, r"got shape \(3, 3\)"),
    (lambda k, v: {"keys": k, "values": v, "metric": np.empty((0, 8))}, ValueError, r"got shape \(0, 8\)"),
    (lambda k, v: {"keys": k, "values": v, "metric": np.triu(np.ones((24, 24)))}, ValueError, "is not symmetric"),
    (lambda k, v: {"keys": k, "values": v, "metric": -np.eye(24)}, ValueError, "not positive semidefinite"),
])  # fmt: skip
def test_refusals_change_nothing(given, error, message):
    memory, (keys, values) = memory_of(*pairs(10, KEY_DIM, 2), Ridge(alpha=ALPHA)), pairs(2, KEY_DIM, 2, seed=5)
    before = folded(memory)
    with pytest.raises(error, match=message):
        memory.edit(**given(keys, values))
    assert np.array_equal(folded(memory), before)


def test_no_more_recalls_than_dimensions_can_be_fixed():
    keys, values = pairs(RANK + 1, KEY_DIM, 2)
    memory = AssociativeMemory(KEY_DIM, 2, expansion=EXPANSION)
    with pytest.warns(UserWarning, match="recalls of other keys"):  # a square system of random keys
        memory.edit(keys[:RANK], values[:RANK])
    assert relative(memory.recall(keys[:RANK]), values[:RANK]) < 1e-8
    with pytest.raises(ValueError, match=r"of 24 keys with a fixed recall and 1 to fix, only 24 have .*at most 24 can"):
        memory.edit(keys[RANK], values[RANK])
    memory.edit(keys[RANK], memory.recall(keys[RANK]))  # it says nothing new


@pytest.mark.parametrize("rule", [Hebbian(), DeltaRule()], ids=str)
def test_rules_that_cannot_hold_an_edit_refuse(rule):
    memory = memory_of(*pairs(5, KEY_DIM, 2), rule)
    with pytest.raises(
        ValueError, match=rf"rule '{rule.name}' cannot hold an edit, .*build the memory with rule 'ridge' or 'rls'"
    ):
        memory.edit(np.ones(KEY_DIM), [1.0, 2.0])


@pytest.mark.parametrize("rule", [Ridge(0.1), RecursiveLeastSquares(0.1)], ids=["ridge", "rls"])
def test_pairs_can_be_forgotten_after_an_edit_in_another_metric(rule):
    memory = memory_of_first(20, rule)
    memory.edit(FIRST_KEYS[0], [1.0, 2.0], metric=FIRST_KEYS[:20])
    for n in range(5, 15):
        memory.forget(FIRST_KEYS[n], FIRST_VALUES[n])
    assert memory.n_stored == 10
    assert relative(memory.recall(FIRST_KEYS[0]), np.array([1.0, 2.0])) < 1e-9


@pytest.mark.parametrize("rule", [Ridge(0.1), RecursiveLeastSquares(0.1)], ids=["ridge", "rls"])
def test_edited_keys_have_the_same_leverage_under_both_rules(rule):
    memory, ridge = memory_of_first(30, rule), memory_of_first(30, Ridge(0.1))
    for one in (memory, ridge):
        one.edit(FIRST_KEYS[0], [5.0, 5.0], preserve=FIRST_KEYS[1])
    assert relative(memory.leverage(FIRST_KEYS[:5]), ridge.leverage(FIRST_KEYS[:5])) < 1e-7
    assert (memory.leverage(FIRST_KEYS[:2]) > 0.9).all()


def test_contradictions_are_refused_whatever_the_size_of_other_values():
    memory = memory_of_first(20)
    before = memory.recall(FIRST_KEYS[:3])
    with pytest.raises(ValueError, match="which determine the recalls of the others"):
        memory.edit(FIRST_KEYS[[0, 1]], [[1e9, 0.0], [100.0, 0.0]], preserve=FIRST_KEYS[1])
    assert (memory.recall(FIRST_KEYS[:3]) == before).all()


def test_small_refusals():
    memory = memory_of_first(20)
    assert memory.leave_one_out(np.empty((0, 8)), np.empty((0, 2))).shape == (0, 2)
    assert memory.leave_one_out([], []).shape == (0, 2)
    for call in (
        lambda: memory.store(FIRST_KEYS[0], FIRST_VALUES[0], progress=5),
        lambda: memory.recall(FIRST_KEYS[0], progress=5),
        lambda: memory.store_from((FIRST_KEYS, FIRST_VALUES), progress=5),
    ):
        with pytest.raises(TypeError, match=r"progress must be a function .*got 5 \(int\)"):
            call()
    assert memory.n_stored == 20
    with pytest.raises(ValueError, match=r"penalty .*0 or at least 1e-150"):
        memory.edit(FIRST_KEYS[0], [1.0, 2.0], penalty=1e-320)
    with pytest.raises(ValueError, match="rows of different lengths"):
        memory.edit(FIRST_KEYS[0], [1.0, 2.0], metric=[[1, 2], [3]])
