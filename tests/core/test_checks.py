"""Every refusal of the memory: before anything changes, saying what was given, what was expected, what to do."""

import numpy as np
import pytest

from assocmem import AssociativeMemory
from tests.helpers import pairs

KEYS, VALUES = pairs(300, 4, 2)


def changed(array, row, column, value):
    copy = array.copy()
    copy[row, column] = value
    return copy


BAD_PAIRS = {
    "keys too long": (np.ones((3, 5)), np.ones((3, 2)), ValueError, r"keys have shape \(3, 5\); expected \(N, 4\)"),
    "values too long": (np.ones((3, 4)), np.ones((3, 3)), ValueError, r"values have shape \(3, 3\); expected \(N, 2\)"),
    "one key too short": (np.ones(3), np.ones(2), ValueError, r"keys have shape \(3,\)"),
    "keys with three axes": (
        np.ones((2, 3, 4)),
        np.ones((2, 2)),
        ValueError,
        r"shape \(2, 3, 4\); expected \(N, 4\) or \(4,\)",
    ),
    "a number": (1.0, np.ones(2), ValueError, r"keys have shape \(\)"),
    "N keys, M values": (
        np.ones((3, 4)),
        np.ones((2, 2)),
        ValueError,
        "3 keys came with 2 values; expected one value for every key",
    ),
    "one key, two values": (np.ones(4), np.ones((2, 2)), ValueError, "1 keys came with 2 values"),
    "NaN": (changed(KEYS, 280, 1, np.nan), VALUES, ValueError, "keys row 280, column 1 is nan.*Drop or repair"),
    "infinity": (KEYS, changed(VALUES, 270, 0, -np.inf), ValueError, "values row 270, column 0 is -inf"),
    "complex": (KEYS * 1j, VALUES, TypeError, "keys have dtype complex128.*side by side"),
    "text": ([["a"] * 4], [[1.0, 2.0]], TypeError, "keys have dtype <U1; expected real numbers"),
    "objects": (np.full((1, 4), None), [[1.0, 2.0]], TypeError, "keys have dtype object"),
    "ragged": ([[1.0, 2.0, 3.0, 4.0], [1.0]], [[1.0, 2.0]] * 2, ValueError, "rows of different lengths.*Pad"),
    "masked keys": (np.ma.masked_greater(KEYS, 1), VALUES, TypeError, "keys are masked; expected every entry"),
    "values too large": (np.ones((1, 4)), np.full((1, 2), 1e200), ValueError, r"value 0 has a norm beyond 1e\+150"),
    "zero key": (changed(np.zeros((3, 4)), 0, 0, 1.0), np.ones((3, 2)), ValueError, "key 1 is all zeros.*bias=1.0"),
    "too long a key": (np.full(4, 1e160), np.ones(2), ValueError, r"key 0 has norm 2e\+160.*Rescale"),
    "far too long a key": (np.full(4, 1e300), np.ones(2), ValueError, r"key 0 has norm 2e\+300.*Rescale"),
    "too short a key": (np.full(4, 1e-300), np.ones(2), ValueError, r"key 0 has norm 2e-300; expected .* 1e-150"),
}


@pytest.mark.parametrize("case", BAD_PAIRS)
@pytest.mark.parametrize("n_before", [0, 3])
@pytest.mark.parametrize("rule", ["ridge", "delta"])
def test_bad_pairs_are_refused_and_nothing_changes(case, n_before, rule):
    keys, values, error, message = BAD_PAIRS[case]
    memory = AssociativeMemory(4, 2, rule=rule)
    memory.store(KEYS[:n_before], VALUES[:n_before])
    before = memory.recall(KEYS)
    with pytest.raises(error, match=message):
        memory.store(keys, values)
    if rule == "ridge":
        with pytest.raises(error, match=message):
            memory.forget(keys, values)
    assert memory.n_stored == n_before
    assert np.array_equal(memory.recall(KEYS), before)


@pytest.mark.parametrize("case", [name for name, entry in BAD_PAIRS.items() if "value" not in name])
def test_bad_keys_are_refused_by_recall(case):
    keys, _, error, message = BAD_PAIRS[case]
    if "keys came" in message or "values" in message:
        message, keys, error = r"keys have shape \(2,\)", np.ones(2), ValueError
    memory = AssociativeMemory(4, 2)
    with pytest.raises(error, match=message):
        memory.recall(keys)


