"""A memory with a center is the memory without one of keys − center, to the last bit, on every path a key takes.

Keys and center are multiples of 1/8, so that neither the difference nor a conversion to float32 rounds.
"""

import copy
import itertools
import json
import pickle

import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from assocmem import AssociativeMemory, CReLUFeatures, FrozenMemory, Ridge
from tests import naive
from tests.helpers import RULES, SUMS, pairs, relative

D, V = 6, 6
RNG = np.random.default_rng(7)
KEYS = RNG.integers(-24, 24, (300, D)) / 8
VALUES = RNG.standard_normal((300, V))
OTHERS = RNG.integers(-24, 24, (40, D)) / 8
CENTER = np.array([1.0, -2.5, 0.0, 0.125, 3.0, -0.75])

configurations = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["float32", "float64"]),
        "bias": st.sampled_from([0.0, 1.5]),
        "whiten": st.booleans(),
        "seed": st.integers(0, 9),
    }
)


def twins(**options):
    """A memory with the center and one without, each with the function that turns keys into its own."""
    options = {"expansion": 2, **options}
    centred = AssociativeMemory(D, V, center=CENTER, **options)
    return (centred, lambda keys: keys), (AssociativeMemory(D, V, **options), lambda keys: keys - CENTER)


def assert_same(answers):
    """The two answers, dictionaries of arrays by name, are the same bits."""
    one, other = answers
    assert one.keys() == other.keys()
    for name in one:
        assert np.array_equal(one[name], other[name], equal_nan=True), name


# ------------------------------------------------------------------------------------------- writing and reading


def store_one_by_one(memory, at, folder):
    for key, value in zip(KEYS[:30], VALUES, strict=False):
        memory.store(at(key), value)
    memory.store(at(KEYS[30:40]).tolist(), VALUES[30:40].tolist())


