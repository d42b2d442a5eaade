"""Frozen memories: literal gated weights recall what the memory recalls, in every precision and by both methods."""

import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import assocmem.frozen
from assocmem import AssociativeMemory, FrozenMemory, Ridge
from assocmem.core.threads import n_threads
from tests import naive
from tests.helpers import RULES, pairs, relative

PRECISIONS = {"float64": 1e-9, "float32": 1e-4, "int8": 0.03}
every_precision = pytest.mark.parametrize("precision", PRECISIONS)


def stored(key_dim=12, value_dim=5, n=20, **options):
    memory = AssociativeMemory(key_dim, value_dim, **{"expansion": 3, **options})
    memory.store(*pairs(n, key_dim, value_dim))
    return memory


def naive_gated_recall(frozen, keys):
    """Sum over the units one by one, with the weights as they are in the frozen memory."""
    bias = frozen.features.bias
    long_keys = np.hstack([keys, np.full((len(keys), 1), bias)]) if bias else keys
    matrix = naive.projection_matrix(frozen.features.projection.signs, long_keys.shape[1])
    weights = frozen.weights.astype(float)
    if frozen.precision == "int8":
        weights = weights * np.repeat(frozen.scale, len(weights) // len(frozen.scale), axis=0)[:, None, :]
    values = []
    for key in long_keys:
        value = np.linalg.norm(key) * frozen.offset.astype(float)
        for unit, z in zip(weights, matrix @ key, strict=True):
            value = value + abs(z) * unit[0 if z >= 0 else 1]
        values.append(value)
    return np.array(values)


@every_precision
@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("bias", [0.0, 1.5])
@pytest.mark.parametrize("key_dim", [1, 2, 5, 96])
def test_both_methods_recall_the_gated_sum(precision, whiten, bias, key_dim, monkeypatch):
    monkeypatch.setitem(assocmem.frozen.CROSSOVER, precision, 8)
    frozen = stored(key_dim, n=2, whiten=whiten, bias=bias).freeze(precision)
    keys = pairs(assocmem.frozen.CROSSOVER[precision] + 1, key_dim, 1, seed=1)[0]
    expected = naive_gated_recall(frozen, keys)
    tolerance = 1e-9 if precision == "float64" else 1e-4
    assert frozen.method(len(keys)) == "folded"
    assert relative(frozen.recall(keys), expected) < tolerance
    assert frozen.method(3) == "gated"
    assert relative(frozen.recall(keys[:3]), expected[:3]) < tolerance
    assert relative(frozen.recall(keys[0]), expected[0]) < tolerance


@every_precision
@pytest.mark.parametrize("name", RULES)
def test_frozen_recalls_what_the_memory_recalls(precision, name):
    memory = stored(rule=RULES[name][0])
    keys = pairs(30, 12, 1, seed=1)[0]
    assert relative(memory.freeze(precision).recall(keys), memory.recall(keys)) < PRECISIONS[precision]


@given(seed=st.integers(0, 100), n=st.integers(0, 40))
def test_a_batch_is_its_keys_one_by_one(seed, n):
    frozen = stored(seed=seed).freeze("float64")
    keys = pairs(n, 12, 1, seed)[0]
    one_by_one = np.array([frozen.recall(key) for key in keys]).reshape(n, 5)
    assert relative(frozen.recall(keys), one_by_one) < 1e-12


def test_the_same_bits_whoever_shares_the_work(monkeypatch):
    """Threads take shares as they come; what is added up does not depend on it."""
    monkeypatch.setattr("assocmem.frozen.SHARED_BYTES", 2**20)
    frozen = stored(64, 600, n=50, expansion=8).freeze("float32")
    assert frozen.n_threads == min(n_threads(), 8)
    assert stored().freeze().n_threads == 1
    with monkeypatch.context() as pinned:
        pinned.setattr("os.sched_getaffinity", lambda process: {0}, raising=False)
        assert frozen.n_threads == 1
        alone = frozen.recall(pairs(8, 64, 1, seed=1)[0])
    keys = pairs(8, 64, 1, seed=1)[0]
    first = frozen.recall(keys)
    assert (first == alone).all()
    for _ in range(200):
        assert (frozen.recall(keys) == first).all()


def test_many_threads_recall_at_once(monkeypatch):
    monkeypatch.setattr("assocmem.frozen.SHARED_BYTES", 2**20)
    frozen = stored(64, 600, n=50, expansion=8).freeze("float32")
    keys = pairs(400, 64, 1, seed=1)[0]
    expected = np.array([frozen.recall(key) for key in keys])
    seen = np.empty_like(expected)

    def recall(start):
        for n in range(start, len(keys), 4):
            seen[n] = frozen.recall(keys[n])

    threads = [threading.Thread(target=recall, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (seen == expected).all()


@pytest.mark.parametrize("load", [0.05, 0.5])
@pytest.mark.parametrize("rule", ["ridge", "hebbian", Ridge(query_cosine=0.9)])
def test_eight_bits_lose_less_than_a_hundredth(rule, load):
    memory = AssociativeMemory(128, 32, rule=rule)
    n = round(load * memory.rank)
    keys, values = pairs(n, 128, 32)
    memory.store(keys, values)
    for queries in (keys, keys + 0.4 * pairs(n, 128, 1, seed=1)[0], pairs(50, 128, 1, seed=2)[0]):
        frozen = memory.freeze("int8", sample=queries)
        exact = memory.recall(queries)
        assert frozen.loss < 0.01
        assert frozen.loss == pytest.approx(np.linalg.norm(frozen.recall(queries) - exact) / np.linalg.norm(exact))


def test_eight_bit_weights_are_rounded_to_the_nearest():
    memory = stored(64, 7, expansion=4)
    frozen = memory.freeze("int8")
    exact = memory.weights.transpose(1, 0, 2)
    scale = np.repeat(frozen.scale, memory.n_units // len(frozen.scale), axis=0)[:, None, :]
    assert len(frozen.scale) == 16
    assert (abs(frozen.weights * scale - exact) <= 0.5001 * scale).all()
    assert (abs(frozen.weights.astype(int)).max(axis=1).reshape(16, -1, 7).max(axis=1) == 127).all()
    assert stored(64, 7, n=0, expansion=4).freeze("int8").recall(np.ones(64)).tolist() == [0.0] * 7


@every_precision
def test_saved_and_loaded_is_the_same(precision, tmp_path):
    frozen = stored(bias=0.5).freeze(precision)
    frozen.save(tmp_path / "frozen.safetensors")
    loaded = FrozenMemory.load(tmp_path / "frozen.safetensors")
    keys = pairs(300, 12, 1, seed=1)[0]
    for n in (1, 5, 300):
        assert (loaded.recall(keys[:n]) == frozen.recall(keys[:n])).all()
    assert repr(loaded) == repr(frozen)
    assert loaded.nbytes == frozen.nbytes
    assert loaded.dtype == frozen.dtype
    assert pickle.loads(pickle.dumps(loaded)).recall(keys[0]).tolist() == frozen.recall(keys[0]).tolist()


@every_precision
def test_without_a_map_the_file_does_not_matter_afterwards(precision, tmp_path):
    """Of a mapped memory, a file that is cut short in place ends the process."""
    path, keys = tmp_path / "frozen.safetensors", pairs(9, 12, 1, seed=1)[0]
    frozen = stored().freeze(precision)
    frozen.save(path)
    loaded = FrozenMemory.load(path, mapped=False)
    for name in ("weights", "scale", "offset"):
        array = getattr(loaded, name)
        assert array.flags.carray
        assert array.base is None or type(array.base) is np.ndarray
    os.truncate(path, 100)
    assert (loaded.recall(keys) == frozen.recall(keys)).all()
    assert (loaded.recall(keys[0]) == frozen.recall(keys[0])).all()


def test_without_a_map_the_weights_are_looked_at(tmp_path, monkeypatch):
    path = tmp_path / "frozen.safetensors"
    stored().freeze("float32").save(path)
    content = path.read_bytes()
    path.write_bytes(content[:-4] + np.float32(np.nan).tobytes())
    FrozenMemory.load(path)
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        FrozenMemory.load(path, mapped=False)
    with pytest.raises(TypeError, match="mapped must be True or False, got 'no'"):
        FrozenMemory.load(path, mapped="no")
    path.write_bytes(content)
    real = np.fromfile
    monkeypatch.setattr(np, "fromfile", lambda *arguments, **options: real(*arguments, **options)[:-1])
    with pytest.raises(ValueError, match=r"frozen.safetensors is not a memory, or .*shorter while it was read"):
        FrozenMemory.load(path, mapped=False)


def test_opening_does_not_read_the_weights(tmp_path):
    """The weights are mapped: damage in them is met when they are used, not when the file is opened."""
    path = tmp_path / "frozen.safetensors"
    stored().freeze().save(path)
    loaded = FrozenMemory.load(path)
    base = loaded.weights
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    before = path.read_bytes()
    loaded.weights[...] = 0
    assert path.read_bytes() == before


def test_files_that_are_no_frozen_memories_are_refused(tmp_path):
    memory = stored()
    path = tmp_path / "memory.safetensors"
    memory.save(path)
    with pytest.raises(ValueError, match=r"holds a memory; expected a frozen memory\. Load it with the class"):
        FrozenMemory.load(path)
    frozen = memory.freeze()
    frozen.save(path)
    with pytest.raises(ValueError, match="holds a frozen memory; expected a memory"):
        AssociativeMemory.load(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is not a memory, or it is truncated"):
        FrozenMemory.load(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        FrozenMemory.load(tmp_path / "nothing")
    vars(frozen)["features"] = stored(seed=1).features  # another projection than the weights were made for
    frozen._configuration = lambda: {**memory.freeze()._configuration()}
    frozen.save(path)
    with pytest.raises(ValueError, match="its configuration and signs are not those"):
        FrozenMemory.load(path)


@pytest.mark.parametrize("n", [1, 300])
def test_bad_keys_are_refused(n):
    frozen = stored().freeze("int8")
    keys = pairs(n, 12, 1, seed=1)[0]
    for bad, message in ((np.nan, "keys row 0, column 3 is nan"), (0.0, "key 0 is all zeros"), (1e30, "norm")):
        broken = keys.copy()
        broken[0] = 0.0 if bad == 0.0 else broken[0]
        broken[0, 3] = bad
        with pytest.raises(ValueError, match=message):
            frozen.recall(broken)
        out = np.full((n, 5), 7.0)
        with pytest.raises(ValueError, match=message):
            frozen.recall(broken, out)
        assert (out == 7.0).all()
    with pytest.raises(ValueError, match=r"keys have shape \(3,\); expected"):
        frozen.recall(np.ones(3))


def test_out_takes_the_values():
    frozen = stored().freeze()
    keys = pairs(30, 12, 1, seed=1)[0]
    for n in (1, 30):
        out = np.empty((n, 5))
        assert frozen.recall(keys[:n], out) is out
        assert (out == frozen.recall(keys[:n])).all()
    with pytest.raises(ValueError, match="out has shape"):
        frozen.recall(keys, np.empty((3, 5)))


def test_what_cannot_be_frozen_is_refused():
    with pytest.raises(ValueError, match="precision must be one of 'float32', 'float64', 'int8', got 'int4'"):
        stored().freeze("int4")
    with pytest.raises(ValueError, match="sample is empty"):
        stored().freeze(sample=np.empty((0, 12)))
    huge = AssociativeMemory(2, 1)
    huge.store([1e-100, 1e-100], [1.0])
    with pytest.raises(ValueError, match="weights holds numbers beyond the range of float32"):
        huge.freeze()
    with pytest.raises(TypeError, match=r"n_keys must be .*got 'many'"):
        stored().freeze().method("many")


def test_a_frozen_memory_stays_as_it_was():
    memory = stored()
    frozen, key = memory.freeze("float64"), pairs(1, 12, 1, seed=1)[0][0]
    before = frozen.recall(key)
    memory.store(*pairs(5, 12, 5, seed=2))
    assert (frozen.recall(key) == before).all()


FORKING = """
import os, numpy as np
from assocmem import AssociativeMemory
memory = AssociativeMemory(64, 600, expansion=8)
memory.store(np.random.default_rng(0).standard_normal((50, 64)), np.ones((50, 600)))
frozen = memory.freeze()
before = frozen.recall(np.ones(64))
child = os.fork()
same = bool((frozen.recall(np.ones(64)) == before).all())
if child == 0:
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0 and same
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_recalls_too():
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKING], cwd=root, check=True, timeout=60)


def test_helping_threads_go_to_sleep(monkeypatch):
    """Soon after the last recall no thread is busy any more."""
    monkeypatch.setattr("assocmem.frozen.SHARED_BYTES", 2**20)
    frozen = stored(64, 600, n=50, expansion=8).freeze("float32")
    frozen.recall(np.ones(64))
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_arrays_that_the_loops_would_read_out_of_bounds_are_refused():
    frozen = stored().freeze("float64")
    for changed in (
        {"weights": frozen.weights[:-1]},
        {"weights": frozen.weights.astype(np.float32)},
        {"weights": np.asfortranarray(frozen.weights)},
        {"offset": frozen.offset[:-1]},
        {"scale": np.ones((2, 5))},
    ):
        arrays = {"weights": frozen.weights, "scale": frozen.scale, "offset": frozen.offset, **changed}
        with pytest.raises((TypeError, ValueError), match=r"must be|need features"):
            FrozenMemory(frozen.features, **arrays)
    with pytest.raises(TypeError, match="must be arrays"):
        FrozenMemory(frozen.features, None, None, None)


FORKING_WITH_THE_POOL = """
import os, threading
import numpy as np
from assocmem import AssociativeMemory
from assocmem.core import threads
memory = AssociativeMemory(16, 2)
memory.store(np.eye(16), np.ones((16, 2)))
keys = np.random.default_rng(0).standard_normal((20_000, 16))
before = memory.recall(keys)
held, done = threading.Event(), threading.Event()
def hold():
    with threads._pool_lock:
        held.set()
        done.wait()
holder = threading.Thread(target=hold)
holder.start()
held.wait()
child = os.fork()
if child == 0:
    os._exit(0 if (memory.recall(keys) == before).all() else 1)
status = os.waitpid(child, 0)[1]
done.set()
holder.join()
assert status == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_forked_while_another_thread_holds_the_pool_recalls():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKING_WITH_THE_POOL], check=True, timeout=60)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_weights_that_float32_would_lose_are_refused(precision):
    keys, values = pairs(20, 8, 2)
    memory = AssociativeMemory(8, 2)
    memory.store(keys, values * [1.0, 1e-50])
    with pytest.raises(ValueError, match=r"weights of output 1 are at most .*float32 loses their digits.*as float64"):
        memory.freeze(precision)
    assert memory.freeze("float64", sample=keys).loss < 1e-12


@pytest.mark.parametrize("scale", [1e-170, 1e150])
def test_the_loss_is_measured_at_every_scale(scale):
    keys, values = pairs(300, 8, 2)
    memory = AssociativeMemory(8, 2, rule=Ridge(1.0))
    memory.store(keys, scale * values / 10)
    loss = memory.freeze("float64", sample=keys).loss
    assert 0 < loss < 1e-12
