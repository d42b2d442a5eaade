"""Edits against dense systems with Lagrange multipliers, and what the memory promises after them."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assocmem import AssociativeMemory, DeltaRule, Hebbian, RecursiveLeastSquares, Ridge, least_squares_edit
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
    assert memory.n_stored == n + 3


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
    memory = memory_of(keys, values, rule)
    memory.edit(keys[0], [1.0, 2.0])
    memory.forget(keys, values)
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
    for key, value in zip(*pairs(1500, KEY_DIM, 2, seed=6), strict=True):
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


def test_after_an_edit_in_another_metric_the_sums_are_those_of_other_values():
    keys, values = pairs(60, KEY_DIM, 2)
    memory, sample = memory_of(keys, values, Ridge()), pairs(100, KEY_DIM, 1, seed=4)[0]
    features = memory.features.fold(keys)
    memory.edit(*pairs(2, KEY_DIM, 2, seed=5), metric=sample)
    sums = memory._cell.current().sums
    shift = np.linalg.solve(features.T @ features, sums.cross - features.T @ values)
    assert relative(sums.squared_values, ((values + features @ shift) ** 2).sum(axis=0)) < 1e-9


def test_a_change_where_nothing_is_stored_needs_a_penalty():
    memory, sample = memory_of(*pairs(10, KEY_DIM, 2), Ridge()), pairs(100, KEY_DIM, 1, seed=4)[0]
    before = folded(memory)
    with pytest.raises(ValueError, match="with this metric the change reaches directions in which nothing is stored"):
        memory.edit(pairs(1, KEY_DIM, 1, seed=5)[0], [1.0, 2.0], metric=sample)
    assert np.array_equal(folded(memory), before)
    full = memory_of(*pairs(60, KEY_DIM, 2), Ridge())
    full.edit(pairs(1, KEY_DIM, 1, seed=5)[0], [1.0, 2.0], metric=sample)


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


# ---------------------------------------------------------------------------------------- a layer of its own


def layer(seed=0, n_inputs=12, n_outputs=5):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((200, n_inputs)) @ rng.standard_normal((n_inputs, n_inputs))
    return rng.standard_normal((n_outputs, n_inputs)), inputs, inputs.T @ inputs / 200


@given(n=st.integers(1, 4), n_held=st.integers(0, 4), seed=st.integers(0, 99))
def test_layer_edit_is_the_smallest_change(n, n_held, seed):
    weight, inputs, covariance = layer(seed)
    wanted, held = pairs(n, 5, 5, seed)[0], inputs[10 : 10 + n_held]
    edit = least_squares_edit(weight, inputs[:n], wanted, covariance, preserve=held)
    errors = np.vstack([wanted - inputs[:n] @ weight.T, np.zeros((n_held, 5))])
    expected = naive.smallest_change(covariance, np.vstack([inputs[:n], held]), errors)
    assert relative(edit.change.T, expected) < 1e-6
    assert relative(inputs[:n] @ edit.weight.T, wanted) < 1e-9
    assert np.allclose(held @ edit.weight.T, held @ weight.T, atol=1e-9)


@given(n=st.integers(1, 20), penalty=st.sampled_from([1e-3, 1.0, 100.0]), seed=st.integers(0, 99))
def test_layer_edit_with_a_penalty_is_the_closed_form(n, penalty, seed):
    """MEMIT, with keys and values as columns, also for more keys than inputs."""
    weight, inputs, covariance = layer(seed)
    columns, wanted = inputs[:n].T, pairs(n, 5, 5, seed)[0].T
    inner = penalty * covariance + columns @ columns.T
    expected = weight + (wanted - weight @ columns) @ columns.T @ np.linalg.inv(inner)
    edit = least_squares_edit(weight, columns.T, wanted.T, covariance, penalty=penalty)
    assert relative(edit.weight, expected) < 1e-6


def test_layer_edit_of_one_key_is_the_rank_one_form():
    """ROME: ΔW = Λ (C⁻¹k)ᵀ with Λ = (v − W k) / (kᵀ C⁻¹ k)."""
    weight, inputs, covariance = layer()
    key, value = inputs[0], np.arange(5.0)
    direction = np.linalg.solve(covariance, key)
    expected = weight + np.outer(value - weight @ key, direction) / (key @ direction)
    assert relative(least_squares_edit(weight, key, value, covariance).weight, expected) < 1e-9


@given(penalty=st.sampled_from([1e-2, 1.0]), cut=st.integers(1, 5), seed=st.integers(0, 99))
def test_layer_edits_in_turn_are_one_edit_if_the_covariance_learns_of_them(penalty, cut, seed):
    """One block step of recursive least squares after the other, with covariance (λC)⁻¹."""
    weight, inputs, covariance = layer(seed)
    wanted = pairs(6, 5, 5, seed)[0]
    together = least_squares_edit(weight, inputs[:6], wanted, covariance, penalty=penalty)
    first = least_squares_edit(weight, inputs[:cut], wanted[:cut], covariance, penalty=penalty)
    learned = covariance + inputs[:cut].T @ inputs[:cut] / penalty
    second = least_squares_edit(first.weight, inputs[cut:6], wanted[cut:], learned, penalty=penalty)
    assert relative(second.weight, together.weight) < 1e-6


def test_inputs_that_never_vary_cost_nothing():
    """A sample with fewer rows than inputs: the change goes where the sample is not, and the sample sees none of it."""
    rng = np.random.default_rng(0)
    weight, sample, key = rng.standard_normal((3, 12)), rng.standard_normal((6, 12)), rng.standard_normal(12)
    edit = least_squares_edit(weight, key, [1.0, 2.0, 3.0], sample.T @ sample)
    assert relative(edit.weight @ key, np.array([1.0, 2.0, 3.0])) < 1e-6
    assert edit.locality(sample).largest_change < 1e-6


@given(seed=st.integers(0, 99))
def test_locality_is_what_changed(seed):
    weight, inputs, covariance = layer(seed)
    edit = least_squares_edit(weight, inputs[0], np.ones(5), covariance)
    report = edit.locality(inputs[1:9])
    before, after = inputs[1:9] @ weight.T, inputs[1:9] @ edit.weight.T
    usual = np.sqrt(np.mean([row @ row for row in before]))
    changes = [np.linalg.norm(b - a) / usual for a, b in zip(after, before, strict=True)]
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(after, before, strict=True)]
    assert report.n_keys == 8
    assert np.allclose([report.mean_change, report.largest_change], [np.mean(changes), np.max(changes)])
    assert np.allclose([report.mean_cosine, report.smallest_cosine], [np.mean(cosines), np.min(cosines)])


def test_locality_of_outputs_that_are_zero():
    edit = least_squares_edit(np.zeros((2, 3)), [1.0, 0, 0], [1.0, 1.0], np.eye(3))
    nowhere = edit.locality([[0.0, 1.0, 0.0]])
    assert (nowhere.mean_change, nowhere.largest_change, nowhere.mean_cosine) == (0, 0, 1)
    with pytest.raises(ValueError, match="keys are empty; pass at least one held-out key"):
        edit.locality(np.empty((0, 3)))


@pytest.mark.parametrize(("given", "message"), [
    ({"weight": np.ones(3)}, r"weight must be the matrix of a layer, \(outputs, inputs\), got shape \(3,\)"),
    ({"keys": np.ones(4)}, r"keys have shape \(4,\); expected \(N, 3\) or \(3,\)"),
    ({"keys": np.zeros(3)}, "key 0 is all zeros, for which every layer gives 0"),
    ({"values": np.ones((2, 2))}, "1 keys came with 2 values"),
    ({"values": [np.nan, 1.0]}, "values row 0, column 0 is nan"),
    ({"covariance": np.triu(np.ones((3, 3)))}, "covariance of shape .* is not symmetric, as a second moment is"),
    ({"covariance": np.ones((2, 3))}, "covariance of shape .* is not symmetric"),
    ({"covariance": -np.eye(3)}, "not positive semidefinite, as a second moment of inputs is"),
    ({"covariance": np.zeros((3, 3))}, "not positive semidefinite"),
    ({"preserve": [2.0, 0, 0]}, "key 0 depends linearly on the other keys to edit and the 1 independent ones to pres"),
    ({"keys": np.eye(3)[[0, 1, 0]], "values": np.ones((3, 2))}, "depends linearly on the other keys to edit and the 0"),
    ({"penalty": -1.0}, "penalty must be .*got -1.0"),
])  # fmt: skip
def test_layer_edits_refuse(given, message):
    usual = {"weight": np.ones((2, 3)), "keys": [1.0, 0, 0], "values": [1.0, 2.0], "covariance": np.eye(3)}
    with pytest.raises(ValueError, match=message):
        least_squares_edit(**{**usual, **given})


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
    with pytest.raises(ValueError, match="nothing is stored, and an edit in another metric needs stored pairs"):
        AssociativeMemory(8, 2, rule=Ridge(0.1)).edit(FIRST_KEYS[0], [1.0, 2.0], metric=FIRST_KEYS)
    with pytest.raises(ValueError, match="rows of different lengths"):
        memory.edit(FIRST_KEYS[0], [1.0, 2.0], metric=[[1, 2], [3]])
    with pytest.raises(ValueError, match=r"at least one input and output, got shape \(0, 0\)"):
        least_squares_edit(np.empty((0, 0)), np.empty((0, 0)), np.empty((0, 0)), np.empty((0, 0)))


def test_an_edit_can_be_pickled():
    edit = least_squares_edit(np.eye(3), [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], np.eye(3))
    assert pickle.loads(pickle.dumps(edit)).locality([0.0, 1.0, 0.0]) == edit.locality([0.0, 1.0, 0.0])
