"""Leverage, deviations and leave-one-out residuals against their definitions, and what they promise."""

import threading

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import assocmem.operations.confidence
from assocmem import AssociativeMemory, DeltaRule, Hebbian, RecursiveLeastSquares, Ridge
from tests import naive
from tests.helpers import FIRST_KEYS, FIRST_VALUES, pairs, relative

KEY_DIM, EXPANSION = 8, 2  # rank 24
RANK = KEY_DIM * (1 + EXPANSION)
PENALISED = [Ridge(alpha=0.5), RecursiveLeastSquares(alpha=0.5), Ridge(alpha=1e-3)]
every_penalised = pytest.mark.parametrize("rule", PENALISED, ids=str)


def memory_of(keys, values, rule, **options):
    memory = AssociativeMemory(keys.shape[1], values.shape[1], expansion=EXPANSION, rule=rule, **options)
    memory.store(keys, values)
    return memory


def noisy_pairs(n, value_dim=2, seed=0):
    """Values that are a linear function of the key, with noise of another size in every output."""
    rng = np.random.default_rng(seed)
    keys = rng.standard_normal((n, KEY_DIM))
    noise = rng.standard_normal((n, value_dim)) * np.geomspace(0.1, 1, value_dim)
    return keys, keys @ rng.standard_normal((KEY_DIM, value_dim)) + noise


# ---------------------------------------------------------------------------------------------------- leverage


@every_penalised
@given(n=st.integers(5, 60), seed=st.integers(0, 99))
def test_leverage_is_its_definition(rule, n, seed):
    keys, values = noisy_pairs(n, seed=seed)
    memory, queries = memory_of(keys, values, rule), pairs(5, KEY_DIM, 1, seed + 100)[0]
    fold = memory.features.fold
    assert relative(memory.leverage(queries), naive.leverages(fold(keys), fold(queries), memory.alpha)) < 1e-8
    assert np.isclose(memory.leverage(queries[0]), memory.leverage(queries)[0])
    assert memory.leverage(keys).max() <= 1 + 1e-9


