"""Where features meet: edits, noise, streams, confidence and rounding in one memory."""

import copy
import pickle

import numpy as np
import pytest

from assocmem import AssociativeMemory, RecursiveLeastSquares, Ridge, least_squares_edit
from tests.helpers import pairs, relative

KEYS, VALUES = pairs(200, 8, 2)
REGULARISED = pytest.mark.parametrize("rule", [Ridge(0.1), RecursiveLeastSquares(0.1)], ids=["ridge", "rls"])


def memory_of(n, rule="ridge", **options):
    memory = AssociativeMemory(8, 2, rule=rule, **options)
    memory.store(KEYS[:n], VALUES[:n])
    return memory


def test_a_shallow_copy_has_pairs_of_its_own():
    memory = AssociativeMemory(8, 2)
    twin = copy.copy(memory)
    memory.store(KEYS[0], VALUES[0])
    twin.store(KEYS[1], VALUES[1])
    assert relative(memory.recall(KEYS[0]), VALUES[0]) < 1e-9
    assert relative(twin.recall(KEYS[1]), VALUES[1]) < 1e-9


@REGULARISED
def test_a_stream_into_an_edited_memory_resumes(rule, tmp_path):
    memory = memory_of(5, rule)
    memory.edit(KEYS[0], [5.0, 5.0])
    again = memory.copy()
    for one in (memory, again):
        one.store_from((KEYS[5:30], VALUES[5:30]), checkpoint=tmp_path / "run", every=10)
    assert (again.recall(KEYS[:9]) == memory.recall(KEYS[:9])).all()
    assert relative(again.recall(KEYS[0]), np.array([5.0, 5.0])) < 1e-9


def test_an_edit_of_an_empty_memory_is_another_beginning(tmp_path):
    edited, fresh = AssociativeMemory(8, 2), AssociativeMemory(8, 2)
    edited.edit(KEYS[0], [5.0, 5.0])
    fresh.store_from((KEYS[5:30], VALUES[5:30]), checkpoint=tmp_path / "run", every=10)
    with pytest.raises(ValueError, match="pairs before the run"):
        edited.store_from((KEYS[5:30], VALUES[5:30]), checkpoint=tmp_path / "run", every=10)
    assert relative(edited.recall(KEYS[0]), np.array([5.0, 5.0])) < 1e-9


@REGULARISED
def test_pairs_can_be_forgotten_after_an_edit_in_another_metric(rule):
    memory = memory_of(20, rule)
    memory.edit(KEYS[0], [1.0, 2.0], metric=KEYS[:20])
    for n in range(5, 15):
        memory.forget(KEYS[n], VALUES[n])
    assert memory.n_stored == 10
    assert relative(memory.recall(KEYS[0]), np.array([1.0, 2.0])) < 1e-9


@REGULARISED
def test_edited_keys_have_the_same_leverage_under_both_rules(rule):
    memory, ridge = memory_of(30, rule), memory_of(30, Ridge(0.1))
    for one in (memory, ridge):
        one.edit(KEYS[0], [5.0, 5.0], preserve=KEYS[1])
    assert relative(memory.leverage(KEYS[:5]), ridge.leverage(KEYS[:5])) < 1e-7
    assert (memory.leverage(KEYS[:2]) > 0.9).all()


def test_confidence_is_refused_where_noise_stands_for_pairs():
    memory = AssociativeMemory(8, 2, rule=Ridge(1.0))
    memory.store(KEYS[:20], VALUES[:20], noise=0.1)
    with pytest.raises(ValueError, match=r"20 pairs were stored with noise.*standard deviations"):
        memory.recall(KEYS[0], return_confidence=True)
    with pytest.raises(ValueError, match=r"20 pairs were stored with noise.*leave-one-out"):
        memory.leave_one_out(KEYS[:2], VALUES[:2])
    memory.forget(KEYS[:20], VALUES[:20], noise=0.1)
    memory.store(KEYS[:20], VALUES[:20])
    assert memory.leave_one_out(KEYS[:2], VALUES[:2]).shape == (2, 2)


def test_noise_must_be_forgotten_as_noise():
    memory = AssociativeMemory(8, 2)
    memory.store(KEYS[:100], VALUES[:100], noise=0.1)
    memory.store(KEYS[100:102], VALUES[100:102])
    before = memory.recall(KEYS[:5])
    for change in (
        lambda: memory.forget(KEYS[:3], VALUES[:3]),
        lambda: memory.replace(KEYS[:3], VALUES[:3], VALUES[3:6]),
    ):
        with pytest.raises(ValueError, match="3 pairs are given without noise, and 2 were stored without, 100 with"):
            change()
    with pytest.raises(ValueError, match="101 pairs are to be forgotten with noise, and 100 were stored with noise"):
        memory.forget(KEYS[:101], VALUES[:101], noise=0.1)
    assert (memory.recall(KEYS[:5]) == before).all()


