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

GRAM = ["ridge", "ridge-alpha", "rls"]  # the rules that keep the sums over all pairs, at equal weights
ALPHA = {"ridge": 0.0, "ridge-alpha": 2.0, "rls": 2.0}
DECAY = {"hebbian-decay": 0.9, "ridge-decay": 0.95, "rls-decay": 0.95}

key_numbers = st.integers(0, len(KEYS) - 1)
values = st.tuples(*[st.integers(-4, 4)] * 2).map(lambda entries: np.array(entries, float))
some_pairs = st.lists(st.tuples(key_numbers, values), min_size=1, max_size=8)


def tables(chosen):
    return KEYS[[number for number, _ in chosen]], np.array([value for _, value in chosen])


class Life(RuleBasedStateMachine):
    """The model is the list of pairs in the order of their storing, those stored with noise, and the fixed recalls."""

    @initialize(
        name=st.sampled_from(sorted(RULES)), bias=st.sampled_from([0.0, 1.0]), dtype=st.sampled_from([8, 8, 8, 4])
    )
    def begin(self, name, bias, dtype):
        self.name, self.oracle, self.pairs, self.noisy, self.fixed = name, RULES[name][1], [], [], {}
        self.bias, self.dtype = bias, f"float{8 * dtype}"
        self.tolerance = 1e-7 if dtype == 8 else 1e-3
        self.memory = self.empty()

    def empty(self):
        return AssociativeMemory(6, 2, expansion=2, rule=RULES[self.name][0], bias=self.bias, dtype=self.dtype)

    # ------------------------------------------------------------------------------------------------ the model

    def room(self):
        return len(self.pairs) + len(self.noisy) < MOST - 8

    def sums(self):
        return self.name in SUMS and len(self.pairs) > 0

    def gram(self):
        return self.name in GRAM and len(self.pairs) > 0

    def plain(self):
        return self.gram() and not self.noisy and not self.fixed

    def fold(self, keys):
        exact = AssociativeMemory(6, 2, expansion=2, bias=self.bias)
        return exact.features.fold(keys)

    def weights(self, chosen):
        """Weights that the model implies: the oracle's, or with noise or fixed recalls the solution of the system."""
        if self.noisy or self.fixed:
            return self.constrained(chosen)
        if not chosen:
            return np.zeros((self.memory.rank, 2))
        stored, their_values = tables(chosen)
        return self.oracle(self.fold(stored), their_values)

    def constrained(self, chosen):
        rank = self.memory.rank
        gram, cross = ALPHA[self.name] * np.eye(rank), np.zeros((rank, 2))
        if chosen:
            features = self.fold(tables(chosen)[0])
            gram, cross = gram + features.T @ features, features.T @ tables(chosen)[1]
        if self.noisy:
            keys, their_values = tables(self.noisy)
            projection = self.memory.features.projection
            matrix = naive.projection_matrix(projection.signs, projection.key_dim)
            means, variances = naive.noisy_moments(matrix, keys, projection.signs.shape[2], self.bias, 0.1)
            gram, cross = gram + means.T @ means + np.diag(variances.sum(axis=0)), cross + means.T @ their_values
        if not self.fixed:
            return np.linalg.lstsq(gram, cross, rcond=1e-11)[0]
        rows = self.fold(KEYS[list(self.fixed)])
        wanted = np.array(list(self.fixed.values()))
        basis, _ = np.linalg.qr(rows.T, mode="complete")
        free = basis[:, len(rows) :]
        offset = np.linalg.lstsq(rows, wanted, rcond=None)[0]
        inner = np.linalg.lstsq(free.T @ gram @ free, free.T @ (cross - gram @ offset), rcond=1e-11)[0]
        return offset + free @ inner

    def expected(self, keys):
        return self.fold(keys) @ self.weights(self.pairs)

    def close(self, got, expected, factor=1.0):
        scale = 1 + np.abs(expected).max(initial=0.0)
        assert np.abs(got - expected).max(initial=0.0) < factor * self.tolerance * scale

    def fixes(self, numbers):
        """Whether the recall of one of these keys is fixed, so that its pairs are not deleted."""
        return not numbers.isdisjoint(self.fixed)

    # ----------------------------------------------------------------------------------------------- operations

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

    @precondition(lambda self: self.room() and self.name == "ridge-alpha" and self.dtype == "float64")
    @rule(chosen=some_pairs)
    def store_with_noise(self, chosen):
        self.memory.store(*tables(chosen), query_cosine=0.8)
        self.noisy += chosen

    @precondition(lambda self: len(self.noisy) > 0)
    @rule(data=st.data())
    def forget_with_noise(self, data):
        i = data.draw(st.integers(0, len(self.noisy) - 1))
        number, value = self.noisy[i]
        if self.fixes({number}):
            with pytest.raises(ValueError, match="release"):
                self.memory.forget(KEYS[number], value, query_cosine=0.8)
            return
        self.memory.forget(KEYS[number], value, query_cosine=0.8)
        del self.noisy[i]

    @precondition(room)
    @rule(chosen=some_pairs, every=st.integers(1, 9), checkpoint=st.booleans())
    def store_from(self, chosen, every, checkpoint):
        keys, their_values = tables(chosen)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run" if checkpoint else None
            batches = ((keys[i : i + 3], their_values[i : i + 3]) for i in range(0, len(keys), 3))
            self.memory.store_from(batches, every=every, checkpoint=path)
        self.pairs += chosen

    @precondition(sums)
    @rule(data=st.data())
    def forget(self, data):
        gone = data.draw(st.sets(st.integers(0, len(self.pairs) - 1), max_size=5))
        chosen = [self.pairs[i] for i in gone]
        if self.fixes({number for number, _ in chosen}):
            with pytest.raises(ValueError, match="release"):
                self.memory.forget(*tables(chosen))
            return
        self.memory.forget(*(tables(chosen) if gone else ([], [])))
        self.pairs = [pair for i, pair in enumerate(self.pairs) if i not in gone]

    @precondition(lambda self: self.sums() and self.dtype == "float64" and not self.fixed)
    @rule(data=st.data(), error=st.sampled_from([1e-12, 1e-10, 1e-9]), replaced=st.booleans())
    def forget_what_is_nearly_right(self, data, error, replaced):
        """A value that is off in its last digits leaves no more than that behind, or is refused and nothing changes."""
        i = data.draw(st.integers(0, len(self.pairs) - 1))
        number, value = self.pairs[i]
        before = self.memory.recall(PROBE)
        try:
            if replaced:
                self.memory.replace(KEYS[number], value * (1 + error), -value)
            else:
                self.memory.forget(KEYS[number], value * (1 + error))
        except ValueError:
            assert np.array_equal(self.memory.recall(PROBE), before)
        else:
            self.pairs[i : i + 1] = [(number, -value)] if replaced else []

    @precondition(sums)
    @rule(data=st.data(), value=values)
    def replace(self, data, value):
        i = data.draw(st.integers(0, len(self.pairs) - 1))
        number, old = self.pairs[i]
        if self.fixes({number}):
            with pytest.raises(ValueError, match="release"):
                self.memory.replace(KEYS[number], old, value)
            return
        self.memory.replace(KEYS[number], old, value)
        self.pairs[i] = (number, value)

    @precondition(lambda self: self.gram() and self.dtype == "float64" and not self.noisy)
    @rule(stranger=st.integers(0, len(STRANGERS) - 1), value=values)
    def forget_what_was_never_stored(self, stranger, value):
        for change in (self.memory.forget, lambda *pair: self.memory.replace(*pair, value)):
            with pytest.raises(ValueError, match="never stored"):
                change(STRANGERS[stranger], value)

    @precondition(lambda self: self.gram() and self.dtype == "float64" and len(self.fixed) < 4)
    @rule(number=key_numbers, value=values, kept=st.none() | key_numbers)
    def edit(self, number, value, kept):
        """New values for one key, while another, which is not the same one, keeps its recall."""
        if kept == number:
            kept = None
        recalled = None if kept is None else self.expected(KEYS[kept : kept + 1])[0]
        self.memory.edit(KEYS[number], value, None if kept is None else KEYS[kept])
        self.fixed[number] = value
        if kept is not None:
            self.fixed[kept] = recalled

    @precondition(lambda self: len(self.fixed) > 0)
    @rule(data=st.data())
    def release(self, data):
        numbers = data.draw(st.sets(st.sampled_from(sorted(self.fixed)), min_size=1))
        assert self.memory.release(KEYS[sorted(numbers)]) == len(numbers)
        self.fixed = {number: value for number, value in self.fixed.items() if number not in numbers}

    @precondition(lambda self: self.name in SUMS and self.room())
    @rule(chosen=some_pairs)
    def merge(self, chosen):
        other = self.empty()
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
    def recompute(self):
        self.memory.recompute()

    # ----------------------------------------------------------------------------------------------- questions

    @rule()
    def recall_one(self):
        self.close(self.memory.recall(PROBE[0]), self.expected(PROBE[:1])[0])

    @rule()
    def recall(self):
        everywhere = np.vstack([PROBE, KEYS])
        self.close(self.memory.recall(everywhere), self.expected(everywhere))

    @rule()
    def freeze(self):
        frozen = self.memory.freeze(self.dtype)
        everywhere = np.vstack([PROBE, KEYS])
        self.close(frozen.recall(everywhere), self.memory.recall(everywhere), 10)

    @precondition(lambda self: self.plain() and self.name != "ridge")
    @rule()
    def leverage(self):
        """With a penalty: the limit α → 0 is infinite where nothing is stored."""
        features, stored = self.fold(np.vstack([PROBE, KEYS])), self.fold(tables(self.pairs)[0])
        inverse = np.linalg.inv(stored.T @ stored + ALPHA[self.name] * np.eye(self.memory.rank))
        self.close(
            self.memory.leverage(np.vstack([PROBE, KEYS])), np.einsum("ij,jk,ik->i", features, inverse, features)
        )

    @precondition(plain)
    @rule(data=st.data())
    def leave_one_out(self, data):
        i = data.draw(st.integers(0, len(self.pairs) - 1))
        number, value = self.pairs[i]
        without = self.weights(self.pairs[:i] + self.pairs[i + 1 :])
        residual = value - (self.fold(KEYS[number : number + 1]) @ without)[0]
        self.close(self.memory.leave_one_out(KEYS[number], value), residual, 100)

    @precondition(lambda self: self.gram() and self.dtype == "float64" and not self.noisy)
    @rule()
    def verify(self):
        copies = self.memory.verify_forgotten(KEYS).max_copies
        counts = np.bincount([number for number, _ in self.pairs], minlength=len(KEYS))
        assert np.allclose(copies, counts, atol=1e-2, rtol=1e-2)

    @rule()
    def error_bound(self):
        """The bound covers what separates the weights from those of the model."""
        bound = self.memory.error_bound
        assert (bound is None) == self.name.startswith(("delta", "diagonal"))
        if bound is not None and self.name in GRAM:
            folded = self.weights(self.pairs)
            distance = np.linalg.norm(self.memory._cell.view().weights - folded)
            assert distance <= (bound + 1e-8) * (np.linalg.norm(folded) + 1e-8)

    @precondition(lambda self: len(self.pairs) > 0)
    @rule()
    def diagnose(self):
        report = self.memory.diagnose(query_cosine=0.9, error=0.3)
        assert report.n_stored == len(self.pairs) + len(self.noisy)
        assert np.isclose(report.load, report.n_stored / report.rank)
        assert report.pairs_left is None or report.pairs_left >= 0
        assert np.isnan(report.noisy_error) or 0 <= report.clean_error <= report.noisy_error + 1e-9 <= 0.5 + 1e-9

    @invariant()
    def count(self):
        if hasattr(self, "memory"):
            assert self.memory.n_stored == len(self.pairs) + len(self.noisy)

    def teardown(self):
        if hasattr(self, "memory"):
            self.recall()
            if self.pairs and not self.noisy and not self.name.startswith("delta"):
                expected = naive.effective_number(len(self.pairs), DECAY.get(self.name, 1.0))
                assert np.isclose(self.memory.n_effective, expected)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40)


class Settling(RuleBasedStateMachine):
    """Patterns that are their own values, in both types: whatever came and went, those that are there attract."""

    PATTERNS = np.random.default_rng(3).choice([-1.0, 1.0], (6, 16))

    @initialize(dtype=st.sampled_from(["float32", "float64"]))
    def begin(self, dtype):
        self.memory, self.stored = AssociativeMemory(16, 16, dtype=dtype), set()

    @rule(number=st.integers(0, 5))
    def toggle(self, number):
        pattern = self.PATTERNS[number]
        (self.memory.forget if number in self.stored else self.memory.store)(pattern, pattern, query_cosine=0.8)
        self.stored ^= {number}

    @precondition(lambda self: len(self.stored) > 0)
    @rule(copy=st.booleans())
    def settle(self, copy):
        if copy:
            self.memory = pickle.loads(pickle.dumps(self.memory))
        patterns = self.PATTERNS[sorted(self.stored)]
        settled = self.memory.settle(patterns)
        assert set(settled.reasons) == {"fixed point"}
        assert (settled.states == patterns).all()


TestSettling = Settling.TestCase
TestSettling.settings = settings(max_examples=15, stateful_step_count=20)
