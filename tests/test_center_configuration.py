"""The center is part of the configuration: of files, copies and merges; other centers, and keys on it, are refused."""

import copy
import itertools
import json
import pickle

import numpy as np
import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st

from assocmem import AssociativeMemory, CReLUFeatures, FrozenMemory, Ridge
from tests.test_center import CENTER, KEYS, OTHERS, VALUES, D, V


def header_of(path):
    with safetensors.safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["assocmem"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def rewrite(path, change):
    header, arrays = header_of(path)
    change(header)
    safetensors.numpy.save_file(arrays, path, {"assocmem": json.dumps(header)})


KINDS = {"memory": AssociativeMemory, "frozen": FrozenMemory}


def saved(kind, path, **options):
    memory = AssociativeMemory(D, V, **options)
    memory.store(KEYS[:9], VALUES[:9])
    (memory.freeze("float64") if kind == "frozen" else memory).save(path)
    return path


@pytest.mark.parametrize("kind", KINDS)
@given(
    dtype=st.sampled_from(["float32", "float64"]),
    center=st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=D, max_size=D),
)
def test_a_file_holds_the_center_to_the_last_bit(tmp_path_factory, kind, dtype, center):
    path = tmp_path_factory.mktemp("center") / "file"
    memory = AssociativeMemory(D, V, rule="hebbian", bias=1.0, center=center, dtype=dtype)
    memory.store(KEYS[:9], VALUES[:9])
    before = memory.freeze("float64") if kind == "frozen" else memory
    before.save(path)
    loaded = KINDS[kind].load(path)
    if not np.any(np.asarray(center, dtype)):
        assert loaded.features.center is before.features.center is None
        assert "center" not in header_of(path)[0]
        return
    assert loaded.features.center.dtype == before.features.center.dtype
    assert np.array_equal(loaded.features.center, before.features.center)
    assert loaded.features.configuration() == before.features.configuration()
    assert np.array_equal(loaded.recall(OTHERS), before.recall(OTHERS))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_another_center_is_refused(tmp_path, kind):
    path = saved(kind, tmp_path / "file", center=CENTER)
    assert header_of(path)[0]["version"] == 5  # which older versions, that know no center, do not read
    content = path.read_bytes()
    for change, message in (
        (lambda header: header.pop("center"), "configuration and signs are not those"),
        (lambda header: header.update(center=None), "configuration and signs are not those"),
        (lambda header: header["center"].__setitem__(0, 1.5), "configuration and signs are not those"),
        (lambda header: header["center"].pop(), "center must have shape"),
        (lambda header: header["center"].__setitem__(0, float("nan")), "center must hold finite numbers"),
        (lambda header: header.update(center="mean"), "center"),
        (lambda header: header.update(center={"x": 1}), "center"),
    ):
        path.write_bytes(content)
        rewrite(path, change)
        with pytest.raises(ValueError, match=message):
            KINDS[kind].load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_the_version_before_load(tmp_path, kind):
    path = saved(kind, tmp_path / "file")
    expected = KINDS[kind].load(path).recall(OTHERS)
    assert "center" not in header_of(path)[0]
    rewrite(path, lambda header: header.update(version=4))
    loaded = KINDS[kind].load(path)
    assert loaded.features.center is None
    assert np.array_equal(loaded.recall(OTHERS), expected)


def test_a_checkpoint_of_another_center_is_refused(tmp_path):
    AssociativeMemory(D, V, center=CENTER).store_from((KEYS, VALUES), checkpoint=tmp_path / "run")
    for other in (None, CENTER + 1):
        with pytest.raises(ValueError, match="a run with other"):
            AssociativeMemory(D, V, center=other).store_from((KEYS, VALUES), checkpoint=tmp_path / "run")


def test_memories_of_other_centers_do_not_merge():
    memories = [AssociativeMemory(D, V, center=center) for center in (None, CENTER, CENTER + 1)]
    for memory in memories:
        memory.store(KEYS[:5], VALUES[:5])
    for one, other in itertools.permutations(memories, 2):
        with pytest.raises(ValueError, match=r"differ in center \((None|a vector) and (None|a vector)\); build both"):
            one.merge(other)
        assert one.n_stored == 5


