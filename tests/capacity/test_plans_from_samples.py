"""Plans from a sample of keys: what they predict against memories that store such keys, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from assocmem import AssociativeMemory, Hebbian, Ridge
from assocmem.capacity import noisy_keys, plan
from assocmem.capacity.samples import KeySample
from assocmem.rules import Shape

DIGITS = np.random.default_rng(0).permutation(load_digits().data / 16)
RANDOM = np.random.default_rng(1).standard_normal((1800, 40))
UNEQUAL = RANDOM * np.exp(np.random.default_rng(2).standard_normal((1800, 1)))  # lengths from 0.1 to 10


def wrong_signs(memory: AssociativeMemory, keys: np.ndarray, cosine: float) -> float:
    """Share of wrong signs after storing random ±1 values."""
    rng = np.random.default_rng(2)
    values = rng.choice([-1.0, 1.0], (len(keys), memory.value_dim))
    memory.store(keys, values)
    return float((memory.recall(noisy_keys(keys, cosine, rng)) * values < 0).mean())


@pytest.mark.parametrize("keys", [DIGITS, RANDOM, UNEQUAL], ids=["digits", "random", "unequal"])
@pytest.mark.parametrize(
    ("rule", "share", "pairs", "cosine"),
    [
        ("ridge", 0.3, 150, 0.9),
        ("ridge", 0.3, 500, 0.9),
        ("ridge", 1.0, 1000, 1.0),
        ("hebbian", 0.0, 100, 0.9),
        ("hebbian", 0.0, 600, 1.0),
    ],
)
def test_so_many_stored_pairs_have_the_predicted_error(keys, rule, share, pairs, cosine) -> None:
    key_dim, expansion = keys.shape[1], 2
    memory = AssociativeMemory(key_dim, 40, expansion=expansion)
    sample = KeySample(keys[:300], key_dim, None, cosine)
    scale = np.mean(np.sum(memory.features.fold(keys[:300]) ** 2, axis=1)) / memory.rank
    chosen = Hebbian() if rule == "hebbian" else Ridge(alpha=share * pairs * scale)
    predicted = sample.error(chosen, pairs, expansion, share * pairs / memory.rank, "sign", 40)
    memory = AssociativeMemory(key_dim, 40, expansion=expansion, rule=chosen)
    assert wrong_signs(memory, keys[300 : 300 + pairs], cosine) == pytest.approx(predicted, rel=0.12, abs=0.007)


@pytest.mark.parametrize(
    ("wish", "pairs"),
    [
        ({"error": 0.01}, 100),
        ({"error": 0.2, "query_cosine": 0.95}, 100),
        ({"error": 0.25, "query_cosine": 0.9, "rule": "rls"}, 100),
        ({"error": 0.2, "query_cosine": 0.9, "memory_bytes": 2_000_000}, None),
        ({"error": 0.2, "query_cosine": 0.9, "rule": "hebbian"}, 5),
    ],
    ids=str,
)
def test_a_plan_from_digits_keeps_its_promise(wish: dict, pairs: int | None) -> None:
    answer = plan(64, 40, pairs, keys=DIGITS[:400], **wish)
    assert answer.sample_size == 400
    assert answer.predicted_error <= wish["error"]
    assert answer.bytes_in_memory <= wish.get("memory_bytes", answer.bytes_in_memory)
    assert 400 + answer.pairs <= len(DIGITS)
    rounds = -(-300 // answer.pairs)  # few pairs are stored several times, each time others
    stored = [DIGITS[400 + i * answer.pairs : 400 + (i + 1) * answer.pairs] for i in range(min(rounds, 20))]
    measured = np.mean([wrong_signs(answer.build(), keys, answer.query_cosine) for keys in stored])
    assert measured == pytest.approx(answer.predicted_error, rel=0.15, abs=0.007)
    assert plan(64, 40, 100, error=0.1, query_cosine=0.9).sample_size == 0


def test_the_expansion_is_the_smallest_that_the_sample_allows() -> None:
    answer = plan(64, 4, 100, error=0.2, query_cosine=0.95, keys=DIGITS[:300])
    sample = KeySample(DIGITS[:300], 64, None, 0.95)
    assert answer.expansion > 1
    for expansion, allowed in ((answer.expansion - 1, False), (answer.expansion, True)):
        penalty = Ridge().tuned(0.95, 100, Shape(64, expansion, True, 4, np.dtype(np.float64)))[1]
        assert (sample.error(Ridge(), 100, expansion, penalty, "sign", 4) <= 0.2) == allowed


def test_the_scale_of_the_keys_does_not_matter() -> None:
    plans = [plan(64, 4, 60, error=0.25, query_cosine=0.9, keys=c * DIGITS[:100]) for c in (1.0, 1e100, 1e-100)]
    assert {(each.expansion, round(each.predicted_error, 9)) for each in plans} == {
        (plans[0].expansion, round(plans[0].predicted_error, 9))
    }
    recursive = [plan(64, 4, 60, error=0.25, query_cosine=0.9, keys=c * DIGITS[:100], rule="rls") for c in (1.0, 10.0)]
    assert recursive[1].rule.alpha == pytest.approx(100 * recursive[0].rule.alpha)


def test_queries_of_the_user_take_the_place_of_noise_at_a_cosine() -> None:
    keys = DIGITS[:300]
    queries = noisy_keys(keys, 0.9, np.random.default_rng(7))
    given = plan(64, 4, 60, error=0.25, keys=keys, queries=queries)
    drawn = plan(64, 4, 60, error=0.25, keys=keys, query_cosine=0.9)
    assert given.query_cosine == pytest.approx(0.9)
    assert given.rule == Ridge(query_cosine=0.9)
    assert given.predicted_error == pytest.approx(drawn.predicted_error, rel=0.1)
    erased = keys * (np.arange(64) >= 16)  # the upper quarter of every picture is lost
    damaged = plan(64, 4, 60, error=0.4, keys=keys, queries=erased)
    assert damaged.query_cosine < 1
    assert damaged.predicted_error <= 0.4


def test_what_no_expansion_reaches_is_said_with_the_nearest_that_can_be_reached() -> None:
    with pytest.raises(ValueError, match=r"keys like the sample .* Possible are up to \d+ pairs, or an error of") as no:
        plan(64, 4, 200, error=0.1, query_cosine=0.9, keys=DIGITS[:200])
    words = str(no.value).split("Possible are up to ")[1].split()
    held, error = int(words[0]), float(words[-1])
    assert plan(64, 4, held, error=0.1, query_cosine=0.9, keys=DIGITS[:200]).pairs == held
    assert plan(64, 4, 200, error=1.01 * error, query_cosine=0.9, keys=DIGITS[:200]).pairs == 200


def test_a_sample_too_small_says_so_instead_of_guessing() -> None:
    assert plan(64, 4, 90, keys=DIGITS[:100]).predicted_error <= 0.01
    with pytest.raises(ValueError, match="100 sample keys are too few to tell about 400 pairs"):
        plan(64, 4, 400, keys=DIGITS[:100])
    with pytest.raises(ValueError, match="100 sample keys are too few to tell about 101 pairs"):
        plan(64, 4, memory_bytes=10**7, keys=DIGITS[:100])


def test_expansions_too_small_for_the_pairs_that_a_sample_tells_about_are_passed_over() -> None:
    with pytest.raises(ValueError, match="to tell about 500 pairs in rank 1088"):
        plan(64, 4, 500, error=0.1, query_cosine=0.95, keys=DIGITS[:60])
    sample = KeySample(DIGITS[:60], 64, None, 0.95)
    with pytest.raises(ValueError, match="to tell about 500 pairs in rank 320"):
        sample.error(
            Ridge(), 500, 4, Ridge().tuned(0.95, 500, Shape(64, 4, True, 4, np.dtype(np.float64)))[1], "sign", 4
        )


def test_a_sample_of_the_largest_size_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assocmem.capacity.samples.MOST", 60)
    with pytest.raises(ValueError, match="Of a sample no more than 60 keys are used"):
        plan(64, 4, 400, keys=DIGITS[:100])


NAN = DIGITS[:100].copy()
NAN[3, 5] = np.nan


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keys": DIGITS[:100, :60]}, r"keys have shape \(100, 60\); expected \(N, 64\)"),
        ({"keys": DIGITS[:20]}, "20 sample keys; expected at least 50"),
        ({"keys": NAN}, "keys row 3, column 5 is nan"),
        ({"keys": np.zeros((100, 64))}, "all zeros"),
        ({"queries": DIGITS[:100]}, "queries were given without keys"),
        ({"keys": DIGITS[:100], "queries": DIGITS[:90]}, "expected a noisy query for every key"),
        ({"keys": DIGITS[:100], "queries": NAN}, "queries row 3, column 5 is nan"),
        ({"keys": DIGITS[:100], "queries": -DIGITS[:100]}, "Check the order"),
        ({"keys": DIGITS[:100], "queries": DIGITS[:100], "query_cosine": 0.9}, "pass one of them"),
        ({"keys": DIGITS[:100], "rule": "delta"}, "a sample of keys tells the error of 'ridge', 'rls' and 'hebbian'"),
    ],
    ids=lambda entry: entry if isinstance(entry, str) else "",
)
def test_what_cannot_be_a_sample_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(64, 4, 50, **options)


def test_of_very_many_keys_some_at_equal_distances_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assocmem.capacity.samples.MOST", 60)
    many = np.repeat(DIGITS[:60], 10, axis=0)
    found, expected = (plan(64, 1, 40, error=0.4, query_cosine=0.9, keys=keys) for keys in (many, DIGITS[:60]))
    assert found == expected
