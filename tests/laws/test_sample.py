"""Predictions from a sample of keys: against one explicit inverse for every key left out, and their limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assocmem.laws import ridge_law
from assocmem.laws.sample import SampledKeys, SampleTooSmallError, mean_error
from tests import naive


def correlated(n: int, rank: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features with a mean and a decaying spectrum, and noisy versions of them."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, rank)) / np.sqrt(np.arange(1, rank + 1)) + 0.3
    return features, 0.8 * features + 0.3 * rng.standard_normal((n, rank))


def sampled(features: np.ndarray, queries: np.ndarray | None = None) -> SampledKeys:
    return SampledKeys(features @ features.T, features.shape[1], None if queries is None else queries @ features.T)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("n", "rank"), [(14, 8), (10, 14)])
@pytest.mark.parametrize(("factor", "share"), [(0.4, 0.05), (1.0, 1.0), (3.0, 2.0)])
def test_recalls_are_those_of_the_scaled_sample_with_each_key_left_out(n, rank, factor, share, seed) -> None:
    features, queries = correlated(n, rank, seed)
    pairs, alpha = max(1, round(factor * n)), share * np.trace(features @ features.T) / rank
    keys = sampled(features, queries)
    law = keys.ridge(pairs, alpha)
    shares, variances = naive.recalls_from_sample(features, queries, pairs, alpha)
    np.testing.assert_allclose(law.mean, shares, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(law.variance, variances, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(law.shortfall, 1 - shares, rtol=1e-6, atol=1e-8)


def test_the_equivalent_penalty_of_as_many_pairs_is_the_penalty() -> None:
    keys = sampled(*correlated(40, 25, 0))
    assert keys.equivalent_penalty(40, 3.0) == pytest.approx(3.0)
    assert keys.equivalent_penalty(60, 3.0) < 3.0 < keys.equivalent_penalty(20, 3.0)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(3, 20), pairs=st.integers(1, 100), seed=st.integers(0, 99))
def test_hebbian_crosstalk_is_that_of_the_other_keys(n, pairs, seed) -> None:
    features, queries = correlated(n, 12, seed)
    law = sampled(features, queries).hebbian(pairs)
    for i in range(n):
        assert law.mean[i] == pytest.approx(queries[i] @ features[i] / (features[i] @ features[i]))
        others = [(queries[i] @ features[j] / (features[j] @ features[j])) ** 2 for j in range(n) if j != i]
        assert law.variance[i] == pytest.approx((pairs - 1) * np.mean(others), abs=1e-9)


@pytest.mark.parametrize(("load", "penalty"), [(0.5, 0.05), (0.5, 0.0), (1.5, 0.5), (3.0, 0.0)])
def test_isotropic_features_have_the_law_of_random_keys(load: float, penalty: float) -> None:
    rank, n = 120, 300
    features = np.random.default_rng(0).standard_normal((n, rank))
    law = sampled(features).ridge(round(load * rank), penalty * rank)
    known = ridge_law(load, penalty)
    assert law.mean.mean() == pytest.approx(float(known.mean), abs=0.02)
    assert mean_error(law, "sign", 1) == pytest.approx(float(known.sign_error), rel=0.1, abs=0.002)
    assert mean_error(law, "gaussian", 1) == pytest.approx(float(known.mean_squared_error), rel=0.1, abs=0.01)
    assert mean_error(law, "onehot", 5) == pytest.approx(float(known.wrong_class(5)), rel=0.1, abs=0.002)


def test_a_sample_too_small_for_so_small_a_penalty_says_how_many_keys_are_needed() -> None:
    features, _ = correlated(600, 200, 1)
    small = sampled(features[:60])
    assert np.isfinite(small.ridge(50, 0.0).variance).all()
    with pytest.raises(SampleTooSmallError, match="60 sample keys are too few to tell about 100 pairs in rank 200"):
        small.ridge(100, 0.0)
    with pytest.raises(SampleTooSmallError, match=r"only about up to \d+\. Pass at least about \d+ keys") as refusal:
        small.ridge(150, 1.0)
    known, needed = refusal.value.known, int(str(refusal.value).split("at least about ")[1].split()[0])
    assert 60 < known < 150
    assert 60 < needed < 150
    assert np.isfinite(sampled(features[:needed]).ridge(150, 1.0).variance).all()
    assert np.isfinite(small.ridge(known - 1, (known - 1) / 150).variance).all()