def test_a_center_of_zeros_is_none():
    plain = AssociativeMemory(D, V)
    for zeros in (np.zeros(D), [0] * D, -np.zeros(D), np.full(D, 1e-320)):
        memory = AssociativeMemory(D, V, center=zeros, dtype="float64")
        if zeros[0] == 0:
            assert memory.features.center is None
            assert memory.features.configuration() == plain.features.configuration()
            assert repr(memory) == repr(plain)
            memory.merge(plain)
    assert AssociativeMemory(D, V, center=np.full(D, 1e-60), dtype="float32").features.center is None
    # A coordinate of -0.0 makes no other configuration.
    one, other = (AssociativeMemory(2, 1, center=[1.0, zero], ledger=True) for zero in (0.0, -0.0))
    one.store([3.0, 4.0], [1.0])
    assert one.merge(other).forget([3.0, 4.0], [1.0]).n_left == 0


def test_repr_tells_that_there_is_a_center():
    memory = AssociativeMemory(2, 1, center=[3.0, 4.0])
    assert "center=<norm 5>" in repr(memory)
    assert "center=<norm 5>" in repr(memory.features)
    assert "center" not in repr(AssociativeMemory(2, 1)) + repr(CReLUFeatures(2))


def test_the_center_is_a_copy_that_nobody_changes():
    given_center = CENTER.copy()
    memory = AssociativeMemory(D, V, center=given_center)
    given_center[:] = 9.0
    buffers = []
    pickled = pickle.dumps(memory, protocol=5, buffer_callback=buffers.append)
    for each in (memory, memory.copy(), copy.deepcopy(memory), pickle.loads(pickled, buffers=buffers)):
        center = each.features.center
        assert np.array_equal(center, CENTER)
        assert center.flags.c_contiguous
        assert center.flags.aligned
        assert not center.flags.writeable
        with pytest.raises(AttributeError, match="center of a CReLUFeatures cannot be changed"):
            each.features.center = None


@pytest.mark.parametrize(("center", "error", "message"), [
    (np.ones(D + 1), ValueError, r"center must have shape \(6,\), .*got shape \(7,\); pass .*mean"),
    (np.ones((1, D)), ValueError, r"center must have shape \(6,\), .*got shape \(1, 6\)"),
    (KEYS, ValueError, r"center must have shape \(6,\), .*got shape \(300, 6\); pass .*mean"),
    (1.0, ValueError, r"center must have shape \(6,\), .*got shape \(\)"),
    ([], ValueError, r"center must have shape \(6,\), .*got shape \(0,\)"),
    ([*CENTER[1:], np.nan], ValueError, "center must hold finite numbers of size at most 1e.150 .*nan"),
    ([*CENTER[1:], np.inf], ValueError, "center must hold finite numbers .*inf"),
    ([*CENTER[1:], -1e200], ValueError, r"center must hold finite numbers .*-1e\+200 to"),
    (CENTER + 1j, TypeError, "entries of center have dtype complex128; expected real"),
    ("mean", TypeError, "entries of center have dtype <U4; expected real numbers"),
    (["a"] * D, TypeError, "entries of center have dtype <U1; expected real numbers"),
    ([[1.0], [1.0, 2.0]], ValueError, "entries of center have rows of different lengths"),
    (np.ma.masked_equal(CENTER, 0.0), TypeError, "entries of center are masked"),
    ({"mean": 0}, TypeError, "entries of center are a dict"),
])  # fmt: skip
def test_other_centers_are_refused(center, error, message):
    for build in (lambda: AssociativeMemory(D, V, center=center), lambda: CReLUFeatures(D, center=center)):
        with pytest.raises(error, match=message):
            build()


def test_a_center_beyond_the_range_of_the_dtype_is_refused():
    AssociativeMemory(D, V, center=np.full(D, 1e20))
    for size in (1e20, 1e60):
        with pytest.raises(ValueError, match=r"of size at most 1e\+15 for float32"):
            AssociativeMemory(D, V, center=np.full(D, size), dtype="float32")


def test_nothing_raises_where_a_caller_has_numpy_raise():
    with np.errstate(all="raise"):
        for dtype in ("float32", "float64"):
            memory = AssociativeMemory(D, V, center=np.full(D, 1e-310) + CENTER * 1e-5, dtype=dtype)
            memory.store(KEYS[:9], VALUES[:9])
            memory.recall(KEYS[0])
            memory.recall(KEYS[:9])
            memory.freeze("float32").recall(KEYS[0])
            repr(memory)