def test_leverage_without_a_penalty():
    """1 for stored keys, for others what is outside the span of the stored, over a millionth of the mean eigenvalue."""
    keys, values = pairs(RANK // 2, KEY_DIM, 1)
    memory, queries = memory_of(keys, values, Ridge()), pairs(5, KEY_DIM, 1, seed=1)[0]
    features, others = memory.features.fold(keys), memory.features.fold(queries)
    assert np.allclose(memory.leverage(keys), 1, atol=1e-4)
    penalty = 1e-6 * (features**2).sum() / RANK
    outside = others - others @ np.linalg.pinv(features) @ features
    assert np.allclose(memory.leverage(queries), (outside**2).sum(axis=1) / penalty, rtol=1e-3)


@pytest.mark.parametrize("rule", [Ridge(), Ridge(alpha=1e-9), "rls", RecursiveLeastSquares(alpha=1e-9)], ids=str)
@given(decades=st.sampled_from([0, 1, 3]), seed=st.integers(0, 99))
def test_a_stored_key_has_at_most_leverage_one(rule, decades, seed):
    """Also after a long run of stores and forgets, where an inverse that is updated drifts."""
    rng = np.random.default_rng(seed)
    keys, values = noisy_pairs(150, seed=seed)
    keys *= 10.0 ** rng.uniform(-decades / 2, decades / 2, (150, 1))
    memory = memory_of(keys[:1], values[:1], rule)
    for start in range(1, 150, 7):
        memory.store(keys[start : start + 7], values[start : start + 7])
        assert memory.leverage(keys[: start + 7]).max() <= 1 + 1e-9
    memory.forget(keys[100:], values[100:])
    assert memory.leverage(keys[:100]).max() <= 1 + 1e-9


def test_leverage_is_refused_where_rounding_would_decide_it():
    keys, values = noisy_pairs(30)
    memory = memory_of(keys, values, Ridge(alpha=1e-3))
    memory.store(1e4 * keys[:1], values[:1])
    memory.forget(1e4 * keys[:1], values[:1])
    for call in (memory.leverage, lambda keys: memory.recall(keys, return_confidence=True)):
        with pytest.raises(ValueError, match=r"rounding of the sums.*at a penalty of 0.001.*new memory.*a penalty of"):
            call(keys)


def test_leverage_is_higher_for_what_was_never_met():
    rng = np.random.default_rng(0)
    keys, values = noisy_pairs(200)
    keys[:, 4:] *= 0.01
    memory = memory_of(keys, values, Ridge(alpha=0.1))
    strange = rng.standard_normal((50, KEY_DIM)) * np.where(np.arange(KEY_DIM) < 4, 0.01, 1)
    assert memory.leverage(strange).min() > memory.leverage(keys).max()


# ---------------------------------------------------------------------------------------------------- deviation


@every_penalised
@given(n=st.integers(5, 80), seed=st.integers(0, 99))
def test_deviation_is_its_definition(rule, n, seed):
    keys, values = noisy_pairs(n, seed=seed)
    memory, queries = memory_of(keys, values, rule), pairs(5, KEY_DIM, 1, seed + 100)[0]
    fold = memory.features.fold
    recalled, deviation = memory.recall(queries, return_confidence=True)
    assert np.array_equal(recalled, memory.recall(queries))
    assert relative(deviation, naive.deviations(fold(keys), values, fold(queries), memory.alpha)) < 2e-4


@pytest.mark.parametrize("rule", [Ridge(), RecursiveLeastSquares()], ids=str)
@pytest.mark.parametrize("n", [1, 5, 12, 18])
@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_deviation_without_a_penalty_is_the_limit(rule, n, scale):
    keys, values = pairs(n, KEY_DIM, 2)
    memory = memory_of(scale * keys, values, rule)
    queries = pairs(5, KEY_DIM, 1, seed=1)[0]
    features, others = memory.features.fold(keys), memory.features.fold(queries)
    _, deviation = memory.recall(scale * queries, return_confidence=True)
    assert relative(deviation, naive.interpolating_deviations(features, values, others)) < 2e-3
    _, at_stored = memory.recall(scale * keys, return_confidence=True)
    assert at_stored.max() < 1e-3 * deviation.min()


def test_deviation_without_a_penalty_beyond_capacity_is_least_squares():
    keys, values = noisy_pairs(3 * RANK)
    memory, queries = memory_of(keys, values, Ridge()), pairs(5, KEY_DIM, 1, seed=1)[0]
    _, deviation = memory.recall(queries, return_confidence=True)
    fold = memory.features.fold
    assert relative(deviation, naive.deviations(fold(keys), values, fold(queries), 0.0)) < 1e-4


def test_repeated_keys_with_other_values_show_the_noise():
    """Fewer keys than dimensions, but more pairs than keys: the noise is known from the repetitions."""
    rng = np.random.default_rng(0)
    keys = np.repeat(pairs(5, KEY_DIM, 1)[0], 400, axis=0)
    values = np.repeat(rng.standard_normal((5, 2)), 400, axis=0) + [0.1, 3.0] * rng.standard_normal((2000, 2))
    _, deviation = memory_of(keys, values, Ridge()).recall(keys[0], return_confidence=True)
    assert np.allclose(deviation, [0.1, 3.0], rtol=0.05)


@pytest.mark.parametrize("load", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("rule", [Ridge(), Ridge(alpha="gcv"), Ridge(alpha=30.0)], ids=str)
@pytest.mark.parametrize("kind", ["independent", "linear with noise"])
def test_nine_of_ten_values_lie_within_their_interval(load, rule, kind):
    rng = np.random.default_rng(0)
    n = round(load * 640)
    keys, values = rng.standard_normal((n + 300, 128)), rng.standard_normal((n + 300, 16))
    if kind != "independent":
        values = 0.3 * values + keys @ rng.standard_normal((128, 16)) / np.sqrt(128)
    memory = AssociativeMemory(128, 16, rule=rule)
    memory.store(keys[:n], values[:n])
    recalled, deviation = memory.recall(keys[n:], return_confidence=True)
    assert 0.85 < np.mean(np.abs(values[n:] - recalled) < 1.645 * deviation) < 0.95


@pytest.mark.parametrize("cosine", [0.7, 0.9, 0.99])
@pytest.mark.parametrize("load", [0.2, 0.9])
def test_with_a_query_cosine_the_interval_is_that_of_the_stored_value(cosine, load):
    rng = np.random.default_rng(0)
    n = round(load * 320)
    keys, values, noise = rng.standard_normal((n, 64)), rng.standard_normal((n, 16)), rng.standard_normal((n, 64))
    memory = AssociativeMemory(64, 16, rule=Ridge(query_cosine=cosine))
    memory.store(keys, values)
    lengths = np.linalg.norm(keys, axis=1)[:, None]
    noise -= (noise * keys).sum(axis=1)[:, None] * keys / lengths**2
    noise *= lengths / np.linalg.norm(noise, axis=1)[:, None]
    queries = cosine * keys + np.sqrt(1 - cosine**2) * noise
    recalled, deviation = memory.recall(queries, return_confidence=True)
    assert 0.85 < np.mean(np.abs(values - recalled) < 1.645 * deviation) < 0.95


@given(scale=st.sampled_from([1e-100, 1e-3, 1e3, 1e100]), load=st.sampled_from([0.5, 2.0]))
def test_deviation_has_the_unit_of_the_values(scale, load):
    keys, values = noisy_pairs(round(load * RANK))
    queries = pairs(5, KEY_DIM, 1, seed=1)[0]
    _, deviation = memory_of(keys, values, Ridge()).recall(queries, return_confidence=True)
    _, scaled = memory_of(keys, scale * values, Ridge()).recall(queries, return_confidence=True)
    assert np.allclose(scaled, scale * deviation, rtol=1e-6)


def test_deviations_of_values_whose_squares_vanish_are_refused():
    keys, values = noisy_pairs(30)
    memory = memory_of(keys, values * [1.0, 1e-200], Ridge(alpha=0.5))
    with pytest.raises(ValueError, match=r"squared values of output 1 are too small.*another unit"):
        memory.recall(keys, return_confidence=True)
    constant = memory_of(keys, np.full((30, 2), [0.0, 5.0]), Ridge(alpha=0.5)).recall(keys, return_confidence=True)[1]
    assert (constant[:, 0] == 0).all()
    assert (constant[:, 1] > 0).all()


def test_float32_and_one_key_and_out_and_progress():
    keys, values = noisy_pairs(50)
    double, single = (memory_of(keys, values, Ridge(alpha=0.5), dtype=dtype) for dtype in ("float64", "float32"))
    recalled, deviation = single.recall(keys, return_confidence=True)
    assert recalled.dtype == deviation.dtype == np.float32
    assert relative(deviation, double.recall(keys, return_confidence=True)[1]) < 1e-4
    value, alone = single.recall(keys[0], return_confidence=True)
    assert value.shape == alone.shape == (2,)
    assert np.allclose(alone, deviation[0])
    out, done = np.empty((50, 2)), []
    written, _ = single.recall(keys, out, return_confidence=True, progress=done.append)
    assert written is out
    assert np.array_equal(out, recalled)
    assert done == [50]


# ---------------------------------------------------------------------------------------------- leave one out


@pytest.mark.parametrize(("rule", "tolerance"), [
    (Ridge(), 1e-6),
    (Ridge(alpha=0.5), 1e-9),
    (RecursiveLeastSquares(alpha=0.5), 1e-9),
    (RecursiveLeastSquares(alpha=1e-6), 1e-5),
], ids=str)  # fmt: skip
@given(n=st.integers(2, 60), left_out=st.integers(0, 59), edited=st.booleans(), seed=st.integers(0, 99))
def test_leave_one_out_is_never_having_stored(rule, tolerance, n, left_out, edited, seed):
    # Square random systems are badly conditioned: the test below is theirs.
    assume(rule.alpha != 0 or abs(n + 2 * edited - RANK) > (4 if edited else 2))
    keys, values = noisy_pairs(n, seed=seed)
    i, others = left_out % n, np.arange(n) != left_out % n
    memory, never = memory_of(keys, values, rule), memory_of(keys[others], values[others], rule)
    if edited:
        for each in (memory, never):
            each.edit(pairs(2, KEY_DIM, 1, seed + 200)[0], [[1.0, 2.0], [3.0, 4.0]])
    error = values[i] - never.recall(keys[i])
    assert relative(memory.leave_one_out(keys[i], values[i]), error) < tolerance
    assert relative(memory.leave_one_out(keys, values)[i], error) < tolerance


@pytest.mark.parametrize("rule", [Ridge(), RecursiveLeastSquares()], ids=str)
@pytest.mark.parametrize(("scale", "unit"), [(1e-140, 1e100), (1e149, 1e100), (1e149, 1e-100)])
def test_residuals_stay_in_range(rule, scale, unit):
    keys, values = pairs(10, KEY_DIM, 2)
    usual = memory_of(keys, values, Ridge()).leave_one_out(keys, values)
    memory = memory_of(scale * keys, unit * values, rule)
    assert relative(memory.leave_one_out(scale * keys, unit * values) / unit, usual) < 1e-4


def test_leave_one_out_of_the_only_pair_in_its_direction():
    """Repetitions of few keys, more pairs than dimensions, and one key that only its own pair knows."""
    rng = np.random.default_rng(0)
    keys = np.vstack([np.repeat(pairs(4, KEY_DIM, 1)[0], 20, axis=0), rng.standard_normal((1, KEY_DIM))])
    values = rng.standard_normal((81, 2))
    memory, never = memory_of(keys, values, Ridge()), memory_of(keys[:80], values[:80], Ridge())
    residuals = memory.leave_one_out(keys, values)
    assert relative(residuals[80], values[80] - never.recall(keys[80])) < 1e-8
    others = np.arange(81) != 3
    never = memory_of(keys[others], values[others], Ridge())
    assert relative(residuals[3], values[3] - never.recall(keys[3])) < 1e-8


# ------------------------------------------------------------------------------------------- states, refusals


def test_one_factorisation_for_every_state(monkeypatch):
    keys, values = noisy_pairs(400)  # the second block is too large to wait
    memory, made = memory_of(keys[:30], values[:30], Ridge(alpha=0.5)), []
    original = assocmem.operations.confidence.regularised
    counted = lambda *given: made.append(1) or original(*given)  # noqa: E731
    monkeypatch.setattr(assocmem.operations.confidence, "regularised", counted)
    for _ in range(3):
        memory.recall(keys, return_confidence=True)
        memory.leverage(keys)
    assert len(made) == 1
    memory.store(keys[30:], values[30:])
    fresh = memory_of(keys, values, Ridge(alpha=0.5))
    assert relative(memory.leverage(keys), fresh.leverage(keys)) < 1e-12
    assert (
        relative(memory.recall(keys, return_confidence=True)[1], fresh.recall(keys, return_confidence=True)[1]) < 1e-9
    )


@pytest.mark.parametrize("rule", [Ridge(alpha=0.5), RecursiveLeastSquares(alpha=0.5)], ids=str)
def test_value_and_deviation_are_of_one_state(rule):
    """While a writer stores and forgets, a recall sees the state before or after a write in both of its results."""
    keys, values = noisy_pairs(60)
    memory = memory_of(keys[:30], values[:30], rule)
    known = [memory.recall(keys[:3], return_confidence=True)]
    memory.store(keys[30:], values[30:])
    known.append(memory.recall(keys[:3], return_confidence=True))
    stop = threading.Event()

    def write():
        while not stop.is_set():
            memory.forget(keys[30:], values[30:])
            memory.store(keys[30:], values[30:])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(150):
            seen = memory.recall(keys[:3], return_confidence=True)
            assert any(all(relative(s, k) < 1e-7 for s, k in zip(seen, state, strict=True)) for state in known)
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("rule", [Hebbian(), DeltaRule()], ids=str)
def test_rules_without_a_gram_matrix_refuse(rule):
    memory = memory_of(*noisy_pairs(5), rule)
    key, value = np.ones(KEY_DIM), np.ones(2)
    for call, what in (
        (lambda: memory.leverage(key), "leverage"),
        (lambda: memory.recall(key, return_confidence=True), "standard deviations"),
        (lambda: memory.leave_one_out(key, value), "leave-one-out residuals"),
    ):
        with pytest.raises(
            ValueError, match=rf"rule '{rule.name}' has no {what}, since it keeps no Gram matrix.*'rls'"
        ):
            call()


def test_forgetting_factors_have_leverage_but_no_deviation():
    memory = memory_of(*noisy_pairs(5), RecursiveLeastSquares(alpha=1.0, decay=0.9))
    assert memory.leverage(np.ones(KEY_DIM)) > 0
    for call in (
        lambda: memory.recall(np.ones(KEY_DIM), return_confidence=True),
        lambda: memory.leave_one_out(np.ones(KEY_DIM), np.ones(2)),
    ):
        with pytest.raises(ValueError, match=r"decay=0.9 has no .*build the memory with decay=1.0.*leverage\(\)"):
            call()


def test_nothing_stored_and_never_stored_are_refused():
    memory = AssociativeMemory(KEY_DIM, 2, expansion=EXPANSION)
    key, value = np.ones(KEY_DIM), np.ones(2)
    for call in (
        lambda: memory.leverage(key),
        lambda: memory.recall(key, return_confidence=True),
        lambda: memory.leave_one_out(key, value),
    ):
        with pytest.raises(ValueError, match="nothing is stored, so there are no pairs"):
            call()
    keys, values = noisy_pairs(5)
    memory.store(keys, values)
    with pytest.raises(
        ValueError, match=r"key 5 has leverage .*a stored key has at most 1.*exactly as they were stored"
    ):
        memory.leave_one_out(np.vstack([keys, key]), np.vstack([values, value]))
    assert memory.leverage(np.empty((0, KEY_DIM))).shape == (0,)
    assert memory.leave_one_out(np.empty((0, KEY_DIM)), np.empty((0, 2))).shape == (0, 2)


def test_confidence_is_refused_where_noise_stands_for_pairs():
    memory = AssociativeMemory(8, 2, rule=Ridge(1.0))
    memory.store(FIRST_KEYS[:20], FIRST_VALUES[:20], query_cosine=0.8)
    with pytest.raises(ValueError, match=r"20 pairs were stored with noise.*standard deviations"):
        memory.recall(FIRST_KEYS[0], return_confidence=True)
    with pytest.raises(ValueError, match=r"20 pairs were stored with noise.*leave-one-out"):
        memory.leave_one_out(FIRST_KEYS[:2], FIRST_VALUES[:2])
    memory.forget(FIRST_KEYS[:20], FIRST_VALUES[:20], query_cosine=0.8)
    memory.store(FIRST_KEYS[:20], FIRST_VALUES[:20])
    assert memory.leave_one_out(FIRST_KEYS[:2], FIRST_VALUES[:2]).shape == (2, 2)
