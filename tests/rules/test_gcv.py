"""Generalised cross-validation: what it predicts, what it chooses, and that rounding is no freedom."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import RidgeCV

from assocmem import AssociativeMemory, Ridge
from assocmem.rules import Shape, gcv
from tests import naive
from tests.helpers import pairs, relative


def stored(rule, features, values):
    """The state of a rule after the pairs, in the features themselves."""
    state = rule.start(Shape(features.shape[1], 0, True, values.shape[1], np.dtype(np.float64)))
    rule.store(state, features, values)
    return state


def linear(n, rank, noise, seed=0, n_outputs=2):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, rank))
    values = features @ rng.standard_normal((rank, n_outputs)) / np.sqrt(rank)
    return features, values + noise * rng.standard_normal(values.shape)


# -------------------------------------------------------------------------------------------------- what it chooses


@given(decay=st.sampled_from([1.0, 0.99, 0.95, 0.9, 0.7]), rank=st.sampled_from([6, 40]), seed=st.integers(0, 9))
def test_no_penalty_has_a_smaller_score(decay, rank, seed):
    features, values = linear(120, rank, 0.5, seed)
    rule = Ridge("gcv", decay=decay)
    chosen = rule.alpha_for(stored(rule, features, values))
    score = naive.gcv_score(features, values, chosen, decay)
    for factor in (0.01, 0.2, 0.5, 0.8, 1.25, 2.0, 5.0, 100.0):
        assert score <= naive.gcv_score(features, values, chosen * factor, decay) * (1 + 1e-5)


@pytest.mark.parametrize("rank", [8, 40])
@pytest.mark.parametrize("decay", [1.0, 0.97, 0.9])
def test_the_score_is_that_of_leaving_each_pair_out(decay, rank):
    features, values = linear(150, rank, 0.3, n_outputs=50)
    for alpha in (0.1, 1.0, 10.0):
        exact = naive.left_out_score(features, values, alpha, decay)
        assert np.isclose(naive.gcv_score(features, values, alpha, decay), exact, rtol=0.2)


@pytest.mark.parametrize("noise", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("decay", [0.9, 0.95, 0.98, 0.99, 0.999, 1.0])
@pytest.mark.parametrize("key_dim", [8, 64])
def test_recalls_of_new_keys_are_nearly_as_good_as_with_the_best_penalty(key_dim, decay, noise):
    """Also where there are fewer effective pairs than dimensions: D is 40 and 320."""
    memory = AssociativeMemory(key_dim, 4, rule=Ridge("gcv", decay=decay))
    keys, values = linear(700, key_dim, noise, 1, 4)
    queries, truth = linear(300, key_dim, 0.0, 1, 4)
    truth = queries @ np.linalg.lstsq(keys, linear(700, key_dim, 0.0, 1, 4)[1], rcond=None)[0]
    memory.store(keys, values)
    level = np.linalg.norm(memory.features.fold(keys)) ** 2 / memory.rank

    def error(recalling):
        return np.linalg.norm(recalling.recall(queries) - truth)

    best = min(error(memory.with_rule(Ridge(level * a, decay=decay))) for a in 10.0 ** np.arange(-9, 2.5))
    assert error(memory) < 1.2 * best


def test_the_sums_of_ten_million_fading_pairs_take_no_longer():
    ages = gcv.Ages.of(10_000_000, 0.9999)
    assert len(ages.weights) < 5000
    assert np.isclose(ages.counts @ ages.weights, 1 / (1 - 0.9999), rtol=1e-4)
    exact = 0.9999 ** np.arange(600_000)
    for like in (1e-3, 1.0, 1e6):
        spare = ages.n - (exact * like / (1 + exact * like)).sum()
        assert np.isclose(ages.freedom(np.array([spare]))[0], (exact / (1 + exact * like) ** 2).sum(), rtol=1e-3)


@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_nothing_stored_and_values_of_zero_have_a_penalty_too(decay):
    memory = AssociativeMemory(8, 2, rule=Ridge("gcv", decay=decay))
    assert memory.alpha is None
    memory.store(pairs(30, 8, 2)[0], np.zeros((30, 2)))
    assert np.isfinite(memory.alpha)
    assert not memory.recall(pairs(3, 8, 2)[0]).any()


def test_the_chosen_penalty_is_kept_with_the_solution(monkeypatch):
    calls = []
    eigh = gcv.scipy.linalg.eigh
    monkeypatch.setattr(gcv.scipy.linalg, "eigh", lambda *a, **k: calls.append(1) or eigh(*a, **k))
    memory = AssociativeMemory(8, 1, rule=Ridge("gcv"))
    assert memory.alpha is None
    memory.store(*pairs(50, 8, 1))
    first = memory.alpha
    memory.recall(pairs(1, 8, 1)[0])
    assert memory.alpha == memory.solution.alpha == first
    assert len(calls) == 1
    memory.store(*pairs(50, 8, 1, seed=1))
    assert memory.alpha != first
    assert len(calls) == 2


# --------------------------------------------------------------------------------------- rounding is no freedom


@pytest.mark.parametrize("lengths", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("n", [20, 400])
def test_after_a_deletion_it_chooses_as_if_the_pairs_had_never_been_there(n, lengths):
    keys, values = linear(n, 64, 3.0 if n == 20 else 0.3, n_outputs=3)  # of 20 pairs without noise the score falls to 0
    other_keys, other_values = pairs(200, 64, 3, seed=1)
    fresh, used = (AssociativeMemory(64, 3, rule=Ridge("gcv")) for _ in range(2))
    fresh.store(keys, values)
    used.store(keys, values)
    used.store(lengths * other_keys, other_values)
    used.forget(lengths * other_keys, other_values)
    assert abs(np.log(used.alpha / fresh.alpha)) < 0.01 * abs(np.log(fresh.alpha))
    assert relative(used.recall(keys), fresh.recall(keys)) < 1e-3


def test_after_a_deletion_of_larger_values_it_chooses_as_before():
    keys, values = linear(400, 16, 0.3)
    other_keys, other_values = pairs(100, 16, 2, seed=1)
    fresh, used = (AssociativeMemory(16, 2, rule=Ridge("gcv")) for _ in range(2))
    fresh.store(keys, values)
    used.store(keys, values)
    used.store(other_keys, 1e4 * other_values)
    used.forget(other_keys, 1e4 * other_values)
    assert abs(np.log(used.alpha / fresh.alpha)) < 0.01 * abs(np.log(fresh.alpha))


# ------------------------------------------------------------------------------------------------ the band matrix


@pytest.mark.parametrize(("n", "noise"), [(100, 0.5), (400, 0.5), (400, 3.0), (100, 0.0)])
def test_a_band_matrix_leads_to_the_penalty_of_the_eigenvectors(n, noise, monkeypatch):
    features, values = linear(n, 200, noise)
    rule = Ridge("gcv")
    state = stored(rule, features, values)
    expected = rule.alpha_for(state)
    monkeypatch.setattr(gcv, "SMALLEST_BANDED", 1)
    assert abs(np.log10(rule.alpha_for(state) / expected)) < 1e-3


# --------------------------------------------------------------------------------------------- one for every output


def many_outputs(n=150):
    rng = np.random.default_rng(2)
    keys = rng.standard_normal((n, 16))
    values = np.stack([keys[:, 0], keys[:, 1] + rng.standard_normal(n), 1e3 * rng.standard_normal(n)], axis=1)
    return keys, values


@pytest.mark.parametrize("decay", [1.0, 0.98])
def test_each_output_has_the_penalty_that_it_would_have_alone(decay):
    keys, values = many_outputs()
    memory = AssociativeMemory(16, 3, rule=Ridge("gcv", decay=decay, per_output=True))
    memory.store(keys, values)
    assert memory.alpha.shape == (3,)
    for j in range(3):
        alone = AssociativeMemory(16, 1, rule=Ridge("gcv", decay=decay))
        alone.store(keys, values[:, [j]])
        assert np.isclose(np.log(memory.alpha[j]), np.log(alone.alpha), rtol=1e-2, atol=1e-2)
        fixed = AssociativeMemory(16, 1, rule=Ridge(float(memory.alpha[j]), decay=decay))
        fixed.store(keys, values[:, [j]])
        assert relative(memory.recall(keys)[:, [j]], fixed.recall(keys)) < 1e-7


def test_penalties_per_output_are_those_of_scikit_learn():
    keys, values = many_outputs()
    memory = AssociativeMemory(16, 3, whiten=False, rule=Ridge("gcv", per_output=True))
    memory.store(keys, values)
    alphas = np.logspace(-6, 8, 281)
    theirs = RidgeCV(alphas, fit_intercept=False, alpha_per_target=True).fit(memory.features.fold(keys), values)
    # scikit-learn leaves each pair out exactly. The last output is noise, of which nothing is to be kept.
    assert np.isclose(np.log10(memory.alpha[1]), np.log10(theirs.alpha_[1]), atol=0.1)
    assert min(memory.alpha[2], theirs.alpha_[2]) > 1e3 * memory.alpha[1]


def test_penalties_per_output_are_saved_merged_forgotten_and_edited(tmp_path):
    keys, values = many_outputs()
    rule = Ridge("gcv", per_output=True)
    whole, one, other = (AssociativeMemory(16, 3, rule=rule) for _ in range(3))
    assert whole.alpha is None
    whole.store(keys, values)
    one.store(keys[:70], values[:70])
    other.store(keys[70:], values[70:])
    assert relative(one.merge(other).alpha, whole.alpha) < 1e-3
    whole.save(tmp_path / "memory")
    loaded = AssociativeMemory.load(tmp_path / "memory")
    assert loaded.rule == rule
    assert (loaded.alpha == whole.alpha).all()
    whole.forget(keys[70:], values[70:])
    assert relative(whole.alpha, one.alpha) < 1e-3
    assert whole.solution.solver == "eigenvectors"
    assert whole.solution.condition >= 1


def test_what_needs_one_penalty_for_all_outputs_is_refused():
    keys, values = many_outputs()
    memory = AssociativeMemory(16, 3, rule=Ridge("gcv", per_output=True))
    memory.store(keys, values)
    before = memory.recall(keys)
    for asked in (
        lambda: memory.leverage(keys),
        lambda: memory.recall(keys, return_confidence=True),
        lambda: memory.leave_one_out(keys, values),
        lambda: memory.diagnose(),
    ):
        with pytest.raises(ValueError, match=r"has a penalty for every output.*with_rule"):
            asked()
    assert memory.error_bound is None
    assert (memory.recall(keys) == before).all()
    memory.edit(keys[0], [7.0, 8.0, 9.0])
    assert np.allclose(memory.recall(keys[0]), [7.0, 8.0, 9.0])
    fixed = memory.with_rule(Ridge(float(memory.alpha[1])))
    assert np.allclose(memory.recall(keys)[:, 1], fixed.recall(keys)[:, 1])


@pytest.mark.parametrize(("options", "error"), [
    ({"alpha": 1.0, "per_output": True}, ValueError),
    ({"query_cosine": 0.9, "per_output": True}, ValueError),
    ({"alpha": "gcv", "per_output": "yes"}, TypeError),
])  # fmt: skip
def test_penalties_per_output_are_for_those_that_are_chosen(options, error):
    with pytest.raises(error, match="per_output"):
        Ridge(**options)