# ------------------------------------------------------------------------------- keys that equal the center

NO_FEATURES = "equals the center of the memory, so it has no features. .*build the memory with a bias"


def paths(memory):
    """Every way to give a memory the second of two keys."""
    bad = np.vstack([KEYS[0], CENTER])
    values = VALUES[:2]
    frozen = memory.freeze()
    return {
        "store": lambda: memory.store(bad, values),
        "store a batch": lambda: memory.store(bad, values, progress=print),
        "store with noise": lambda: memory.store(bad, values, query_cosine=0.9),
        "stream": lambda: memory.store_from([(bad, values)]),
        "arrays": lambda: memory.store_from((bad, values)),
        "recall": lambda: memory.recall(bad),
        "recall into": lambda: memory.recall(bad, np.empty((2, V))),
        "recall one": lambda: memory.recall(bad[1]),
        "confidence": lambda: memory.recall(bad, return_confidence=True),
        "forget": lambda: memory.forget(bad, values),
        "forget without values": lambda: memory.forget(bad),
        "replace": lambda: memory.replace(bad, values, values),
        "verify": lambda: memory.verify_forgotten(bad),
        "leverage": lambda: memory.leverage(bad),
        "leave one out": lambda: memory.leave_one_out(bad, values),
        "edit": lambda: memory.edit(bad, values),
        "metric": lambda: memory.edit(KEYS[0], VALUES[0], metric=bad),
        "release": lambda: memory.release(bad),
        "settle": lambda: memory.settle(bad),
        "project": lambda: memory.features.project(bad),
        "expand": lambda: memory.features.expand(bad),
        "fold": lambda: memory.features.fold(bad),
        "frozen, gated": lambda: frozen.recall(bad),
        "frozen, folded": lambda: frozen.recall(np.repeat(bad, 20, axis=0)),
        "frozen, into": lambda: frozen.recall(bad, np.empty((2, V), "f4")),
        "frozen, one": lambda: frozen.recall(bad[1]),
    }


def test_a_key_that_equals_the_center_is_refused_everywhere():
    memory = AssociativeMemory(D, V, rule=Ridge(1.0), center=CENTER)
    memory.store(KEYS[:9], VALUES[:9])
    before = memory.recall(OTHERS)
    for name, call in paths(memory).items():
        with pytest.raises(ValueError, match=NO_FEATURES) as caught:
            call()
        number = {"recall one": 0, "frozen, one": 0, "frozen, folded": 20}.get(name, 1)
        assert f"key {number} equals" in str(caught.value), name
        assert memory.n_stored == 9
        assert np.array_equal(memory.recall(OTHERS), before)


def test_with_a_bias_it_is_a_key_like_others():
    memory = AssociativeMemory(D, V, center=CENTER, bias=1.0)
    memory.store(np.vstack([KEYS[:5], CENTER]), VALUES[:6])
    assert np.allclose(memory.recall(CENTER), VALUES[5])
    assert np.allclose(memory.freeze("float64").recall(CENTER), VALUES[5])


def test_a_key_of_zeros_is_a_key_like_others():
    memory = AssociativeMemory(D, V, center=CENTER)
    memory.store(np.zeros(D), VALUES[0])
    assert np.allclose(memory.recall(np.zeros(D)), VALUES[0])


@pytest.mark.parametrize(("dtype", "center", "key", "message"), [
    ("float64", [0.0, 1e-200], [0.0, 3e-200], "key 0 minus the center has norm 2e-200; expected a norm between 1e-150"),
    ("float64", [1.0, 2.0], [1e200, 0.0], r"key 0 minus the center has norm 1e\+200; expected a norm between 1e-150"),
    ("float32", [1.0, 2.0], [0.0, 1e38], r"key 0 minus the center has norm 1e\+38; expected a norm between 1e-15"),
    ("float64", [1.0, 2.0], [0.0, np.nan], "keys row 0, column 1 is nan in float64"),
    ("float32", [1.0, 2.0], [1e60, 0.0], "keys row 0, column 0 is inf in float32"),
])  # fmt: skip
def test_other_bad_keys_are_told_from_that(dtype, center, key, message):
    memory = AssociativeMemory(2, 1, center=center, dtype=dtype)
    for call in (memory.recall, memory.features.fold, memory.freeze(dtype).recall):
        with pytest.raises(ValueError, match=message):
            call(key)
