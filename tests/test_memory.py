"""The front door: end to end against the oracles, and what must not depend on how pairs came in."""

import copy
import pickle
import re
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import sklearn.linear_model
from hypothesis import given
from hypothesis import strategies as st

import assocmem.cell
import assocmem.core.limits
from assocmem import AssociativeMemory, Ridge
from tests import naive
from tests.helpers import FIRST_KEYS, FIRST_VALUES, RULES, SUMS, pairs, relative

every_rule = pytest.mark.parametrize("name", RULES)


def literal_recall(memory, keys):
    """Recall with the public literal weights, as the documentation of `weights` says."""
    bias = memory.features.bias
    long_keys = np.hstack([keys, np.full((len(keys), 1), bias)]) if bias else keys
    z = naive.projection_matrix(memory.features.projection.signs, long_keys.shape[1]) @ long_keys.T
    norms = np.linalg.norm(long_keys, axis=1)[:, None]
    return naive.relu(z).T @ memory.weights[0] + naive.relu(-z).T @ memory.weights[1] + norms * memory.offset


@pytest.mark.parametrize("name", [name for name in RULES if name != "diagonal"])  # whose weights depend on the basis
@pytest.mark.parametrize("bias", [0.0, 1.5])
@pytest.mark.parametrize("key_dim", [5, 8])
def test_literal_memory_is_the_oracle_on_literal_features(name, bias, key_dim):
    """Folded = literal: a memory with whiten=False recalls what its rule makes of the 2m CReLU features."""
    rule, oracle = RULES[name]
    memory = AssociativeMemory(key_dim, 3, expansion=2, rule=rule, whiten=False, bias=bias)
    keys, values = pairs(12, key_dim, 3)
    memory.store(keys, values)
    others = pairs(6, key_dim, 3, seed=1)[0]
    expected = memory.features.expand(others) @ oracle(memory.features.expand(keys), values)
    assert relative(memory.recall(others), expected) < 1e-8
    assert relative(literal_recall(memory, others), expected) < 1e-8


@every_rule
@given(cuts=st.lists(st.integers(0, 700), max_size=5), seed=st.integers(0, 20))
def test_how_pairs_are_grouped_does_not_matter(name, cuts, seed):
    keys, values = pairs(700, 8, 2, seed)
    joint = AssociativeMemory(8, 2, expansion=1, rule=RULES[name][0], seed=seed)
    joint.store(keys, values)
    grouped = AssociativeMemory(8, 2, expansion=1, rule=RULES[name][0], seed=seed)
    for block in np.split(np.arange(700), sorted(cuts)):
        grouped.store(keys[block], values[block])
    assert grouped.n_stored == 700
    assert relative(grouped.recall(keys[:20]), joint.recall(keys[:20])) < 1e-7


@every_rule
def test_single_pairs_and_recalls_in_between(name):
    memory = AssociativeMemory(8, 2, expansion=2, rule=RULES[name][0])
    keys, values = pairs(40, 8, 2)
    for i, (key, value) in enumerate(zip(keys, values, strict=True), 1):
        memory.store(key, value)
        assert memory.n_stored == i
        memory.recall(key)
    joint = AssociativeMemory(8, 2, expansion=2, rule=RULES[name][0])
    joint.store(keys, values)
    assert relative(memory.recall(keys), joint.recall(keys)) < 1e-7


@every_rule
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [0.0, 2.0])
def test_one_key_is_recalled_like_many(name, dtype, bias):
    memory = AssociativeMemory(20, 7, expansion=3, rule=RULES[name][0], dtype=dtype, bias=bias)
    keys, values = pairs(60, 20, 7)
    memory.store(keys, values)
    together = memory.recall(keys)
    alone = np.array([memory.recall(key) for key in keys])
    assert together.dtype == alone.dtype == dtype
    assert relative(alone, together) < 2e3 * np.finfo(dtype).eps
    assert memory.recall(keys[:1]).shape == (1, 7)
    assert memory.recall(np.empty((0, 20))).shape == (0, 7)
    assert memory.recall([]).shape == (0, 7)


