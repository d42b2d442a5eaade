"""Diagnosis of real keys: pretended recalls are those of storing, predictions those that are measured."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from assocmem import AssociativeMemory, DeltaRule, Hebbian, RecursiveLeastSquares, Ridge
from assocmem.capacity import noisy_keys
from assocmem.core import files
from assocmem.laws.real_keys import Spectrum, pretended_error
from assocmem.operations import from_sums, rehearsal
from assocmem.operations.diagnosis import Diagnosing
from tests import naive
from tests.helpers import RULES, pairs, relative

DIGITS = np.random.default_rng(0).permutation(load_digits().data / 16)
PRETENDING = [name for name in RULES if name != "diagonal"]


def signs(n, value_dim, seed=0):
    return np.random.default_rng(seed).choice([-1.0, 1.0], (n, value_dim))


def measured(memory, keys, values, cosine):
    """Wrong signs of the recalls of stored keys, at a cosine."""
    recalled = memory.recall(noisy_keys(keys, cosine, np.random.default_rng(7)))
    return float(np.mean(recalled * values < 0))


def filled(n, rule, keys=DIGITS, expansion=2, value_dim=32, **options):
    memory = AssociativeMemory(keys.shape[1], value_dim, expansion=expansion, rule=rule, **options)
    values = signs(n, value_dim)
    memory.store(keys[:n], values)
    return memory, keys[:n], values


def mean_eigenvalue(n, keys=DIGITS, expansion=2):
    features = AssociativeMemory(keys.shape[1], 1, expansion=expansion).features.fold(keys[:n])
    return float((features**2).sum()) / features.shape[1]


# ------------------------------------------------------------------------------------------------- pretend to store


@pytest.mark.parametrize("name", PRETENDING)
@given(n=st.sampled_from([0, 5, 15, 60]), bias=st.sampled_from([0.0, 0.7]), seed=st.integers(0, 99))
def test_a_pretended_recall_is_that_after_storing_the_pair(name, n, bias, seed):
    rule, _ = RULES[name]
    memory = AssociativeMemory(6, 2, expansion=2, rule=rule, bias=bias, seed=seed)
    memory.store(*pairs(n, 6, 2, seed))
    (keys, values), (queries, _) = pairs(3, 6, 2, seed + 100), pairs(3, 6, 2, seed + 200)
    sample = rehearsal.Sample(keys, queries[:, None], 0.5)
    before = memory.recall(queries)
    shares, crosstalk = rehearsal.recalls(memory._cell, sample)[1]
    for i in range(3):
        more = memory.copy()
        more.store(keys[i], values[i])
        assert relative(shares[i] * values[i] + crosstalk[i], more.recall(queries[i])) < 1e-9
    assert (memory.recall(queries) == before).all()


@pytest.mark.parametrize("name", PRETENDING)
def test_shares_and_crosstalk_are_those_of_the_oracle(name):
    rule, oracle = RULES[name]
    memory = AssociativeMemory(6, 2, expansion=2, rule=rule)
    stored, (keys, _), (queries, _) = pairs(9, 6, 2), pairs(2, 6, 2, 1), pairs(2, 6, 2, 2)
    memory.store(*stored)
    shares, crosstalk = rehearsal.recalls(memory._cell, rehearsal.Sample(keys, queries[:, None], 0.5))[1]
    features, fold = memory.features.fold(stored[0]), memory.features.fold
    for i in range(2):
        share, rest = naive.pretended(oracle, features, stored[1], fold(keys[i]), fold(queries[i]))
        assert relative(shares[i], share) < 1e-9
        assert relative(crosstalk[i], rest) < 1e-9


def test_edits_are_kept_while_pretending():
    keys, values = pairs(15, 6, 2)
    memory = AssociativeMemory(6, 2, expansion=2, rule=Ridge(1.0))
    memory.store(keys, values)
    memory.edit(keys[0], [3.0, -3.0])
    memory.edit(keys[1], [1.0, 2.0], penalty=0.5)
    fresh, value = pairs(1, 6, 2, 5)
    shares, crosstalk = rehearsal.recalls(memory._cell, rehearsal.Sample(fresh, None, 1.0))[0]
    memory.store(fresh, value)
    assert relative(shares[0] * value[0] + crosstalk[0], memory.recall(fresh[0])) < 1e-9


@given(seed=st.integers(0, 999), kind=st.sampled_from(["sign", "gaussian", "onehot"]))
def test_the_error_of_pretended_recalls_is_the_mean_over_keys_and_values(seed, kind):
    rng = np.random.default_rng(seed)
    shares, crosstalk, sizes = rng.uniform(-0.2, 1, 6), 0.7 * rng.standard_normal((6, 4)), rng.uniform(0.5, 2, 4)
    oracle = np.mean([naive.error_of_recalls(kind, s, t, sizes) for s, t in zip(shares, crosstalk, strict=True)])
    assert np.isclose(pretended_error(kind, shares, crosstalk, sizes), oracle)


def test_errors_of_values_that_are_none_or_one_are_none():
    assert pretended_error("sign", np.ones(2), np.zeros((2, 1)), np.zeros(1)) == 0
    assert pretended_error("onehot", np.ones(2), np.ones((2, 1)), np.ones(1)) == 0
    assert pretended_error("sign", np.zeros(2), np.zeros((2, 1)), np.ones(1)) == 0.5


# ------------------------------------------------------------------------------------- predicted against measured


@pytest.mark.parametrize(("n", "share"), [(100, 1.0), (150, 0.01), (400, 0.1)])
@pytest.mark.parametrize("cosine", [1.0, 0.9])
def test_a_sample_and_the_sums_tell_the_errors_of_digits(n, share, cosine):
    memory, keys, values = filled(n, Ridge(share * mean_eigenvalue(n)))
    true = measured(memory, keys, values, cosine)
    by_sample = memory.diagnose(keys=DIGITS[1000:1400], query_cosine=cosine)
    alone = memory.diagnose(query_cosine=cosine)
    assert (by_sample.source, alone.source) == ("sample", "sums")
    assert abs(by_sample.noisy_error - true) < max(0.12 * true, 0.007)
    assert abs(alone.noisy_error - true) < max(0.15 * true, 0.01)


@pytest.mark.parametrize(("rule", "n"), [(Hebbian(), 60), (RecursiveLeastSquares(alpha=500.0), 150), (Ridge(), 150)])
def test_a_sample_tells_the_errors_under_other_rules(rule, n):
    memory, keys, values = filled(n, rule)
    for cosine in (1.0, 0.9):
        true = measured(memory, keys, values, cosine)
        predicted = memory.diagnose(keys=DIGITS[1000:1400], query_cosine=cosine).noisy_error
        assert abs(predicted - true) < max(0.12 * true, 0.01)


def test_the_newest_pair_is_told_under_the_delta_rule_and_a_decay():
    for rule in (DeltaRule(rate=0.5), Hebbian(decay=0.99), Ridge(1.0, decay=0.99)):
        memory, _, _ = filled(150, rule)
        wrong = []
        for i in range(1000, 1100):
            more, value = memory.copy(), signs(1, 32, i)[0]
            more.store(DIGITS[i], value)
            wrong.append(np.mean(more.recall(noisy_keys(DIGITS[i : i + 1], 0.9, np.random.default_rng(i))) * value < 0))
        predicted = memory.diagnose(keys=DIGITS[1000:1400]).noisy_error
        assert abs(predicted - np.mean(wrong)) < max(0.12 * np.mean(wrong), 0.01)


@pytest.mark.parametrize(("load", "share"), [(0.3, 0.1), (2.0, 1.0)])
def test_random_keys_are_told_as_well_as_by_their_law(load, share):
    keys = np.random.default_rng(1).standard_normal((1200, 48))
    rank = AssociativeMemory(48, 1, expansion=2).rank
    n = round(load * rank)
    memory, stored, values = filled(n, Ridge(share * mean_eigenvalue(n, keys)), keys)
    for cosine in (1.0, 0.9):
        true = measured(memory, stored, values, cosine)
        for sample in (keys[800:], None):
            predicted = memory.diagnose(keys=sample, query_cosine=cosine).noisy_error
            assert abs(predicted - true) < max(0.1 * true, 0.007)


def test_users_own_queries_take_the_place_of_drawn_ones():
    memory, _, _ = filled(150, Ridge(100.0))
    sample = DIGITS[1000:1200]
    rng = np.random.default_rng(3)
    own = memory.diagnose(keys=sample, queries=noisy_keys(sample, 0.8, rng))
    assert own.query_cosine == pytest.approx(0.8)
    drawn = memory.diagnose(keys=sample, query_cosine=0.8)
    assert abs(own.noisy_error - drawn.noisy_error) < 0.02
    assert memory.diagnose(keys=sample, queries=sample).noisy_error == own.clean_error
    several = np.stack([noisy_keys(sample, 0.8, rng) for _ in range(3)], axis=1)
    assert abs(memory.diagnose(keys=sample, queries=several).noisy_error - drawn.noisy_error) < 0.02


@pytest.mark.parametrize("kind", ["gaussian", "onehot"])
def test_other_kinds_of_values_are_told(kind):
    rng, n = np.random.default_rng(0), 150
    values = rng.standard_normal((n, 8)) if kind == "gaussian" else np.eye(8)[rng.integers(8, size=n)]
    memory = AssociativeMemory(64, 8, expansion=2, rule=Ridge(0.1 * mean_eigenvalue(n)))
    memory.store(DIGITS[:n], values)
    recalled = memory.recall(noisy_keys(DIGITS[:n], 0.9, rng))
    if kind == "gaussian":
        true = np.mean((recalled - values) ** 2) / np.mean(values**2)
    else:
        true = np.mean(recalled.argmax(axis=1) != values.argmax(axis=1))
    for sample in (DIGITS[1000:1400], None):
        assert abs(memory.diagnose(keys=sample, kind=kind).noisy_error - true) < max(0.15 * true, 0.03)


# ---------------------------------------------------------------------------------------------------------- room


def test_a_memory_is_like_itself_at_its_own_number_of_pairs():
    spectrum = Spectrum(np.geomspace(1e-3, 10, 50), 30)
    like = spectrum.equivalent(30, 0.2)
    assert np.allclose([like.penalty, like.scale, like.growth], [0.2, 1.0, 1.0])
    assert Spectrum(np.r_[np.zeros(20), np.ones(30)], 30).equivalent(1000, 1e-6) is None


def test_another_number_of_pairs_has_the_same_resolution():
    """df(α') + α/κ(α') = N; the variance grows as the slope of κ of N pairs over that of the sample does."""
    spectrum, n, alpha = Spectrum(np.geomspace(1e-3, 10, 50), 80), 200, 0.3

    def own(penalty):
        return penalty / (80 - sum(s / (s + penalty) for s in spectrum.values))

    def theirs(penalty):
        return own(spectrum.equivalent(n, penalty).penalty)

    like = spectrum.equivalent(n, alpha)
    freedom = sum(s / (s + like.penalty) for s in spectrum.values)
    assert np.isclose(freedom + alpha / own(like.penalty), n)
    assert np.isclose(like.scale, like.penalty / alpha)
    slopes = [(kappa(a * (1 + 1e-5)) - kappa(a * (1 - 1e-5))) / (2e-5 * a) for kappa, a in
              ((theirs, alpha), (own, like.penalty))]  # fmt: skip
    assert np.isclose(like.growth, slopes[0] / slopes[1], rtol=1e-4)


def test_clean_recalls_from_the_sums_are_those_of_the_stored_pairs():
    rng = np.random.default_rng(0)
    memory = AssociativeMemory(64, 3, expansion=2, rule=Ridge(800.0))
    values = rng.standard_normal((200, 3)) * [1.0, 10.0, 0.0] + [0.5, 0.0, 0.0]
    memory.store(DIGITS[:200], values)
    law, recalled = from_sums.recalled(memory._cell, 1.0), memory.recall(DIGITS[:200])
    for j in (0, 1):
        size = np.sqrt(np.mean(values[:, j] ** 2))
        share = np.mean(values[:, j] * recalled[:, j]) / size**2
        assert np.isclose(law.mean[j], share)
        assert np.isclose(law.variance[j], np.mean((recalled[:, j] - share * values[:, j]) ** 2) / size**2)
    assert len(law.mean) == 2  # an output without values tells nothing


def test_surrogate_keys_have_the_mean_and_covariance_of_the_stored_ones():
    memory, keys, _ = filled(800, Ridge(1.0), bias=0.7)
    drawn = from_sums.surrogates(memory._cell, 0.9).features[:, :65] / np.sqrt(65)
    assert np.allclose(drawn[:, 64], 0.7)
    assert np.abs(drawn[:, :64].mean(axis=0) - keys.mean(axis=0)).max() < 0.1
    theirs, ours = (np.linalg.eigvalsh(np.cov(rows.T))[-5:] for rows in (drawn[:, :64], keys))
    assert np.allclose(theirs, ours, rtol=0.25)


@pytest.mark.parametrize("cosine", [1.0, 0.9])
def test_a_memory_tells_of_three_times_as_many_pairs(cosine):
    alpha = 0.1 * mean_eigenvalue(190)
    memory, _, _ = filled(190, Ridge(alpha))
    more, keys, values = filled(570, Ridge(alpha))
    true = measured(more, keys, values, cosine)
    sample = rehearsal.Sample(DIGITS[1000:1400], None, cosine).drawn()
    for known in (None, sample):
        with memory._cell.writing:
            predicted = Diagnosing(memory._cell, "sign", cosine, 0.05, known).by_spectrum()
        assert predicted(570) == pytest.approx(true, rel=0.07)


def test_a_memory_as_its_own_sample_is_the_mean_over_keys_left_out():
    keys = np.random.default_rng(0).standard_normal((90, 16))
    memory = AssociativeMemory(16, 1, expansion=2, rule=Ridge(300.0))
    memory.store(keys, signs(90, 1))
    own, spectrum = from_sums.stored_keys(memory._cell, 0.9), from_sums.decomposed(memory._cell).spectrum
    own = dataclasses.replace(own, noise=np.zeros(48), drift=np.zeros(48))
    alpha = 300.0 / memory._cell.current().sums.level
    law = own.law(spectrum, spectrum.equivalent(90, alpha), 90)
    shrinkage = np.repeat(own.shrinkage, [16, 32])
    oracle = naive.left_out_variances(memory.features.fold(keys), shrinkage, float(law.mean), 300.0)
    assert law.variance == pytest.approx(oracle.mean(), rel=0.04)


@pytest.mark.parametrize("with_sample", [True, False])
def test_room_ends_where_the_measured_error_does(with_sample):
    n, penalty = 150, 0.3 * mean_eigenvalue(150)
    memory, _, _ = filled(n, Ridge(penalty))
    now = memory.diagnose(query_cosine=0.95)
    left = memory.diagnose(
        keys=DIGITS[1200:1600] if with_sample else None, query_cosine=0.95, error=now.noisy_error + 0.06
    ).pairs_left
    assert 20 < left < 1000
    more, keys, values = filled(n + left, Ridge(penalty))
    assert measured(more, keys, values, 0.95) == pytest.approx(now.noisy_error + 0.06, rel=0.12)


@pytest.mark.parametrize("with_sample", [True, False])
def test_room_without_a_penalty_is_that_of_the_law_matched_with_the_error_that_there_is(with_sample):
    keys = DIGITS - DIGITS.mean(axis=0)
    memory, _, _ = filled(70, Ridge(), keys)
    sample = keys[1200:1600] if with_sample else None
    now = memory.diagnose(keys=sample, query_cosine=0.97)
    report = memory.diagnose(keys=sample, query_cosine=0.97, error=now.noisy_error + 0.05)
    assert report.room_source == "law"
    more, stored, values = filled(70 + report.pairs_left, Ridge(), keys)
    assert 0 < report.pairs_left < 100
    assert measured(more, stored, values, 0.97) == pytest.approx(now.noisy_error + 0.05, rel=0.35)


def test_there_is_no_room_once_the_error_is_passed():
    memory, _, _ = filled(150, Ridge(1.0))
    assert memory.diagnose(query_cosine=0.8, error=0.01).pairs_left == 0
    assert memory.diagnose(keys=DIGITS[1000:1100], query_cosine=0.8, error=0.01).pairs_left == 0


# ------------------------------------------------------------------------------------------------- sums of the keys


def key_sum(memory):
    sums = memory._cell.current().sums
    return sums.key_sum / memory.features.kernel_arguments[2]


@pytest.mark.parametrize("rule", ["ridge", "rls"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sum_of_the_keys_is_stored_forgotten_and_merged(rule, dtype):
    one, other = (AssociativeMemory(6, 2, rule=rule, bias=2.0, dtype=dtype) for _ in range(2))
    keys, values = (table.astype(np.float32) for table in pairs(400, 6, 2))
    one.store(keys[:300], values[:300])
    one.store(keys[300], values[300])
    other.store(keys[301:], values[301:])
    whole = one.merge(other)
    assert relative(key_sum(whole), np.append(keys.sum(axis=0), 800.0)) < 1e-5
    whole.forget(keys[:100], values[:100])
    assert relative(key_sum(whole), np.append(keys[100:].sum(axis=0), 600.0)) < 1e-5


@pytest.mark.parametrize("rule", [Ridge(1.0, decay=0.95), RecursiveLeastSquares(1.0, decay=0.95)])
def test_the_sum_of_the_keys_fades(rule):
    memory = AssociativeMemory(6, 2, rule=rule, whiten=False)
    keys, values = pairs(70, 6, 2)
    for part in (slice(0, 1), slice(1, 50), slice(50, 70)):
        memory.store(keys[part], values[part])
        memory.recall(keys[0])
    assert relative(key_sum(memory), (0.95 ** np.arange(69, -1, -1)) @ keys) < 1e-12


def test_a_file_of_format_4_has_no_sum_of_keys_and_says_so(tmp_path):
    memory, keys, _ = filled(150, Ridge(500.0))
    memory.save(tmp_path / "memory")
    with safetensors.safe_open(tmp_path / "memory", framework="numpy") as file:
        header = json.loads(file.metadata()["assocmem"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert header["version"] == files.VERSION == 5
    header["version"] = 4
    del arrays["key_sum"]
    safetensors.numpy.save_file(arrays, tmp_path / "old", {"assocmem": json.dumps(header)})
    old = AssociativeMemory.load(tmp_path / "old")
    assert (old.recall(keys) == memory.recall(keys)).all()
    report = old.diagnose()
    assert report.source == "law"
    assert "held no sum of the keys" in report.warning
    assert memory.diagnose().source == "sums"
    assert old.diagnose(keys=DIGITS[1000:1100]).source == "sample"
    old.save(tmp_path / "again")
    again = AssociativeMemory.load(tmp_path / "again").merge(memory)
    assert again.diagnose().source == "law"
    assert (again.recall(keys) == memory.merge(memory).recall(keys)).all()


# ------------------------------------------------------------------------------------------------- the report


def test_rules_without_a_gram_matrix_say_that_they_know_random_keys_only():
    memory, _, _ = filled(60, Hebbian())
    report = memory.diagnose()
    assert report.source == "law"
    assert "keys with random directions" in str(report)
    assert np.isnan(report.effective_rank)
    assert np.isnan(report.unseen_error)
    forgetful, _, _ = filled(60, Hebbian(decay=0.9))
    assert forgetful.diagnose().source == "none"
    assert "unknown" in str(forgetful.diagnose())


def test_the_effective_rank_and_the_error_on_unseen_keys():
    n, alpha = 1000, 0.01 * mean_eigenvalue(1000)
    memory = AssociativeMemory(64, 3, expansion=2, rule=Ridge(alpha))
    weights = np.random.default_rng(0).standard_normal((64, 3))

    def teach(keys, seed):
        return np.tanh(2 * keys @ weights) + 0.3 * np.random.default_rng(seed).standard_normal((len(keys), 3))

    memory.store(DIGITS[:n], teach(DIGITS[:n], 1))
    features = memory.features.fold(DIGITS[:n])
    spectrum = np.linalg.eigvalsh(features.T @ features)
    report = memory.diagnose()
    assert np.isclose(report.effective_rank, (spectrum / (spectrum + alpha)).sum())
    unseen = teach(DIGITS[n:], 2)
    true = np.mean((memory.recall(DIGITS[n:]) - unseen) ** 2 / np.mean(unseen**2, axis=0))
    assert report.unseen_error == pytest.approx(true, rel=0.1)
    few, _, _ = filled(100, Ridge())
    assert np.isnan(few.diagnose().unseen_error)


def test_a_report_is_six_lines_and_warns_of_the_error_asked_for():
    memory, _, _ = filled(150, Ridge(500.0))
    report = memory.diagnose(query_cosine=0.8, error=0.001)
    lines = str(report).splitlines()
    assert [line.split()[0] for line in lines] == ["stored", "wrong", "predicted", "room", "unseen", "warning"]
    assert "150 pairs in rank 192" in lines[0]
    assert report.warning in lines[5]
    assert report.warning
    assert memory.diagnose(query_cosine=0.8, error=0.5).warning == ""
    assert "wrong classes  " in str(memory.diagnose(kind="onehot"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.diagnose(queries=DIGITS[:3]), "queries are given without keys"),
        (
            lambda m: m.diagnose(keys=DIGITS[:3], queries=DIGITS[:2]),
            r"queries have shape \(2, 64\); expected \(3, 64",
        ),
        (lambda m: m.diagnose(keys=DIGITS[:3, :5]), r"keys have shape \(3, 5\); expected"),
        (lambda m: m.diagnose(keys=DIGITS[:0]), "keys have no rows; pass a sample"),
        (lambda m: m.diagnose(keys=np.zeros((2, 64))), "row 0 of keys is all zeros, a key without a direction"),
        (lambda m: m.diagnose(keys=DIGITS[:1], queries=np.full((1, 64), np.inf)), "queries row 0, column 0 is inf"),
        (lambda m: m.diagnose(keys=np.full((2, 64), np.nan)), "keys row 0, column 0 is nan"),
    ],
)
def test_samples_that_do_not_fit_are_refused(call, message):
    memory, _, _ = filled(20, Ridge(1.0))
    with pytest.raises(ValueError, match=message):
        call(memory)


def test_what_cannot_be_pretended_is_refused():
    keys, values = pairs(15, 6, 2)
    outside = AssociativeMemory(6, 2, rule="diagonal")
    outside.store(keys, values)
    with pytest.raises(ValueError, match=r"'diagonal' does not tell what .* pretender"):
        outside.diagnose(keys=keys)
    noisy = AssociativeMemory(6, 2, rule=Ridge(1.0))
    noisy.store(keys, values, query_cosine=0.9)
    with pytest.raises(ValueError, match="15 pairs were stored with noise"):
        noisy.diagnose(keys=keys)
    edited = AssociativeMemory(6, 2, rule=Ridge(1.0))
    edited.store(keys, values)
    edited.edit(keys[:1], values[1:2], metric=keys)
    with pytest.raises(ValueError, match="edits in another metric leave no way"):
        edited.diagnose(keys=keys)
    assert [memory.diagnose().source for memory in (noisy, edited)] == ["law", "law"]


def test_the_spectrum_is_not_computed_for_large_ranks(monkeypatch):
    memory, _, _ = filled(150, Ridge(500.0))
    monkeypatch.setattr(from_sums, "LARGEST_SPECTRUM", 100)
    monkeypatch.setattr(from_sums, "decomposed", None)
    assert memory.diagnose(query_cosine=1.0, error=0.3).pairs_left is not None


def test_keys_of_one_length_beside_a_bias_are_no_gaussian_ones():
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((100, 16))
    memory = AssociativeMemory(16, 4, expansion=2, bias=1.0)
    keys, values = keys / np.linalg.norm(keys, axis=1, keepdims=True), rng.choice([-1.0, 1.0], (100, 4))
    memory.store(keys, values)
    report = memory.diagnose()
    assert np.isnan(report.noisy_error)
    assert report.pairs_left is None
    assert "too unlike Gaussian ones" in report.warning
    assert report.clean_error == pytest.approx(np.mean(memory.recall(keys) * values < 0), abs=0.02)


def test_keys_without_a_direction_have_no_noisy_versions():
    memory = AssociativeMemory(4, 1, bias=1.0)
    memory.store(np.zeros(4), [1.0])
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(memory.diagnose().clean_error)


def test_values_of_zero_tell_as_little_as_none():
    nothing = AssociativeMemory(64, 2, expansion=2, rule=Ridge(1.0))
    nothing.store(DIGITS[:60], np.zeros((60, 2)))
    assert 0.0 < nothing.diagnose(keys=DIGITS[100:160], kind="gaussian").clean_error < 1.0


def test_only_the_last_cosine_keeps_its_surrogates():
    memory, _, _ = filled(100, Ridge(1.0))
    for cosine in (0.5, 0.6, 0.7):
        memory.diagnose(query_cosine=cosine)
    kept = [name for name in memory._cell.view().derived if name.startswith("surrogates")]
    assert kept == ["surrogates at 0.7"]


def test_the_newest_pair_is_not_taken_for_all():
    memory = AssociativeMemory(64, 2, rule="delta")
    memory.store(DIGITS[:100], DIGITS[:100, :2])
    assert "those of the newest pair" in memory.diagnose(keys=DIGITS[100:160]).warning