@pytest.mark.parametrize(("size", "n", "alpha"), [(1e9, 100, 0.1), (1e5, 20, 0.0), (1e6, 20, 0.0), (1.0, 20, 0.0)])
def test_a_huge_value_that_was_deleted_is_within_the_bound(size, n, alpha):
    memory, never = memory_of(n, Ridge(alpha)), memory_of(n, Ridge(alpha))
    memory.store(KEYS[150], size * VALUES[150])
    memory.forget(KEYS[150], size * VALUES[150])
    away = np.linalg.norm(memory.weights - never.weights) / np.linalg.norm(never.weights)
    assert away <= memory.error_bound < 1e-6


def test_replacing_leaves_the_state_before_as_it_was():
    memory = memory_of(20)
    memory.recall(KEYS[0])
    state = {name: array.copy() for name, array in memory._state.items()}
    before = memory._state
    memory.replace(KEYS[:3], VALUES[:3], 1e6 * VALUES[:3])
    assert all((before[name] == state[name]).all() for name in state)


@pytest.mark.parametrize("forgetting", [1e-4, 1e-12, 1e-50, 5e-324])
def test_whatever_fades_at_once_leaves_leverages_and_recalls_finite(forgetting):
    memory = AssociativeMemory(8, 2, rule=RecursiveLeastSquares(forgetting=forgetting))
    for key, value in zip(KEYS[:12], VALUES[:12], strict=True):
        memory.store(key, value)
        assert relative(memory.recall(key), value) < 1e-6
    assert 0 <= memory.leverage(KEYS[11]) < 1 + 1e-6


@pytest.mark.parametrize("rule", [Ridge(1e300), RecursiveLeastSquares(1e200), RecursiveLeastSquares(1e308)])
def test_penalties_beyond_everything_recall_next_to_nothing(rule):
    memory = AssociativeMemory(8, 2, rule=rule)
    memory.store(1e-10 * KEYS[:5], VALUES[:5])
    assert np.abs(memory.recall(KEYS[0])).max() < 1e-100


def test_contradictions_are_refused_whatever_the_size_of_other_values():
    memory = memory_of(20)
    before = memory.recall(KEYS[:3])
    with pytest.raises(ValueError, match="which determine the recalls of the others"):
        memory.edit(KEYS[[0, 1]], [[1e9, 0.0], [100.0, 0.0]], preserve=KEYS[1])
    assert (memory.recall(KEYS[:3]) == before).all()


def test_small_refusals():
    memory = memory_of(20)
    assert memory.leave_one_out(np.empty((0, 8)), np.empty((0, 2))).shape == (0, 2)
    assert memory.leave_one_out([], []).shape == (0, 2)
    for call in (
        lambda: memory.store(KEYS[0], VALUES[0], progress=5),
        lambda: memory.recall(KEYS[0], progress=5),
        lambda: memory.store_from((KEYS, VALUES), progress=5),
    ):
        with pytest.raises(TypeError, match=r"progress is 5 \(int\); expected a function"):
            call()
    assert memory.n_stored == 20
    with pytest.raises(ValueError, match="penalty is 1e-320; expected 0 or at least 1e-150"):
        memory.edit(KEYS[0], [1.0, 2.0], penalty=1e-320)
    with pytest.raises(ValueError, match="nothing is stored; expected pairs before an edit in another metric"):
        AssociativeMemory(8, 2, rule=Ridge(0.1)).edit(KEYS[0], [1.0, 2.0], metric=KEYS)
    with pytest.raises(ValueError, match="metric has rows of different lengths"):
        memory.edit(KEYS[0], [1.0, 2.0], metric=[[1, 2], [3]])
    with pytest.raises(ValueError, match=r"weight has shape \(0, 0\)"):
        least_squares_edit(np.empty((0, 0)), np.empty((0, 0)), np.empty((0, 0)), np.empty((0, 0)))


def test_an_edit_can_be_pickled():
    edit = least_squares_edit(np.eye(3), [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], np.eye(3))
    assert pickle.loads(pickle.dumps(edit)).locality([0.0, 1.0, 0.0]) == edit.locality([0.0, 1.0, 0.0])


def test_weights_that_float32_does_not_know_are_frozen_as_zero():
    memory = AssociativeMemory(8, 2)
    memory.store(KEYS[:3], 1e-46 * VALUES[:3])
    assert (memory.freeze("int8").recall(KEYS[:3]) == 0).all()