@every_rule
def test_an_empty_memory_recalls_zero_and_an_empty_batch_stores_nothing(name):
    memory = AssociativeMemory(3, 2, rule=RULES[name][0])
    memory.store(np.empty((0, 3)), np.empty((0, 2)))
    memory.store([], [])
    assert memory.n_stored == 0
    assert not memory.recall([1.0, 2.0, 3.0]).any()


@every_rule
@given(scale=st.floats(1e-3, 1e3))
def test_recall_is_positively_homogeneous(name, scale):
    memory = AssociativeMemory(6, 2, rule=RULES[name][0])
    memory.store(*pairs(10, 6, 2))
    keys = pairs(5, 6, 1, seed=1)[0]
    assert relative(memory.recall(scale * keys), scale * memory.recall(keys)) < 1e-11


@pytest.mark.parametrize("name", SUMS)
def test_forget_merge_and_copy(name):
    keys, values = pairs(60, 10, 3)
    everything, left, right = (AssociativeMemory(10, 3, expansion=3, rule=RULES[name][0]) for _ in range(3))
    everything.store(keys, values)
    left.store(keys[:25], values[:25])
    right.store(keys[25:], values[25:])
    before = left.recall(keys)
    merged = left.merge(right)
    assert merged.n_stored == 60
    assert relative(merged.recall(keys), everything.recall(keys)) < 1e-7
    assert np.array_equal(left.recall(keys), before)
    twin = everything.copy()
    everything.forget(keys[25:], values[25:])
    assert everything.n_stored == 25
    assert relative(everything.recall(keys), before) < 1e-6
    assert relative(twin.recall(keys), merged.recall(keys)) < 1e-7
    twin.store(keys[0], values[0])
    assert everything.n_stored == 25
    everything.forget(keys[:25], values[:25])
    assert everything.n_stored == 0
    assert not everything.recall(keys).any()


@pytest.mark.parametrize("name", ["ridge", "rls"])
def test_a_false_forget_changes_nothing(name):
    keys, values = pairs(30, 10, 3)
    memory = AssociativeMemory(10, 3, expansion=4, rule=name)
    memory.store(keys[:20], values[:20])
    before = memory.recall(keys)
    for wrong_keys, wrong_values in ((keys[25], values[25]), (keys[3], values[4]), (keys[10:25], values[10:25])):
        with pytest.raises(ValueError, match="never stored"):
            memory.forget(wrong_keys, wrong_values)
        assert memory.n_stored == 20
        assert np.array_equal(memory.recall(keys), before)


def test_exact_up_to_the_rank_and_not_beyond():
    memory = AssociativeMemory(32, 2, expansion=2, seed=1)
    assert memory.rank == 96
    keys, values = pairs(120, 32, 2)
    for n, exact in ((91, True), (96, True), (120, False)):
        part = AssociativeMemory(32, 2, expansion=2, seed=1)
        part.store(keys[:n], values[:n])
        error = relative(part.recall(keys[:n]), values[:n])
        assert (error < 1e-3) == exact
        if n == 91:  # load 0.95
            assert error < 1e-9
            others = pairs(50, 32, 1, seed=2)[0]
            features = part.features.fold(keys[:n])
            expected = part.features.fold(others) @ naive.ridge(features, values[:n], 0.0)
            assert relative(part.recall(others), expected) < 1e-6


def test_a_bias_separates_a_key_from_its_opposite_and_its_double():
    keys = pairs(20, 8, 1)[0]
    triple, unrelated = np.vstack([keys, -keys, 2 * keys]), pairs(60, 8, 1, seed=3)[1]
    plain, cured = AssociativeMemory(8, 1, expansion=16), AssociativeMemory(8, 1, expansion=16, bias=1.0)
    plain.store(triple, unrelated)
    cured.store(triple, unrelated)
    assert relative(plain.recall(triple), unrelated) > 0.1
    assert relative(cured.recall(triple), unrelated) < 1e-6


