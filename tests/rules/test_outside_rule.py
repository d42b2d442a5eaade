"""A rule from outside the package, in twenty lines, can do what the package's own rules can."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from assocmem import AssociativeMemory, Rule, register
from assocmem.capacity.measuring import measure
from tests.helpers import pairs, relative
from tests.rules.outside_rule import DiagonalRidge

KEYS, VALUES = pairs(40, 8, 2)


def memory_of(keys, values):
    memory = AssociativeMemory(8, 2, rule="diagonal")
    memory.store(keys, values)
    return memory


def test_it_recalls_what_its_formula_says():
    memory = memory_of(KEYS, VALUES)
    features = memory.features.fold(KEYS)
    weights = features.T @ VALUES / ((features**2).sum(axis=0) + 1.0)[:, None]
    assert relative(memory.recall(KEYS), features @ weights) < 1e-12
    assert memory.rule == DiagonalRidge(alpha=1.0)


def test_it_is_saved_loaded_and_pickled(tmp_path):
    memory = memory_of(KEYS, VALUES)
    memory.save(tmp_path / "memory")
    for twin in (AssociativeMemory.load(tmp_path / "memory"), pickle.loads(pickle.dumps(memory)), memory.copy()):
        assert repr(twin) == repr(memory)
        assert (twin.recall(KEYS) == memory.recall(KEYS)).all()
        twin.store(KEYS[0], -VALUES[0])
        assert not np.allclose(twin.recall(KEYS), memory.recall(KEYS))


def test_it_merges_forgets_replaces_and_freezes():
    memory = memory_of(KEYS, VALUES)
    merged = memory_of(KEYS[:15], VALUES[:15]).merge(memory_of(KEYS[15:], VALUES[15:]))
    assert relative(merged.recall(KEYS), memory.recall(KEYS)) < 1e-12
    merged.forget(KEYS[:10], VALUES[:10])
    never = memory_of(KEYS[10:], VALUES[10:])
    assert merged.n_stored == 30
    assert relative(merged.recall(KEYS), never.recall(KEYS)) < 1e-9
    merged.replace(KEYS[10:], VALUES[10:], -VALUES[10:])
    assert relative(merged.recall(KEYS), -never.recall(KEYS)) < 1e-9
    assert relative(merged.freeze("float64").recall(KEYS), merged.recall(KEYS)) < 1e-9


def test_it_is_measured_without_a_law_of_its_own():
    points = measure("diagonal", key_dim=16, value_dim=4, loads=[0.2, 2.0], query_cosines=[1.0], trials=2).points
    assert 0 < points[0].measured < points[1].measured < 0.5
    assert np.isnan([point.predicted for point in points]).all()


def test_it_answers_what_needs_a_law_or_sums_by_a_refusal_or_nothing():
    memory = memory_of(KEYS, VALUES)
    assert np.isnan(memory.diagnose().clean_error)
    assert memory.error_bound is None
    assert memory.alpha is None
    with pytest.raises(ValueError, match="'diagonal' has no leverage"):
        memory.leverage(KEYS)
    with pytest.raises(ValueError, match="'diagonal' cannot hold an edit"):
        memory.edit(KEYS[0], VALUES[0])


def test_only_dataclasses_with_a_name_of_their_own_are_registered():
    @dataclass(frozen=True)
    class Other(DiagonalRidge):
        name = "ridge"

    with pytest.raises(ValueError, match="the name 'ridge' belongs to the rule Ridge"):
        register(Other)
    with pytest.raises(TypeError, match="must be a dataclass"):
        register(Rule)
    assert register(DiagonalRidge) is DiagonalRidge
