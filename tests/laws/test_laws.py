"""The laws: against 50-digit arithmetic in their textbook forms, their limits, and properties of the domain."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assocmem import laws
from assocmem.laws import channels

mpmath.mp.dps = 50

LOADS = st.floats(1e-6, 1e3) | st.sampled_from([0.5, 1.0, 1.0 + 1e-12, 1 - 1e-9])
PENALTIES = st.floats(-12, 6).map(lambda exponent: 10.0**exponent) | st.just(0.0)
COSINES = st.just(0.0) | st.floats(1e-12, 1) | st.floats(-15, 0).map(lambda exponent: 1 - 10.0**exponent)


def close(found: float, exact: mpmath.mpf, tolerance: float = 1e-9) -> bool:
    if exact < mpmath.mpf("1e-290"):
        return found < 1e-280
    return bool(abs(mpmath.mpf(float(found)) - exact) <= tolerance * exact)


def exact_cosine(rho: float, d: int, m: int) -> mpmath.mpf:
    if rho == 1:
        return mpmath.mpf(1)
    rho = mpmath.mpf(rho)
    even = (2 / mpmath.pi * (mpmath.sqrt(1 - rho**2) + rho * mpmath.asin(rho)) - 2 / mpmath.pi) / (1 - 2 / mpmath.pi)
    return (d * rho + m * even) / (d + m)


def exact_ridge(y: float, penalty: float, kappa: mpmath.mpf) -> tuple[mpmath.mpf, mpmath.mpf, mpmath.mpf]:
    """Mean, variance and mean squared error as design.md writes them: by the Stieltjes transform μ and μ'."""
    with mpmath.workdps(120):
        y, lam = mpmath.mpf(y), mpmath.mpf(penalty)
        b = lam + 1 - y
        mu = (mpmath.sqrt(b**2 + 4 * y * lam) - b) / (2 * y * lam)
        slope = (y * mu**2 + mu) / (2 * y * lam * mu + b)
        h, s, t = 1 - lam * mu, 1 - 2 * lam * mu + lam**2 * slope, y * (mu - lam * slope)
        variance = kappa**2 * (s - h**2) + (1 - kappa**2) * t
        return kappa * h, variance, (1 - kappa * h) ** 2 + variance


@settings(max_examples=300, deadline=None)
@given(rho=COSINES, key_dim=st.integers(1, 5000), expansion=st.integers(1, 64))
def test_feature_cosine_and_gap_to_nine_digits(rho: float, key_dim: int, expansion: int) -> None:
    m = expansion * 2 ** int(mpmath.ceil(mpmath.log(key_dim, 2)))
    exact = exact_cosine(rho, key_dim, m)
    assert close(laws.feature_cosine(rho, key_dim, expansion), exact)
    if rho < 1:
        assert close(laws.feature_cosine_gap(rho, key_dim, expansion), 1 - exact)
    else:
        assert laws.feature_cosine_gap(rho, key_dim, expansion) == 0


@settings(max_examples=500, deadline=None)
@given(load=LOADS, penalty=PENALTIES.filter(bool), rho=COSINES)
def test_ridge_law_to_nine_digits(load: float, penalty: float, rho: float) -> None:
    law = laws.ridge_law(load, penalty, laws.feature_cosine(rho, 128, 3), laws.feature_cosine_gap(rho, 128, 3))
    mean, variance, squared = exact_ridge(load, penalty, exact_cosine(rho, 128, 384))
    assert close(law.mean, mean)
    assert close(law.variance, variance)
    assert close(law.mean_squared_error, squared)
    # An argument known to one part in 1e15 fixes its tail only to signal² parts in 1e15.
    assert close(law.sign_error, mpmath.ncdf(-mean / mpmath.sqrt(variance)), 1e-9)


