"""The same pairs under another rule, and what of a memory is read-only."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assocmem import AssociativeMemory, DeltaRule, Hebbian, RecursiveLeastSquares, Ridge
from tests.helpers import pairs, relative

RULES = {
    "ridge": Ridge(),
    "alpha": Ridge(3.0),
    "cosine": Ridge(query_cosine=0.9),
    "gcv": Ridge("gcv"),
    "per output": Ridge("gcv", per_output=True),
    "rls": RecursiveLeastSquares(2.0),
}
FADING = {
    "alpha": Ridge(3.0, decay=0.95),
    "cosine": Ridge(query_cosine=0.9, decay=0.95),
    "gcv": Ridge("gcv", decay=0.95),
}


def filled(rule, n=60, **options):
    memory = AssociativeMemory(8, 2, rule=rule, **options)
    memory.store(*pairs(n, 8, 2))
    return memory


# ------------------------------------------------------------------------------------------------ another rule


@given(
    old=st.sampled_from(sorted(RULES)),
    new=st.sampled_from(sorted(RULES)),
    n=st.integers(0, 90).filter(lambda n: abs(n - 40) > 4),  # near load 1 both are blurred alike, and differently
    n_forgotten=st.integers(0, 10),
)
def test_it_equals_a_memory_that_stored_the_pairs_under_that_rule(old, new, n, n_forgotten):
    memory, expected = filled(RULES[old], n), filled(RULES[new], n)
    gone = slice(0, min(n, n_forgotten))
    for each in (memory, expected):
        each.forget(*(table[gone] for table in pairs(n, 8, 2)))
    before = memory.recall(pairs(20, 8, 2, seed=1)[0])
    converted = memory.with_rule(RULES[new])
    assert converted.rule == RULES[new]
    assert converted.n_stored == expected.n_stored
    queries = pairs(20, 8, 2, seed=1)[0]
    assert relative(converted.recall(queries), expected.recall(queries)) < 1e-6
    assert (memory.recall(queries) == before).all()
    later = pairs(30, 8, 2, seed=2)
    converted.store(*later)
    expected.store(*later)
    assert relative(converted.recall(queries), expected.recall(queries)) < 1e-6
    assert (memory.recall(queries) == before).all()


@pytest.mark.parametrize("new", sorted(FADING))
@pytest.mark.parametrize("old", sorted(FADING))
def test_the_decay_goes_along(old, new):
    converted, expected = filled(FADING[old]).with_rule(FADING[new]), filled(FADING[new])
    assert converted.alpha == expected.alpha
    assert (converted.weights == expected.weights).all()


def test_without_an_alpha_recursive_least_squares_finds_nearly_its_own():
    converted, expected = filled("ridge", 100).with_rule("rls"), filled("rls", 100)
    assert 0.25 < converted.alpha / expected.alpha < 4
    assert relative(converted.recall(pairs(20, 8, 2)[0]), expected.recall(pairs(20, 8, 2)[0])) < 1e-4
    assert filled("rls", 30).with_rule(RecursiveLeastSquares()).alpha == filled("rls", 30).alpha


@pytest.mark.parametrize("new", sorted(RULES))
@pytest.mark.parametrize("old", ["ridge", "rls", "gcv"])
def test_edits_stay(old, new):
    memory = filled(RULES[old])
    key = pairs(1, 8, 2, seed=5)[0][0]
    memory.edit(key, [7.0, 8.0])
    converted = memory.with_rule(RULES[new])
    assert np.allclose(converted.recall(key), [7.0, 8.0])
    edited = filled(RULES[new])
    edited.edit(key, [7.0, 8.0])
    assert relative(converted.recall(pairs(20, 8, 2)[0]), edited.recall(pairs(20, 8, 2)[0])) < 1e-6


def test_the_ledger_goes_along():
    memory = AssociativeMemory(8, 2, ledger=True)
    keys, values = pairs(30, 8, 2)
    memory.store(keys, values)
    converted = memory.with_rule(Ridge(1.0))
    assert converted.ledger
    converted.forget(keys[0], values[0])
    with pytest.raises(ValueError, match="ledger"):
        converted.forget(keys[0], values[0])
    memory.forget(keys[0], values[0])


def test_what_was_given_is_converted_and_saved(tmp_path):
    converted = filled("rls").with_rule(Ridge("gcv"))
    converted.save(tmp_path / "memory")
    loaded = AssociativeMemory.load(tmp_path / "memory")
    assert loaded.rule == Ridge("gcv")
    assert (loaded.weights == converted.weights).all()


def noisy():
    memory = AssociativeMemory(8, 2)
    memory.store(*pairs(20, 8, 2), query_cosine=0.9)
    return memory


def blurred():
    memory = AssociativeMemory(8, 2, rule=Ridge(query_cosine=0.8), dtype="float32")
    memory.store(*pairs(300, 8, 2))
    return memory


@pytest.mark.parametrize(("memory", "rule", "message"), [
    (lambda: filled("ridge"), "delta", "the rule asked for.*does not keep the sums"),
    (lambda: filled("ridge"), Hebbian(), "the rule asked for.*does not keep the sums"),
    (lambda: filled(DeltaRule()), "ridge", "the rule of this memory.*does not keep the sums"),
    (lambda: filled("ridge"), Ridge(decay=0.9), "decay=1.0.*store the pairs again"),
    (lambda: filled(Ridge(decay=0.9)), Ridge(decay=0.8), "decay=0.9.*store the pairs again"),
    (lambda: filled(Ridge(decay=0.9)), RecursiveLeastSquares(decay=0.9), "fades with the pairs"),
    (lambda: filled("ridge", whiten=False), Ridge(query_cosine=0.9), "needs whitened features"),
    (noisy, Ridge("gcv"), "20 pairs were stored with query_cosine"),
    (noisy, Ridge(query_cosine=0.9), "20 pairs were stored with query_cosine"),
    (blurred, Ridge(), "single precision.*alpha of at least"),
    (blurred, "rls", "single precision.*alpha of at least"),
    (blurred, Ridge("gcv"), "single precision.*alpha of at least"),
    (lambda: filled("ridge"), "lasso", "rule must be one of"),
])  # fmt: skip
def test_what_would_not_equal_it_is_refused(memory, rule, message):
    given = memory()
    before = given.recall(pairs(5, 8, 2)[0])
    with pytest.raises(ValueError, match=message):
        given.with_rule(rule)
    assert (given.recall(pairs(5, 8, 2)[0]) == before).all()


def test_sums_of_single_precision_go_to_other_large_penalties():
    memory = blurred()
    expected = AssociativeMemory(8, 2, rule=Ridge(memory.alpha / 2), dtype="float32")
    expected.store(*pairs(300, 8, 2))
    assert (
        relative(memory.with_rule(expected.rule).recall(pairs(5, 8, 2)[0]), expected.recall(pairs(5, 8, 2)[0])) < 3e-4
    )


# ----------------------------------------------------------------------------------------------------- read-only


def test_assigning_a_rule_names_with_rule():
    memory = filled("ridge")
    for rule in (Ridge(1000.0), "rls"):
        with pytest.raises(AttributeError, match=r"read-only.*memory\.with_rule\("):
            memory.rule = rule
    assert memory.rule == Ridge()


def test_every_public_attribute_of_a_memory_is_read_only():
    memory = filled("ridge")
    names = [name for name in dir(memory) if not name.startswith("_") and not callable(getattr(memory, name))]
    assert {"key_dim", "value_dim", "rule", "alpha", "n_stored", "dtype", "features", "weights"} <= set(names)
    for name in names:
        with pytest.raises(AttributeError, match=name):
            setattr(memory, name, 5)
    assert memory.value_dim == 2