@pytest.mark.parametrize("load", [0.2, 0.8, 1.3])
@pytest.mark.parametrize("rule", ["hebbian", "ridge"])
def test_sign_error_follows_the_law(rule, load):
    """Measured at d = 128, k = 3, 4 trials, within a 99.9 % interval of the predicted sign error."""
    penalty = 0.1 * load
    errors = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        memory = AssociativeMemory(128, 32, expansion=3, seed=seed, rule="hebbian")
        n = round(load * memory.rank)
        if rule == "ridge":
            memory = AssociativeMemory(128, 32, expansion=3, seed=seed, rule=Ridge(penalty * memory.rank))
        keys = rng.standard_normal((n, 128))
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
        values = rng.choice([-1.0, 1.0], (n, 32))
        memory.store(keys, values)
        errors.append(np.mean(np.sign(memory.recall(keys)) != values))
    law = naive.hebbian_sign_error(load) if rule == "hebbian" else naive.ridge_sign_error(load, penalty)
    # Keys are shared by the 32 values of a trial: the spread between trials, and a floor of binomial noise.
    spread = max(np.std(errors, ddof=1) / 2, np.sqrt(law / (4 * n * 32)), 1e-4)
    assert abs(np.mean(errors) - law) < 5 * spread + 0.02 * law


def test_chunks_of_a_large_batch_recall_like_one(monkeypatch):
    keys, values = pairs(2000, 8, 2)
    whole = AssociativeMemory(8, 2, expansion=2)
    whole.store(keys, values)
    expected = whole.recall(keys)
    monkeypatch.setattr(assocmem.cell, "CHUNK_BYTES", 300 * 24 * 8)
    chunked = AssociativeMemory(8, 2, expansion=2)
    chunked.store(keys, values)
    assert relative(chunked.recall(keys), expected) < 1e-9


def test_memory_mapped_arrays_are_stored_and_recalled(tmp_path):
    keys, values = pairs(3000, 8, 2)
    np.save(tmp_path / "keys.npy", keys.astype(np.float32))
    np.save(tmp_path / "values.npy", values)
    mapped_keys = np.load(tmp_path / "keys.npy", mmap_mode="r")
    mapped_values = np.load(tmp_path / "values.npy", mmap_mode="r")
    memory, plain = AssociativeMemory(8, 2), AssociativeMemory(8, 2)
    memory.store(mapped_keys, mapped_values)
    plain.store(keys.astype(np.float32), values)
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.float64, (3000, 2))
    assert memory.recall(mapped_keys, out=out) is out
    assert np.array_equal(out, plain.recall(keys.astype(np.float32)))


def test_integers_lists_and_other_layouts_are_converted():
    memory, plain = (AssociativeMemory(3, 2, rule="hebbian") for _ in range(2))
    keys = np.array([[1, 2, 3], [4, 5, 6], [-7, 8, 9]])
    values = [[1, 0], [0, 1], [1, 1]]
    memory.store(keys.tolist(), values)
    plain.store(np.asfortranarray(keys.astype(float)), np.array(values, dtype=np.int8)[:, :])
    assert np.array_equal(memory.recall(keys), plain.recall(keys[::-1].astype(np.float16))[::-1])


def test_what_is_given_is_not_changed_and_not_kept():
    memory = AssociativeMemory(4, 2)
    keys, values = pairs(5, 4, 2)
    given_keys, given_values = keys.copy(), values.copy()
    memory.store(given_keys, given_values)
    assert np.array_equal(given_keys, keys)
    assert np.array_equal(given_values, values)
    given_keys[...] = np.nan
    assert np.isfinite(memory.recall(keys)).all()


@every_rule
def test_equal_seeds_give_equal_bits(name):
    recalls = []
    for seed in (7, 7, 8):
        memory = AssociativeMemory(16, 3, rule=RULES[name][0], seed=seed)
        memory.store(*pairs(30, 16, 3))
        recalls.append(memory.recall(pairs(10, 16, 3, seed=1)[0]))
    assert np.array_equal(recalls[0], recalls[1])
    assert not np.allclose(recalls[0], recalls[2])


def test_sizes():
    memory = AssociativeMemory(20, 3, expansion=2, bias=1.0, dtype="float32")
    assert (memory.key_dim, memory.value_dim, memory.expansion) == (20, 3, 2)
    assert (memory.n_units, memory.rank) == (64, 85)
    assert memory.nbytes == 8 * (85 * 85 + 85 * 3 + 3 * 3 + 21 + 5)
    assert memory.dtype == np.float32
    assert memory.weights.shape == (2, 64, 3)
    assert memory.offset.shape == (3,)
    assert "n_stored=0, rank=85" in repr(memory)