@pytest.mark.parametrize("penalty", [1e-12, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("load", [1e-6, 0.3, 1.0, 7.0, 1e3])
def test_every_law_is_finite_at_the_corners(load: float, penalty: float) -> None:
    for law in (laws.ridge_law(load, penalty, [0.0, 0.5, 1.0]), laws.hebbian_law(load, [0.0, 0.5, 1.0])):
        for array in (law.mean, law.variance, law.sign_error, law.mean_squared_error, law.wrong_class(10)):
            assert np.isfinite(array).all()
        assert np.isfinite(law.wrong_class(1000)).all()


@settings(max_examples=100, deadline=None)
@given(load=LOADS, rho=st.floats(0.05, 1))
def test_bits_and_best_penalty_to_nine_digits(load: float, rho: float) -> None:
    kappa, gap = laws.feature_cosine(rho, 100, 2), laws.feature_cosine_gap(rho, 100, 2)
    exact = exact_cosine(rho, 100, 256)
    assert close(laws.best_penalty(load, kappa, gap), load * (1 - exact**2) / exact**2)
    error = mpmath.ncdf(-exact / mpmath.sqrt(mpmath.mpf(load)))
    entropy = -(error * mpmath.log(error, 2) + (1 - error) * mpmath.log(1 - error, 2))
    found = laws.bits_per_weight(load, laws.hebbian_law(load, kappa, gap))
    assert close(found, mpmath.mpf(load) * (1 - entropy))


@pytest.mark.parametrize("classes", [2, 10, 10**6])
@pytest.mark.parametrize("distance", [0.0, 3.0, 30.0])
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_wrong_among_to_nine_digits(classes: int, distance: float, spread: float) -> None:
    def integrand(g: mpmath.mpf) -> mpmath.mpf:
        return mpmath.npdf(g) * -mpmath.expm1((classes - 1) * mpmath.log1p(-mpmath.ncdf(-(distance + spread * g))))

    with mpmath.workdps(20):
        exact = mpmath.quad(integrand, mpmath.linspace(-38, 12, 101), maxdegree=4)
    if classes > 2:
        assert close(channels.wrong_among(classes, distance, spread), exact)
    else:
        exact_two = mpmath.ncdf(-mpmath.mpf(distance) / mpmath.sqrt(1 + mpmath.mpf(spread) ** 2))
        assert close(channels.wrong_among(classes, distance, spread), exact_two)


@settings(max_examples=200, deadline=None)
@given(load=LOADS, more=st.floats(1, 10), penalty=PENALTIES, kappa=st.floats(0, 1), less=st.floats(0, 1))
def test_error_grows_with_load_and_noise_at_the_best_penalty(
    load: float, more: float, penalty: float, kappa: float, less: float
) -> None:
    def best(y: float, k: float) -> laws.Recalled:
        return laws.ridge_law(y, min(float(laws.best_penalty(y, k)), 1e300), k)

    here = best(load, kappa).sign_error
    assert here <= best(load * more, kappa).sign_error * (1 + 1e-9) + 1e-300
    assert here <= best(load, kappa * less).sign_error * (1 + 1e-9) + 1e-300
    hebbian, fuller = laws.hebbian_law(load, kappa), laws.hebbian_law(load * more, kappa * less)
    assert hebbian.sign_error <= fuller.sign_error
    assert hebbian.mean_squared_error <= fuller.mean_squared_error
    clean = laws.ridge_law(load, penalty, kappa)
    assert clean.sign_error <= laws.ridge_law(load, penalty, kappa * less).sign_error * (1 + 1e-9) + 1e-300


@settings(max_examples=200, deadline=None)
@given(load=LOADS, penalty=PENALTIES.filter(bool), kappa=st.floats(1e-3, 1))
def test_no_penalty_beats_the_best(load: float, penalty: float, kappa: float) -> None:
    best = laws.ridge_law(load, laws.best_penalty(load, kappa), kappa)
    other = laws.ridge_law(load, penalty, kappa)
    assert best.signal >= other.signal * (1 - 1e-9)
    assert best.sign_error <= other.sign_error * (1 + 1e-9) + 1e-300


@settings(max_examples=200, deadline=None)
@given(load=LOADS, penalty=PENALTIES.filter(bool), kappa=st.floats(0, 1), classes=st.integers(2, 10**6))
def test_every_figure_is_bounded(load: float, penalty: float, kappa: float, classes: int) -> None:
    for law in (laws.ridge_law(load, penalty, kappa), laws.hebbian_law(load, kappa)):
        assert 0 <= law.sign_error <= 0.5
        assert 0 <= law.wrong_class(classes) <= 1 - 1 / classes + 1e-12
        assert 0 <= law.wrong_class(classes) <= 1 - 1 / classes + 1e-12
        assert 0 <= laws.bits_per_weight(load, law) < laws.COVER_GARDNER_LIMIT


@settings(max_examples=100, deadline=None)
@given(load=st.floats(1e-3, 100), kappa=st.floats(0.01, 1))
def test_a_large_penalty_is_the_hebbian_rule(load: float, kappa: float) -> None:
    law = laws.ridge_law(load, 1e12, kappa)
    assert law.sign_error == pytest.approx(laws.hebbian_law(load, kappa).sign_error, rel=1e-6)


def test_the_limits_without_a_penalty() -> None:
    below = laws.ridge_law([0.1, 0.5, 0.99])
    assert below.mean.tolist() == [1, 1, 1]
    assert below.variance.tolist() == [0, 0, 0]
    load = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(laws.ridge_law(load, 0.0, 0.8).variance, 0.36 * load / (1 - load))
    above = np.array([1.5, 2.0, 5.0])
    np.testing.assert_allclose(laws.ridge_law(above).signal, 1 / np.sqrt(above - 1))
    assert laws.ridge_law(1.0).sign_error == 0
    assert laws.ridge_law(1.0, 0.0, 0.9).sign_error == 0.5


def test_one_hot_of_two_is_a_sign() -> None:
    """The difference of two outputs with crosstalk variance/2 each is one ±1 value's signal."""
    law = laws.hebbian_law([0.1, 1.0, 3.0], 0.9)
    np.testing.assert_allclose(law.wrong_class(2), law.sign_error, rtol=1e-12)


@pytest.mark.parametrize(("classes", "pairs", "distance"), [(20, 60, 3.0), (3, 30, 2.0), (200, 400, 4.5)])
def test_classes_of_random_sizes_are_what_simulation_finds(classes: int, pairs: int, distance: float) -> None:
    rng = np.random.default_rng(0)
    sizes = rng.multinomial(pairs, np.full(classes, 1 / classes), size=40_000)
    outputs = np.sqrt(sizes * classes / pairs) * rng.standard_normal(sizes.shape)
    outputs[:, 0] += distance
    found = float(channels.wrong_among_random(classes, distance, pairs))
    assert found == pytest.approx(np.mean(outputs.argmax(axis=1) != 0), abs=0.008)
    equal = float(channels.wrong_among(classes, distance, 1.0))
    assert classes == 3 or found > equal + 0.01


@settings(max_examples=50, deadline=None)
@given(classes=st.integers(2, 10**6), distance=st.floats(0, 20), pairs=st.floats(1, 1e15))
def test_random_sizes_end_at_equal_ones(classes: int, distance: float, pairs: float) -> None:
    found = channels.wrong_among_random(classes, distance, pairs)
    assert 0 <= found <= 1
    equal = channels.wrong_among(classes, distance, 1.0)
    assert channels.wrong_among_random(classes, distance, 1e15 * classes) == pytest.approx(equal, rel=1e-6, abs=1e-300)
    assert channels.wrong_among_random(2, distance, pairs) == pytest.approx(channels.wrong_among(2, distance, 1.0))


@settings(max_examples=100, deadline=None)
@given(load=st.floats(1e-3, 10), rate=st.floats(0.01, 2), share=st.floats(0, 1), kappa=st.floats(0, 1))
def test_delta_law_is_bounded_by_its_ends(load: float, rate: float, share: float, kappa: float) -> None:
    law = laws.delta_law(load, share * load, rate, kappa)
    assert 0 <= law.sign_error <= 0.5
    newest, here = laws.delta_law(load, 0.0, rate), laws.delta_law(load, share * load, rate)
    assert here.mean <= newest.mean * (1 + 1e-12)
    if rate == 1:
        assert newest.variance == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: laws.ridge_law(-1.0), "load must hold numbers in .*got -1.0"),
        (lambda: laws.ridge_law(1.0, np.nan), "penalty must hold numbers in .*got nan"),
        (lambda: laws.hebbian_law(1.0, 1.5), "kappa must hold numbers in .*got 1.5"),
        (lambda: laws.feature_cosine(2.0, 8, 1), "cosine must hold numbers in .*got 2.0"),
        (lambda: laws.feature_cosine(0.5, 0, 1), "key_dim must be .*got 0"),
        (lambda: laws.delta_law(1.0, 2.0), "age holds 2.0"),
        (lambda: laws.hebbian_law(1.0).wrong_class(1), "n_classes must hold numbers in .*got 1.0"),
        (lambda: laws.hebbian_law(1.0).wrong_class(3, pairs=0.0), "pairs must be .*got 0.0"),
    ],
)
def test_numbers_out_of_range_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_text_is_refused() -> None:
    with pytest.raises(TypeError, match=r"load must be a real number .*got 'much'"):
        laws.hebbian_law("much")


def test_no_penalty_is_so_large_that_recall_seems_exact() -> None:
    law = laws.ridge_law(1.0, 1e300, 0.5)
    assert law.sign_error == pytest.approx(laws.hebbian_law(1.0, 0.5).sign_error)
    assert laws.ridge_law(1.0, 1e300, 1e-39).sign_error == 0.5
