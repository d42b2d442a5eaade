"""Settling: against a loop that remembers every state. Patterns stored with noise: against the mean of noisy copies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assocmem import AssociativeMemory, Ridge
from assocmem import cell as _core
from assocmem.capacity.measuring import noisy_keys
from assocmem.operations.attractors import ACTIVATIONS, REASONS
from tests import naive
from tests.helpers import pairs, relative

SEEDS = st.integers(0, 2**32 - 1)


def patterns_of(n, d, seed=0):
    return np.random.default_rng(seed).choice([-1.0, 1.0], (n, d))


def flipped(patterns, share, seed=1):
    return np.where(np.random.default_rng(seed).random(patterns.shape) < share, -patterns, patterns)


def auto_memory(patterns, query_cosine=1.0, **options):
    memory = AssociativeMemory(patterns.shape[1], patterns.shape[1], **options)
    memory.store(patterns, patterns, query_cosine=query_cosine)
    return memory


# --------------------------------------------------------------------------------------------------------- settle


@given(
    SEEDS,
    st.sampled_from(ACTIVATIONS),
    st.sampled_from(["ridge", "hebbian", "delta", "rls"]),
    st.sampled_from([5, 8, 11]),
    st.sampled_from([0.0, 1.0]),
    st.integers(1, 40),
)
def test_settle_is_the_loop_that_remembers_every_state(seed, activation, rule, d, bias, max_steps):
    rng = np.random.default_rng(seed)
    memory = AssociativeMemory(d, d, expansion=1, rule=rule, bias=bias, seed=seed)
    memory.store(rng.standard_normal((6, d)), rng.standard_normal((6, d)))  # no attractors: all that can happen does
    keys = rng.standard_normal((4, d))
    got = memory.settle(keys, activation, max_steps=max_steps, tol=1e-6)
    for n, key in enumerate(keys):
        state, steps, reason = naive.settle(memory.recall, key, activation, max_steps, 1e-6)
        if reason == "cycle":  # which a loop with less memory sees later, or at another state of the cycle
            assert got.reasons[n] in ("cycle", "limit")
            assert steps <= got.steps[n] <= max_steps
        else:
            assert got.reasons[n] == reason
            assert got.steps[n] == steps
            assert np.allclose(got.states[n], state, atol=1e-9)


@given(SEEDS, st.sampled_from(ACTIVATIONS), st.sampled_from(["float32", "float64"]), st.integers(1, 40))
def test_a_batch_settles_like_its_keys_one_by_one(seed, activation, dtype, n):
    memory = auto_memory(patterns_of(20, 24, seed), query_cosine=0.8, dtype=dtype)
    keys = np.random.default_rng(seed).standard_normal((n, 24))
    batch = memory.settle(keys, activation, max_steps=20)
    assert batch.states.shape == (n, 24)
    assert batch.states.dtype == memory.dtype
    for i, key in enumerate(keys):
        one = memory.settle(key, activation, max_steps=20)
        assert np.array_equal(one.states, batch.states[i])
        assert (one.steps, one.reasons) == (batch.steps[i], batch.reasons[i])


@given(SEEDS, st.sampled_from(["sign", "clip", "normalize"]))
def test_stored_patterns_are_fixed_points_at_once(seed, activation):
    patterns = patterns_of(30, 16, seed)
    patterns = patterns[np.unique(np.abs(patterns @ patterns.T).argmax(axis=1))]  # distinct, also up to sign
    settled = auto_memory(patterns).settle(patterns, activation)
    assert set(settled.reasons) == {"fixed point"}
    assert not settled.steps.any()
    assert np.array_equal(settled.states, patterns)


@given(SEEDS, st.sampled_from(ACTIVATIONS))
def test_a_fixed_point_recalls_itself(seed, activation):
    patterns = patterns_of(24, 32, seed)
    memory = auto_memory(patterns, query_cosine=0.8)
    keys = np.vstack([flipped(patterns, 0.05, seed), np.random.default_rng(seed).standard_normal((20, 32))])
    settled = memory.settle(keys, activation, tol=1e-4)
    fixed = settled.states[settled.reasons == "fixed point"]
    lengths = np.linalg.norm(keys[settled.reasons == "fixed point"], axis=1)
    for state, recalled, length in zip(fixed, memory.recall(fixed), lengths, strict=True):
        after = naive.next_state(recalled, state, length, activation)
        assert np.linalg.norm(after - state) <= (0 if activation == "sign" else 1.01e-4) * np.linalg.norm(after)
    assert len(fixed) >= 8


@pytest.mark.parametrize("period", [2, 3, 5, 8])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_stored_sequence_is_a_cycle(period, activation):
    patterns = patterns_of(period, 32)
    memory = AssociativeMemory(32, 32)
    memory.store(patterns, np.roll(patterns, -1, axis=0))
    settled = memory.settle(patterns, activation)
    assert set(settled.reasons) == {"cycle"}
    assert settled.steps.max() <= 4 * period
    for n, (state, steps) in enumerate(zip(settled.states, settled.steps, strict=True)):
        assert np.allclose(state, patterns[(n + steps) % period], atol=1e-5)


@pytest.mark.parametrize("period", [2, 3, 5])
def test_keys_that_lead_into_a_cycle_end_in_it(period):
    patterns = patterns_of(period, 32)
    memory = AssociativeMemory(32, 32)
    memory.store(patterns, np.roll(patterns, -1, axis=0))
    keys = flipped(patterns, 0.15)
    settled = memory.settle(keys)
    assert not any((key == pattern).all() for key in keys for pattern in patterns)
    assert set(settled.reasons) == {"cycle"}
    assert settled.steps.max() < 20
    assert all((state == patterns).all(axis=1).any() for state in settled.states)


def test_a_limit_of_steps_is_kept():
    patterns = patterns_of(48, 64)
    memory, keys = auto_memory(patterns, query_cosine=0.8), flipped(patterns, 0.25)
    one = memory.settle(keys, max_steps=1)
    assert (one.reasons == "limit").any()
    assert one.steps.max() == 1
    assert np.array_equal(one.states, np.where(memory.recall(keys) < 0, -1.0, 1.0))
    assert (memory.settle(keys, max_steps=50).steps > 1).any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_keys_that_recall_nothing_are_lost_and_stay(activation):
    keys = pairs(3, 8, 8)[0]
    settled = AssociativeMemory(8, 8).settle(keys, activation)
    assert set(settled.reasons) == {"undefined"}
    assert not settled.steps.any()
    assert np.array_equal(settled.states, keys)


def test_keys_that_recall_infinity_are_lost():
    memory = AssociativeMemory(4, 4, dtype="float32")
    memory.store(np.full(4, 1e-13), np.full(4, 1e14))
    settled = memory.settle(np.full(4, 1e14))
    assert settled.reasons == "undefined"
    assert np.array_equal(settled.states, np.full(4, 1e14, np.float32))


def test_where_zero_is_recalled_the_sign_stays():
    keys = patterns_of(3, 16)
    memory = AssociativeMemory(16, 16)
    memory.store(keys, keys * (np.arange(16) > 1))  # the first two coordinates recall 0
    start = keys.copy()
    start[:, 0], start[:, 1] = -2.0, 0.0
    settled = memory.settle(start)
    assert (settled.states[:, 0] == -1).all()
    assert (settled.states[:, 1] == 1).all()


def test_a_normalized_state_keeps_the_length_of_its_key():
    keys = pairs(10, 32, 1)[0]
    memory = auto_memory(keys / np.linalg.norm(keys, axis=1, keepdims=True), query_cosine=0.8)
    queries = noisy_keys(keys, 0.9, np.random.default_rng(2))
    settled = memory.settle(queries, "normalize")
    assert np.allclose(np.linalg.norm(settled.states, axis=1), np.linalg.norm(queries, axis=1))
    assert (np.sum(settled.states * keys, axis=1) / np.sum(keys * keys, axis=1)).min() > 0.95


def test_no_keys_settle_to_no_states():
    settled = auto_memory(patterns_of(3, 8)).settle(np.empty((0, 8)))
    assert (settled.states.shape, settled.steps.shape, settled.reasons.shape) == ((0, 8), (0,), (0,))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"activation": "relu"}, ValueError, "activation must be one of 'sign', 'normalize', 'clip', got 'relu'"),
        ({"max_steps": 0}, ValueError, "max_steps must be an integer of at least 1, got 0"),
        ({"max_steps": 2.5}, TypeError, "max_steps must be .*got 2.5"),
        ({"activation": "clip", "tol": -1.0}, ValueError, r"tol must be a number in \[0, 1\], got -1.0"),
        ({"keys": np.ones((2, 5))}, ValueError, r"keys have shape \(2, 5\)"),
        ({"keys": np.zeros((2, 8))}, ValueError, "key 0 is all zeros"),
        ({"keys": np.full((2, 8), np.nan)}, ValueError, "keys row 0, column 0 is nan"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    memory = auto_memory(patterns_of(3, 8))
    with pytest.raises(error, match=message):
        memory.settle(**{"keys": np.ones((2, 8)), **options})


def test_values_that_cannot_be_keys_are_refused():
    with pytest.raises(ValueError, match=r"key_dim=8 and value_dim=3; build it with value_dim=8"):
        AssociativeMemory(8, 3).settle(np.ones(8))


def test_the_reasons_are_documented():
    assert all(f'"{reason}"' in AssociativeMemory.settle.__doc__ for reason in REASONS)


# ---------------------------------------------------------------------------------------------------------- noise


@given(SEEDS, st.sampled_from([0.01, 0.1, 0.3, 0.49]), st.sampled_from([0.0, 1.5]), st.sampled_from([4, 6]))
def test_noise_stores_means_and_variances_of_noisy_features(seed, noise, bias, d):
    keys, values = pairs(3, d, 2, seed % 1000)
    memory = AssociativeMemory(d, 2, expansion=1, bias=bias, seed=seed)
    memory.store(keys, values, query_cosine=1 - 2 * noise)
    signs = memory.features.projection.signs
    projection = naive.projection_matrix(signs, d + bool(bias))
    means, variances = naive.noisy_moments(projection, keys, signs.shape[2], bias, noise)
    gram = np.tril(means.T @ means + np.diag(variances.sum(axis=0)))
    assert relative(np.tril(memory._cell.current().sums.gram), gram) < 1e-6
    assert relative(memory._cell.current().sums.cross, means.T @ values) < 1e-6
    expected = np.linalg.solve(gram + np.tril(gram, -1).T, means.T @ values)
    assert relative(memory.recall(keys), memory.features.fold(keys) @ expected) < 1e-4


def test_noise_is_the_limit_of_many_noisy_copies():
    patterns, rng = patterns_of(60, 32), np.random.default_rng(3)
    copies = AssociativeMemory(32, 32, expansion=2)
    for _ in range(1500):
        copies.store(flipped(patterns, 0.15, rng), patterns)
    closed = auto_memory(patterns, query_cosine=0.7, expansion=2)
    queries = flipped(patterns, 0.15, 4)
    assert relative(closed.recall(queries), copies.recall(queries)) < 0.15
    wrong = [np.mean(memory.recall(queries) * patterns < 0) for memory in (closed, copies)]
    assert wrong[0] <= 1.1 * wrong[1]


@given(SEEDS, st.floats(1e-6, 0.49))
def test_noise_order_chunks_and_merging_change_nothing(seed, noise):
    keys, values = pairs(40, 8, 3, seed % 1000)
    whole, halves = AssociativeMemory(8, 3), [AssociativeMemory(8, 3), AssociativeMemory(8, 3)]
    whole.store(keys, values, query_cosine=1 - 2 * noise)
    halves[0].store(keys[:15], values[:15], query_cosine=1 - 2 * noise)
    for key, value in zip(keys[:14:-1], values[:14:-1], strict=True):
        halves[1].store(key, value, query_cosine=1 - 2 * noise)
    merged = halves[0].merge(halves[1])
    assert merged.n_stored == whole.n_stored == 40
    after = merged._cell.current().arrays()
    for name, array in whole._cell.current().arrays().items():
        if name not in ("times", "lost", "lost_cross"):  # these count the writes
            assert relative(after[name], array) < 1e-12


@given(SEEDS, st.floats(1e-3, 0.49), st.integers(0, 12))
def test_forgetting_with_noise_is_never_having_stored(seed, noise, n_kept):
    keys, values = pairs(12, 8, 3, seed % 1000)
    memory, never = AssociativeMemory(8, 3), AssociativeMemory(8, 3)
    memory.store(keys, values, query_cosine=1 - 2 * noise)
    memory.forget(keys[n_kept:], values[n_kept:], query_cosine=1 - 2 * noise)
    never.store(keys[:n_kept], values[:n_kept], query_cosine=1 - 2 * noise)
    assert memory.n_stored == n_kept
    assert relative(memory._cell.current().sums.gram, never._cell.current().sums.gram) < 1e-9
    assert np.allclose(memory.recall(keys), never.recall(keys), atol=1e-6)


def test_forgetting_with_other_noise_is_refused():
    keys, values = pairs(12, 8, 3)
    memory = AssociativeMemory(8, 3)
    memory.store(keys, values, query_cosine=0.9)
    before = memory.recall(keys)
    with pytest.raises(ValueError, match="never stored"):
        memory.forget(keys[:6], values[:6], query_cosine=0.4)
    with pytest.raises(ValueError, match=r"query_cosine must be .* got 0\.0"):
        memory.forget(keys[:6], values[:6], query_cosine=0.0)
    assert np.array_equal(memory.recall(keys), before)
    empty = AssociativeMemory(8, 3)  # where only the variances can tell
    empty.store(keys, 0 * values, query_cosine=0.9)
    with pytest.raises(ValueError, match="never stored"):
        empty.forget(keys[:6], 0 * values[:6], query_cosine=0.4)


def test_noise_in_several_chunks_reports_each(monkeypatch):
    monkeypatch.setattr(_core, "CHUNK_BYTES", 1)  # 256 keys at a time
    keys, values = pairs(600, 8, 3)
    done = []
    memory = AssociativeMemory(8, 3)
    memory.store(keys[:5], values[:5])  # what is pending is kept
    memory.store(keys, values, query_cosine=0.8, progress=done.append)
    assert done == [256, 256, 88]
    assert memory.n_stored == 605


def test_noise_is_in_the_saved_file(tmp_path):
    memory = auto_memory(patterns_of(20, 16), query_cosine=0.6)
    memory.save(tmp_path / "memory")
    keys = patterns_of(10, 16, 5)
    assert np.array_equal(AssociativeMemory.load(tmp_path / "memory").settle(keys).states, memory.settle(keys).states)


def test_a_zero_key_with_a_bias_takes_noise():
    memory = AssociativeMemory(4, 1, bias=1.0)
    memory.store([np.zeros(4), np.ones(4)], [[1.0], [2.0]], query_cosine=0.8)
    assert np.isfinite(memory.recall(np.ones(4))).all()


def test_noise_leaves_no_peak_at_capacity():
    errors = {0.0: [], 0.1: []}
    for load in (0.5, 1.0, 1.5):
        keys, values = patterns_of(round(load * 64), 32), patterns_of(round(load * 64), 16, 1)
        for noise, measured in errors.items():
            memory = AssociativeMemory(32, 16, expansion=1)
            memory.store(keys, values, query_cosine=1 - 2 * noise)
            measured.append(np.mean(memory.recall(flipped(keys, 0.1)) * values < 0))
    assert errors[0.0][1] > 1.2 * errors[0.0][2]  # without noise, N = D is where noisy queries are lost
    assert errors[0.1] == sorted(errors[0.1])
    assert errors[0.1][1] < 0.6 * errors[0.0][1]


@pytest.mark.parametrize(
    ("rule", "cosine", "error", "message"),
    [
        ("hebbian", 0.8, ValueError, r"query_cosine=0.8 needs a rule .*Ridge\(alpha\).*noisy_keys"),
        ("delta", 0.8, ValueError, "query_cosine=0.8 needs a rule"),
        ("rls", 0.8, ValueError, "query_cosine=0.8 needs a rule"),
        (Ridge(alpha="gcv"), 0.8, ValueError, "with a number for alpha"),
        (Ridge(query_cosine=0.9), 0.8, ValueError, "with a number for alpha"),
        ("ridge", 0.0, ValueError, r"query_cosine must be a number in \[0.02, 1\], got 0.0"),
        ("ridge", 1.1, ValueError, "query_cosine must be .*got 1.1"),
        ("ridge", "much", TypeError, "query_cosine must be .*got 'much'"),
    ],
)
def test_noise_that_cannot_be_stored_is_refused(rule, cosine, error, message):
    memory = AssociativeMemory(4, 4, rule=rule)
    with pytest.raises(error, match=message):
        memory.store(np.ones(4), np.ones(4), query_cosine=cosine)
    assert memory.n_stored == 0


def test_basins_are_wider_than_those_of_the_pseudo_inverse():
    patterns = patterns_of(64, 128)
    keys = flipped(patterns, 0.1)
    matrix = np.linalg.pinv(patterns) @ patterns
    states = keys
    for _ in range(50):
        states = np.where(states @ matrix < 0, -1.0, 1.0)
    theirs = np.mean(states != patterns)
    ours = np.mean(auto_memory(patterns, query_cosine=0.8).settle(keys).states != patterns)
    assert theirs > 0.02
    assert ours < theirs / 5


@pytest.mark.parametrize("top", [1, 255, 0.5])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, float])
def test_patterns_of_zeros_and_ones_are_refused(top, dtype):
    if np.dtype(dtype).kind in "bui" and top == 0.5:
        return
    patterns = patterns_of(8, 16)
    binary, number = (patterns > 0).astype(dtype) * np.dtype(dtype).type(top), "1" if dtype is bool else f"{top:g}"
    memory = AssociativeMemory(16, 16)
    with pytest.raises(ValueError, match=rf"every entry of the keys is 0 or {number}, .*2 \* x.* - 1"):
        memory.store(binary, binary, query_cosine=0.8)
    assert memory.n_stored == 0
    memory.store(patterns, patterns, query_cosine=0.8)
    for keys in (binary, binary[0]):
        with pytest.raises(ValueError, match=r'activation "sign" is for patterns of -1 and 1.*2 \* x'):
            memory.settle(keys)
        memory.settle(keys, "normalize")


def test_keys_that_only_look_like_zeros_and_ones_are_taken():
    rng = np.random.default_rng(0)
    patterns = patterns_of(8, 16)
    erased = np.where(rng.random(patterns.shape) < 0.5, patterns, 0.0)
    memory = auto_memory(patterns, query_cosine=0.8)
    for keys in (
        patterns,
        erased,
        np.ones((3, 16)),
        -(patterns > 0).astype(float),
        rng.random((3, 16)),
        np.empty((0, 16)),
    ):
        memory.settle(keys)
        memory.store(keys, keys, query_cosine=0.8) if keys.any(axis=1).all() else None
    binary = (patterns > 0).astype(float)
    memory.store(binary, binary)  # an ordinary key


def test_zeros_and_ones_in_many_chunks_are_found(monkeypatch):
    monkeypatch.setattr("assocmem.cell.Cell.chunk_rows", 2)
    memory, binary = AssociativeMemory(4, 1), np.array([[1.0, 1, 1, 1]] * 5 + [[0, 1, 0, 1]])
    with pytest.raises(ValueError, match=r"2 \* x - 1"):
        memory.store(binary, np.ones((6, 1)), query_cosine=0.8)
    binary[5, 0] = 0.5
    memory.store(binary, np.ones((6, 1)), query_cosine=0.8)