def store_batch(memory, at, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assocmem.cell.CHUNK_BYTES", 1)  # chunks of 256 pairs
        memory.store(at(KEYS), VALUES, progress=[].append)


def store_map(memory, at, folder):
    np.save(folder / "keys.npy", at(KEYS))
    memory.store(np.load(folder / "keys.npy", mmap_mode="r"), VALUES)


def store_stream(memory, at, folder):
    memory.store_from((at(KEYS[i : i + 70]), VALUES[i : i + 70]) for i in range(0, 300, 70))


def store_with_checkpoint(memory, at, folder):
    memory.store_from((at(KEYS), VALUES), checkpoint=folder / "run", every=100)


WRITES = (store_one_by_one, store_batch, store_map, store_stream, store_with_checkpoint)


def reads(memory, at, folder):
    """Everything by which a memory, of any rule, is read."""
    found = memory._cell.current().arrays() | {"weights": memory.weights, "offset": memory.offset}
    out = np.empty((len(OTHERS), V), memory.dtype)
    memory.recall(at(OTHERS), out)
    features = memory.features
    for name in ("project", "expand", "fold"):
        found[name] = getattr(features, name)(at(OTHERS))
        found[f"{name}, one"] = getattr(features, name)(at(OTHERS[0]))
    rows = np.ascontiguousarray(at(OTHERS), memory.dtype)
    found |= {"rows": features.fold_rows(rows), "norms": features.norms(rows)}
    path = folder / "memory"
    memory.save(path)
    remade = {
        "": memory,
        "loaded": AssociativeMemory.load(path),
        "copied": memory.copy(),
        "unpickled": pickle.loads(pickle.dumps(memory)),
        "deep copied": copy.deepcopy(memory),
    }
    for name, each in remade.items():
        found |= {f"{name} batch": each.recall(at(OTHERS)), f"{name} one": each.recall(at(OTHERS[0]))}
        found |= {f"{name} fold": each.features.fold(at(OTHERS))}
    return found | {"out": out}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("name", ["hebbian", "delta", "ridge", "rls"])
@settings(max_examples=8)
@given(configuration=configurations)
def test_storing_and_recalling(tmp_path_factory, name, write, configuration):
    answers = []
    for memory, at in twins(rule=RULES[name][0], **configuration):
        folder = tmp_path_factory.mktemp("center")
        write(memory, at, folder)
        answers.append(reads(memory, at, folder))
    assert_same(answers)


@pytest.mark.parametrize("name", SUMS)
@settings(max_examples=6)
@given(configuration=configurations, ledger=st.booleans())
def test_forgetting_replacing_and_merging(tmp_path_factory, name, configuration, ledger):
    answers = []
    for memory, at in twins(rule=RULES[name][0], ledger=ledger, **configuration):
        other = memory.copy()
        for part, each in ((slice(0, 10), memory), (slice(10, 16), other)):
            each.store(at(KEYS[part]), VALUES[part])
        memory.forget(at(KEYS[3]), VALUES[3])
        memory.forget(at(KEYS[:2]), VALUES[:2])
        memory.replace(at(KEYS[5]), VALUES[5], VALUES[50])
        found = reads(memory.merge(other), at, tmp_path_factory.mktemp("center"))
        found.pop("digests", None)  # of the keys as they were given
        if memory._cell.current().sums is not None:
            report = memory.verify_forgotten(at(KEYS[:8]))
            found |= {"copies": report.max_copies, "residual": report.residual}
        answers.append(found)
    assert_same(answers)


@pytest.mark.filterwarnings("ignore:this edit makes recalls")
@pytest.mark.parametrize("name", ["ridge", "ridge-alpha", "rls"])
@settings(max_examples=6)
@given(configuration=configurations)
def test_edits_confidence_and_other_answers_from_sums(tmp_path_factory, name, configuration):
    answers = []
    for memory, at in twins(rule=RULES[name][0], **configuration):
        memory.store(at(KEYS[:12]), VALUES[:12])
        values, deviations = memory.recall(at(OTHERS), return_confidence=True)
        one, its_deviations = memory.recall(at(OTHERS[1]), return_confidence=True)
        found = {"values": values, "deviations": deviations, "value": one, "its deviations": its_deviations}
        found |= {"leverage": memory.leverage(at(OTHERS)), "one leverage": memory.leverage(at(OTHERS[0]))}
        if memory.dtype == np.float64:
            found["residuals"] = memory.leave_one_out(at(KEYS[:5]), VALUES[:5])
            found["one residual"] = memory.leave_one_out(at(KEYS[7]), VALUES[7])
        preserved = at(np.vstack([KEYS[4:6], CENTER]))  # one without features, which recalls 0 whatever is edited
        edit = memory.edit(at(KEYS[:2]), VALUES[40:42], preserve=preserved)
        soft = memory.edit(at(OTHERS[5]), VALUES[6], penalty=0.5, metric=at(KEYS[100:200]))
        for changed in (edit, soft):
            locality = changed.locality(at(OTHERS[:5]))
            found |= {f"{len(found)}": np.array([locality.mean_change, locality.smallest_cosine, changed.growth])}
        found |= {"edited": memory.recall(at(KEYS[:9]))}
        memory.release(at(KEYS[:2]))
        answers.append(found | reads(memory, at, tmp_path_factory.mktemp("center")))
        with_rule = memory.copy()
        with_rule.release(at(OTHERS[5]))
        with_rule = with_rule.with_rule(Ridge(2.0))
        answers[-1]["with rule"] = with_rule.recall(at(OTHERS))
    assert_same(answers)


@given(configuration=configurations, cosine=st.sampled_from([0.5, 0.9]))
def test_expected_noisy_features(tmp_path_factory, configuration, cosine):
    answers = []
    for memory, at in twins(rule=Ridge(2.0), **configuration):
        memory.store(at(KEYS), VALUES, query_cosine=cosine)
        memory.store(at(OTHERS[:9]), VALUES[:9], query_cosine=cosine)
        memory.forget(at(OTHERS[:3]), VALUES[:3], query_cosine=cosine)
        answers.append(reads(memory, at, tmp_path_factory.mktemp("center")))
    assert_same(answers)


def test_patterns_of_0_and_1_may_be_stored_with_noise_once_they_are_centred():
    patterns = (KEYS[:9] > 0).astype(np.uint8)
    with pytest.raises(ValueError, match="every entry of the keys is 0 or 1"):
        AssociativeMemory(D, V, rule=Ridge(1.0)).store(patterns, VALUES[:9], query_cosine=0.9)
    memory = AssociativeMemory(D, V, rule=Ridge(1.0), center=np.full(D, 0.5))
    memory.store(patterns, VALUES[:9], query_cosine=0.9)
    plain = AssociativeMemory(D, V, rule=Ridge(1.0))
    plain.store(patterns - 0.5, VALUES[:9], query_cosine=0.9)
    assert np.array_equal(memory.recall(OTHERS), plain.recall(OTHERS - 0.5))


@given(
    configuration=configurations,
    activation=st.sampled_from(["sign", "normalize", "clip"]),
    rule=st.sampled_from(["ridge", "hebbian", "delta", "rls"]),
)
def test_settling_centres_every_state(configuration, activation, rule):
    """States are keys as they are given: the next key is centred like the first."""
    memory = AssociativeMemory(D, D, expansion=1, rule=rule, center=CENTER, **{**configuration, "dtype": "float64"})
    memory.store(KEYS[:6], VALUES[:6])
    starts = OTHERS[:20] + 1 / 32
    settled = memory.settle(starts, activation, max_steps=9)
    for n, key in enumerate(starts):
        state, steps, reason = naive.settle(memory.recall, key, activation, 9, 1e-6)
        assert np.array_equal(memory.settle(key, activation, max_steps=9).states, settled.states[n])
        if reason != "cycle":
            assert (settled.reasons[n], settled.steps[n]) == (reason, steps)
            assert np.allclose(settled.states[n], state, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_centred_patterns_attract_noisy_ones(dtype):
    rng = np.random.default_rng(0)
    patterns = rng.choice([-1.0, 1.0], (24, 64), p=[0.2, 0.8])
    memory = AssociativeMemory(64, 64, center=patterns.mean(axis=0), dtype=dtype)
    memory.store(patterns, patterns, query_cosine=0.8)
    settled = memory.settle(np.where(rng.random(patterns.shape) < 0.05, -patterns, patterns))
    assert (settled.states == patterns).mean() > 0.99
    assert memory.settle(patterns).steps.tolist() == [0] * 24


# ------------------------------------------------------------------------------------------------- frozen memories


@pytest.mark.parametrize("precision", ["float32", "float64", "int8"])
@settings(max_examples=6)
@given(configuration=configurations, share=st.booleans())
def test_frozen_memories(tmp_path_factory, precision, configuration, share):
    answers = []
    for memory, at in twins(rule=Ridge(1.0), **configuration):
        memory.store(at(KEYS), VALUES)
        frozen = memory.freeze(precision, sample=at(OTHERS))
        path = tmp_path_factory.mktemp("center") / "frozen"
        frozen.save(path)
        found = {"loss": np.array(frozen.loss)}
        remade = {
            "frozen": frozen,
            "mapped": FrozenMemory.load(path),
            "read": FrozenMemory.load(path, mapped=False),
            "unpickled": pickle.loads(pickle.dumps(frozen)),
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("assocmem.frozen.CROSSOVER", {precision: 5})
            if share:
                patch.setattr("assocmem.frozen.SHARED_BYTES", 0)
                patch.setattr("assocmem.frozen.n_threads", lambda: 2)
            for name, each in remade.items():
                assert (each.method(4), each.method(5)) == ("gated", "folded")
                for n in (1, 4, 5, 40):
                    found[f"{name} {n}"] = each.recall(at(OTHERS[:n]))
                found[f"{name} one"] = each.recall(at(OTHERS[0]))
        answers.append(found)
    assert_same(answers)
    assert relative(answers[0]["frozen 40"], memory.recall(OTHERS - CENTER)) < {"int8": 0.1}.get(precision, 1e-4)


@given(configuration=configurations)
def test_literal_weights_are_for_keys_without_the_center(configuration):
    memory = AssociativeMemory(D, V, rule=Ridge(1.0), center=CENTER, **configuration)
    memory.store(KEYS, VALUES)
    z, bias = memory.features.project(OTHERS), memory.features.bias
    norms = np.sqrt(((OTHERS - CENTER) ** 2).sum(axis=1, keepdims=True) + bias**2)
    by_hand = np.maximum(z, 0) @ memory.weights[0] + np.maximum(-z, 0) @ memory.weights[1] + norms * memory.offset
    assert relative(by_hand, memory.recall(OTHERS)) < (1e-12 if memory.dtype == np.float64 else 1e-4)
    again, _ = memory.features.refold(*memory.weights)
    assert relative(memory.features.fold(OTHERS) @ again, memory.recall(OTHERS)) < 1e-3


def test_any_numbers_to_rounding():
    keys, values = pairs(200, 16, 3)
    center = keys.mean(axis=0) + 5.0
    for dtype, tolerance in (("float64", 1e-12), ("float32", 2e-5)):
        memory, plain = AssociativeMemory(16, 3, center=center, dtype=dtype), AssociativeMemory(16, 3, dtype=dtype)
        memory.store(keys, values)
        plain.store(keys - center, values)
        assert relative(memory.recall(keys[:7] + 0.1), plain.recall(keys[:7] + 0.1 - center)) < 100 * tolerance
        assert memory.features.center.dtype == dtype


def test_workers_of_dask_centre_as_well():
    dask = pytest.importorskip("dask")
    array = pytest.importorskip("dask.array")
    distributed = pytest.importorskip("assocmem.operations.distributed")
    for name in SUMS:
        answers = []
        for memory, at in twins(rule=RULES[name][0], bias=1.0):
            with dask.config.set(scheduler="synchronous"):
                distributed.store(memory, *(array.from_array(rows, chunks=(90, 6)) for rows in (at(KEYS), VALUES)))
            answers.append({"recalled": memory.recall(at(OTHERS))})
        assert_same(answers)


# --------------------------------------------------------------------------------------------------- the ledger


def test_a_ledger_knows_pairs_by_the_keys_as_they_are_given():
    memory = AssociativeMemory(D, V, center=CENTER, ledger=True)
    memory.store(KEYS[:20], VALUES[:20], ids=range(20))
    memory.store_from((KEYS[20:23], VALUES[20:23]))
    with pytest.raises(ValueError, match="pair 0 is none of the 23"):
        memory.forget(KEYS[0] - CENTER, VALUES[0], ids=0)
    assert memory.forget(KEYS[:20], VALUES[:20], ids=range(20)).n_left == 3
    assert memory.forget(KEYS[20:23], VALUES[20:23]).n_left == 0


# ------------------------------------------------------------------------------------------------ configuration


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
