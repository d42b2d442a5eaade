"""A memory with a center is the memory without one of keys − center, to the last bit, on every path a key takes.

Keys and center are multiples of 1/8, so that neither the difference nor a conversion to float32 rounds.
"""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assocmem import AssociativeMemory, FrozenMemory, Ridge
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