def test_alpha_is_readable():
    assert AssociativeMemory(4, 1, rule=Ridge(alpha=2.0)).alpha == 2.0
    assert AssociativeMemory(4, 1, rule="hebbian").alpha is None
    memory = AssociativeMemory(4, 1, rule="rls")
    assert memory.alpha is None
    memory.store([1.0, 2.0, 3.0, 4.0], [1.0])
    assert memory.alpha > 0


@pytest.mark.parametrize("scale", [1e-140, 1e-3, 1e140])
@every_rule
def test_keys_of_any_scale(name, scale):
    keys, values = pairs(10, 8, 2)
    reference = AssociativeMemory(8, 2, rule=RULES[name][0])
    reference.store(keys, values)
    scaled = AssociativeMemory(8, 2, rule=RULES[name][0])
    scaled.store(scale * keys, values)
    if name in ("ridge-alpha", "ridge-decay", "rls", "rls-decay", "diagonal"):
        # A fixed penalty is not free of scale: next to it, short keys hold nothing and long ones everything.
        assert np.isfinite(scaled.recall(scale * keys)).all()
    else:
        assert relative(scaled.recall(scale * keys), reference.recall(keys)) < 1e-9


def test_recalls_from_many_threads_agree():
    memory = AssociativeMemory(32, 4)
    keys, values = pairs(200, 32, 4)
    memory.store(keys, values)
    expected_one, expected_all = memory.recall(keys[0]), memory.recall(keys)
    wrong = []

    def work():
        for _ in range(20):
            if not np.array_equal(memory.recall(keys[0]), expected_one):
                wrong.append("one")
            if not np.array_equal(memory.recall(keys), expected_all):
                wrong.append("all")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("alpha", [0.01, 3.0])
def test_alpha_is_that_of_scikit_learn(alpha):
    keys, values = pairs(50, 10, 3)
    memory = AssociativeMemory(10, 3, rule=Ridge(alpha=alpha), whiten=False)
    memory.store(keys, values)
    peer = sklearn.linear_model.Ridge(alpha, fit_intercept=False).fit(memory.features.expand(keys), values)
    others = pairs(20, 10, 1, seed=1)[0]
    assert relative(memory.recall(others), peer.predict(memory.features.expand(others))) < 1e-9