def test_float32_range():
    memory = AssociativeMemory(4, 2, dtype="float32")
    with pytest.raises(ValueError, match="keys row 0, column 0 is inf in float32"):
        memory.store(np.full(4, 1e60), np.ones(2))
    with pytest.raises(ValueError, match="key 0 is all zeros"):
        memory.store(np.full(4, 1e-60), np.ones(2))
    with pytest.raises(ValueError, match=r"key 0 has norm 2e\+20; expected .* 1e\+15 for float32"):
        memory.store(np.full(4, 1e20), np.ones(2))
    with pytest.raises(ValueError, match="values row 0, column 1 is inf in float32"):
        memory.store(np.ones(4), [1.0, 1e60])


def test_a_zero_key_is_fine_with_a_bias():
    memory = AssociativeMemory(4, 2, bias=1.0)
    memory.store(np.zeros(4), [1.0, 2.0])
    assert np.allclose(memory.recall(np.zeros(4)), [1.0, 2.0])


def test_recall_out_must_fit():
    memory = AssociativeMemory(4, 4)
    read_only = np.empty((300, 4))
    read_only.flags.writeable = False
    for out, message in (
        (np.empty((3, 4)), r"out has shape \(3, 4\)"),
        (np.empty((300, 4), np.int64), "dtype int64; expected a floating point array"),
        ([[0.0] * 4] * 300, "out has type <class 'list'>"),
        (read_only, "out is read-only"),
        (KEYS, "out overlaps the keys"),
    ):
        with pytest.raises(ValueError, match=message):
            memory.recall(KEYS, out=out)
    out = np.full((300, 4), 7.0)
    with pytest.raises(ValueError, match="row 299"):
        memory.recall(changed(KEYS, 299, 0, np.nan), out=out)
    assert (out == 7.0).all()


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"key_dim": 0}, ValueError, "key_dim must be an integer of at least 1, got 0"),
    ({"value_dim": -2}, ValueError, "value_dim must be .*got -2"),
    ({"value_dim": 2.0}, TypeError, "value_dim must be .*got 2.0"),
    ({"expansion": 0}, ValueError, "expansion must be .*got 0"),
    ({"rule": "rigde"}, ValueError, "rule must be one of 'hebbian', 'delta', 'ridge', 'rls'.*got 'rigde'"),
    ({"rule": 3}, TypeError, "rule must be one of .*got 3"),
    ({"seed": -1}, ValueError, "seed must be .*got -1"),
    ({"bias": np.inf}, ValueError, "bias must be .*got inf"),
    ({"dtype": "int8"}, ValueError, "dtype must be .*got 'int8'"),
    ({"dtype": "no such"}, ValueError, "dtype must be .*got 'no such'"),
])  # fmt: skip
def test_bad_configurations_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        AssociativeMemory(**{"key_dim": 4, "value_dim": 2, **options})


@pytest.mark.parametrize(("options", "message"), [
    ({"seed": 1}, r"differ in seed \(0 and 1\)"),
    ({"expansion": 2, "bias": 1.0}, r"differ in expansion \(4 and 2\), bias \(0.0 and 1.0\)"),
    ({"rule": "hebbian"}, r"differ in rule \('ridge' and 'hebbian'\)|differ in rule \(ridge and hebbian\)"),
    ({"whiten": False}, "differ in whiten"),
    ({"dtype": "float32"}, "differ in dtype"),
])  # fmt: skip
def test_merge_refuses_other_configurations(options, message):
    with pytest.raises(ValueError, match=message):
        AssociativeMemory(4, 2).merge(AssociativeMemory(4, 2, **options))


def test_merge_refuses_other_things():
    with pytest.raises(TypeError, match="other must be an AssociativeMemory, got a dict"):
        AssociativeMemory(4, 2).merge({})


@pytest.mark.parametrize("what", ["forget", "merge"])
def test_the_delta_rule_says_what_to_use_instead(what):
    memory = AssociativeMemory(4, 2, rule="delta")
    memory.store(KEYS, VALUES)
    with pytest.raises(ValueError, match=rf"the rule 'delta' cannot {what}.*'ridge', 'rls' or 'hebbian'"):
        memory.forget(KEYS, VALUES) if what == "forget" else memory.merge(memory)
