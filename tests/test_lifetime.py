"""A long life: any sequence of operations leaves the memory that a plain list of pairs implies."""

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from assocmem import AssociativeMemory
from tests import naive
from tests.helpers import RULES, SUMS, pairs

# Twelve keys in rank 22, stored again and again: no rule is near a cliff. Sixty pairs: no penalty has faded away.
KEYS, PROBE = pairs(12, 6, 1)[0], pairs(5, 6, 1, seed=1)[0]
STRANGERS = pairs(4, 6, 1, seed=2)[0]
MOST = 60

key_numbers = st.integers(0, len(KEYS) - 1)
values = st.tuples(*[st.integers(-4, 4)] * 2).map(lambda entries: np.array(entries, float))
some_pairs = st.lists(st.tuples(key_numbers, values), min_size=1, max_size=8)


def tables(chosen):
    return KEYS[[number for number, _ in chosen]], np.array([value for _, value in chosen])


class Life(RuleBasedStateMachine):
    """The model is the list of pairs, in the order of their storing."""

    @initialize(name=st.sampled_from(sorted(RULES)), bias=st.sampled_from([0.0, 1.0]))
    def begin(self, name, bias):
        self.name, self.oracle, self.pairs = name, RULES[name][1], []
        self.memory = AssociativeMemory(6, 2, expansion=2, rule=RULES[name][0], bias=bias)

    def room(self):
        return len(self.pairs) < MOST - 8

    def sums(self):
        return self.name in SUMS and len(self.pairs) > 0

    def expected(self, keys):
        if not self.pairs:
            return np.zeros((len(keys), 2))
        stored, their_values = tables(self.pairs)
        fold = self.memory.features.fold
        return fold(keys) @ self.oracle(fold(stored), their_values)

    @precondition(room)
    @rule(chosen=some_pairs)
    def store(self, chosen):
        self.memory.store(*tables(chosen))
        self.pairs += chosen

    @precondition(room)
    @rule(number=key_numbers, value=values)
    def store_one(self, number, value):
        self.memory.store(KEYS[number], value)
        self.pairs.append((number, value))

    @precondition(sums)
    @rule(data=st.data())
    def forget(self, data):
        gone = data.draw(st.sets(st.integers(0, len(self.pairs) - 1), max_size=5))
        self.memory.forget(*(tables([self.pairs[i] for i in gone]) if gone else ([], [])))
        self.pairs = [pair for i, pair in enumerate(self.pairs) if i not in gone]

    @precondition(sums)
    @rule(data=st.data(), value=values)
    def replace(self, data, value):
        i = data.draw(st.integers(0, len(self.pairs) - 1))
        number, old = self.pairs[i]
        self.memory.replace(KEYS[number], old, value)
        self.pairs[i] = (number, value)

    @precondition(lambda self: self.sums() and self.name != "hebbian")
    @rule(stranger=st.integers(0, len(STRANGERS) - 1), value=values)
    def forget_what_was_never_stored(self, stranger, value):
        for change in (self.memory.forget, lambda *pair: self.memory.replace(*pair, value)):
            with pytest.raises(ValueError, match="never stored"):
                change(STRANGERS[stranger], value)

    @precondition(lambda self: self.name in SUMS and self.room())
    @rule(chosen=some_pairs)
    def merge(self, chosen):
        other = self.memory._empty_copy()
        other.store(*tables(chosen))
        self.memory = self.memory.merge(other)
        self.pairs += chosen

    @rule()
    def save_and_load(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "memory"
            self.memory.save(path)
            self.memory = AssociativeMemory.load(path)

    @rule()
    def copy(self):
        self.memory = self.memory.copy()

    @rule()
    def pickle(self):
        self.memory = pickle.loads(pickle.dumps(self.memory))

    @rule()
    def refresh(self):
        self.memory.refresh()

    @rule()
    def recall_one(self):
        scale = 1 + np.abs(self.expected(PROBE)).max()
        assert np.abs(self.memory.recall(PROBE[0]) - self.expected(PROBE[:1])[0]).max() < 1e-7 * scale

    @rule()
    def recall(self):
        expected = self.expected(np.vstack([PROBE, KEYS]))
        got = self.memory.recall(np.vstack([PROBE, KEYS]))
        assert np.abs(got - expected).max() < 1e-7 * (1 + np.abs(expected).max())

    @precondition(lambda self: self.sums() and self.name != "hebbian")
    @rule()
    def verify(self):
        copies = self.memory.verify_forgotten(KEYS).copies
        counts = np.bincount([number for number, _ in self.pairs], minlength=len(KEYS))
        assert np.allclose(copies, counts, atol=1e-2, rtol=1e-2)

    @invariant()
    def count(self):
        if hasattr(self, "memory"):
            assert self.memory.n_stored == len(self.pairs)

    def teardown(self):
        if hasattr(self, "memory"):
            self.recall()
            factor = {"hebbian-decay": 0.9, "ridge-forgetting": 0.95, "rls-forgetting": 0.95}.get(self.name, 1.0)
            if self.pairs and not self.name.startswith("delta"):
                assert np.isclose(self.memory.n_effective, naive.effective_number(len(self.pairs), factor))


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40)