@every_rule
def test_what_stops_a_store_half_way_leaves_no_trace(name, monkeypatch):
    monkeypatch.setattr(assocmem.cell, "CHUNK_BYTES", 1)
    memory = AssociativeMemory(8, 2, rule=RULES[name][0])
    keys, values = pairs(1000, 8, 2)
    memory.store(keys[:20], values[:20])
    before = memory.recall(keys)

    def stop(n_done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memory.store(keys, values, progress=stop)
    assert memory.n_stored == 20
    assert np.array_equal(memory.recall(keys), before)


def test_a_recall_from_within_progress_is_not_kept(monkeypatch):
    monkeypatch.setattr(assocmem.cell, "CHUNK_BYTES", 1)
    watched, plain = AssociativeMemory(8, 2), AssociativeMemory(8, 2)
    keys, values = pairs(600, 8, 2)
    watched.store(keys, values, progress=lambda n_done: watched.recall(keys[0]))
    plain.store(keys, values)
    assert np.array_equal(watched.recall(keys), plain.recall(keys))


@every_rule
def test_threads_that_recall_what_is_pending_store_it_once(name):
    keys, values = pairs(200, 8, 2)
    for _ in range(5):
        memory = AssociativeMemory(8, 2, expansion=1, rule=RULES[name][0])
        memory.store(keys, values)
        threads = [threading.Thread(target=memory.recall, args=(keys[0],)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert memory.n_stored == 200
        once = AssociativeMemory(8, 2, expansion=1, rule=RULES[name][0])
        once.store(keys, values)
        assert relative(memory.recall(keys), once.recall(keys)) < 1e-9


def test_pickle():
    memory = AssociativeMemory(8, 2)
    keys, values = pairs(20, 8, 2)
    memory.store(keys, values)
    before = memory.recall(keys)
    twin = pickle.loads(pickle.dumps(memory))
    assert np.array_equal(twin.recall(keys), before)
    assert np.array_equal(twin.weights, memory.weights)
    assert repr(twin) == repr(memory)
    twin.store(keys[0], -values[0])
    assert (twin.n_stored, memory.n_stored) == (21, 20)
    assert np.array_equal(memory.recall(keys), before)
    assert not np.allclose(twin.recall(keys), before)


@pytest.mark.parametrize(("key_scale", "value_scale"), [(1e100, 1e-100), (1e-100, 1e100)])
def test_ridge_is_exact_whatever_the_units(key_scale, value_scale):
    keys, values = pairs(20, 8, 2)
    memory = AssociativeMemory(8, 2)
    memory.store(key_scale * keys, value_scale * values)
    assert relative(memory.recall(key_scale * keys), value_scale * values) < 1e-9


def compiled():
    """How many versions of its kernels the package has compiled."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("assocmem")]
    dispatchers = {id(value): value for module in modules for value in vars(module).values()}
    return sum(len(getattr(value, "signatures", None) or ()) for value in dispatchers.values())


def test_unpickled_and_loaded_memories_compile_nothing_again(tmp_path):
    memory = AssociativeMemory(8, 8)
    keys, values = pairs(20, 8, 8)
    memory.save(tmp_path / "memory")

    def use(one):
        one.store(keys, values)
        one.recall(keys)
        one.recall(keys[0])
        one.settle(keys)
        one.freeze("float64").recall(keys[0])

    use(memory)
    before = compiled()
    for twin in (pickle.loads(pickle.dumps(memory)), AssociativeMemory.load(tmp_path / "memory"), memory.copy()):
        use(twin)
    assert compiled() == before > 0


def test_values_may_be_written_beside_the_keys_in_one_buffer():
    memory = AssociativeMemory(8, 2)
    keys, values = pairs(20, 8, 2)
    memory.store(keys, values)
    table = np.hstack([keys, np.zeros((20, 2))])
    assert memory.recall(table[:, :8], out=table[:, 8:]) is not None
    assert relative(table[:, 8:], values) < 1e-9
    with pytest.raises(ValueError, match="out overlaps the keys"):
        memory.recall(table[:, :8], out=table[:, 7:9])


@pytest.mark.parametrize(("arguments", "options"), [
    ((10**9, 10**9), {}), ((10**9, 10**9), {"rule": "hebbian"}), ((4096, 10), {"expansion": 64}),
    ((4096, 10), {"expansion": 64, "rule": "rls"}), ((2**62, 1), {}), ((8, 10**12), {"rule": "delta"}),
])  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_allocated(arguments, options, monkeypatch):
    """The message says how many bytes are needed, how many there are, and what would fit."""
    monkeypatch.setattr(assocmem.core.limits, "available_bytes", lambda *root: 60 * 2**30)
    tracemalloc.start()
    with pytest.raises(MemoryError, match=r"needs .*\([\d,]+ bytes\).*\([\d,]+ bytes\) are available.*fit") as refused:
        AssociativeMemory(*arguments, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24
    message = str(refused.value)
    if arguments[0] == 4096:
        assert "expansion=" in message
        expansion = int(re.search(r"expansion=(\d+) fits", message)[1])
        memory = AssociativeMemory(*arguments, expansion=expansion)  # calloc: no page of it is touched
        assert memory.expansion == expansion < 64


def test_the_second_matrix_that_solving_needs_counts(monkeypatch):
    memory = AssociativeMemory(1024, 1, expansion=2)
    memory.store(np.ones(1024), [1.0])
    monkeypatch.setattr(assocmem.core.limits, "available_bytes", lambda *root: 2**20)
    with pytest.raises(MemoryError, match=r"solving for the weights .* needs"):
        memory.recall(np.ones(1024))


def test_a_shallow_copy_has_pairs_of_its_own():
    memory = AssociativeMemory(8, 2)
    twin = copy.copy(memory)
    memory.store(FIRST_KEYS[0], FIRST_VALUES[0])
    twin.store(FIRST_KEYS[1], FIRST_VALUES[1])
    assert memory.n_stored == twin.n_stored == 1
    assert relative(memory.recall(FIRST_KEYS[0]), FIRST_VALUES[0]) < 1e-9
    assert relative(twin.recall(FIRST_KEYS[1]), FIRST_VALUES[1]) < 1e-9
