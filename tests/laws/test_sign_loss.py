"""Sign loss and information, against mpmath, simulation and limits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assocmem import AssociativeMemory
from assocmem.capacity import signs
from assocmem.laws import sign_loss


def exact_loss(ratio: float) -> mpmath.mpf:
    a = 1 / mpmath.mpf(ratio)

    def integrand(y: mpmath.mpf) -> mpmath.mpf:
        wide, narrow = a * mpmath.npdf(a * y), mpmath.npdf(y)
        total = wide + narrow
        return -sum(part * mpmath.log(part / total, 2) for part in (wide, narrow) if part)

    with mpmath.workdps(25):
        return mpmath.quad(integrand, mpmath.linspace(0, 24, 25))


@pytest.mark.parametrize("ratio", [1.0, 1.5, 10.0, 1e9])
def test_sign_loss_to_nine_digits(ratio: float) -> None:
    exact = exact_loss(ratio)
    for pair in ((ratio, 1.0), (-1.0, -ratio), (ratio * 1e-200, 1e-200)):
        assert float(abs(sign_loss.sign_loss(*pair) - exact) / exact) < 1e-9


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 690), st.floats(0, 10))
def test_the_loss_is_a_bit_at_most_and_falls_with_the_ratio(log_ratio: float, more: float) -> None:
    here, there = sign_loss.sign_loss(np.exp([log_ratio, log_ratio + more]), 1.0)
    assert 0 < there <= here * (1 + 1e-9) <= 1 + 1e-9
    assert np.isclose(here * np.exp(log_ratio), sign_loss.scaled_loss(log_ratio), rtol=1e-9)


def test_zero_weights_and_opposite_signs() -> None:
    np.testing.assert_array_equal(sign_loss.sign_loss([0, 0, 1, 1, -2], [0, 1, 0, -1, 3]), [1, 0, 0, 0, 0])
    assert sign_loss.sign_loss(np.ones((3, 1)), np.ones(4)).shape == (3, 4)


def test_the_mean_over_gaussian_weights() -> None:
    losses = sign_loss.sign_loss(*np.random.default_rng(0).standard_normal((2, 400_000)))
    assert abs(losses.mean() - sign_loss.mean_sign_loss()) < 5 * losses.std() / np.sqrt(losses.size)
    assert sign_loss.mean_sign_loss() == pytest.approx(0.3634, abs=5e-5)
    assert sign_loss.mean_sign_loss() < sign_loss.SIGN_LOSS_BOUND


@pytest.mark.parametrize("ratio", [0.0, 0.02, 0.5, 1.0, 1.659, 13.3, 1e6])
def test_the_mean_over_even_and_odd_parts_of_any_ratio(ratio: float) -> None:
    odd, even = np.random.default_rng(1).standard_normal((2, 200_000)) * [[1.0], [ratio]]
    plus, minus = even + odd, even - odd
    losses = sign_loss.sign_loss(plus, minus)
    assert abs(losses.mean() - sign_loss.mean_sign_loss(ratio)) < 5 * losses.std() / np.sqrt(losses.size) + 1e-9
    assert np.mean(plus * minus > 0) == pytest.approx(sign_loss.aligned_share(ratio), abs=0.005)


@pytest.mark.parametrize("rule", ["hebbian", "ridge"])
@pytest.mark.parametrize(("key_dim", "expansion", "load"), [(64, 1, 0.5), (64, 4, 0.25), (48, 8, 0.5), (64, 2, 1.5)])
def test_trained_weights_lose_what_the_law_says(rule: str, key_dim: int, expansion: int, load: float) -> None:
    aligned, loss, wrong = signs.measure_signs(rule, load, key_dim=key_dim, expansion=expansion)
    assert aligned.measured == pytest.approx(aligned.predicted, abs=0.03)
    assert loss.measured == pytest.approx(loss.predicted, abs=0.03)
    assert loss.measured > sign_loss.SIGN_LOSS_BOUND
    assert wrong.measured == 0.0 or rule == "hebbian" or load > 1


@pytest.mark.parametrize("expansion", [1, 2, 4, 8])
def test_aligned_share_of_a_ridge_memory_follows_the_arctan_law(expansion: int) -> None:
    rng = np.random.default_rng(1)
    memory = AssociativeMemory(128, 8, expansion=expansion)
    memory.store(rng.standard_normal((memory.rank // 2, 128)), rng.standard_normal((memory.rank // 2, 8)))
    report = signs.sign_report(memory)
    np.testing.assert_allclose(report.aligned.mean(), report.aligned_by_law.mean(), atol=0.02)
    assert (report.loss <= report.aligned).all()


def test_an_empty_memory_has_no_sign_report() -> None:
    with pytest.raises(ValueError, match="store something first"):
        signs.sign_report(AssociativeMemory(4, 2))


@pytest.mark.parametrize("n_pairs", [60, 64, 80, 128])
def test_antipodal_keys_collapse_beyond_d_and_a_bias_cures_it(n_pairs: int) -> None:
    law = sign_loss.antipodal_loss(n_pairs, 64, 4)
    assert signs.antipodal_error(n_pairs) == pytest.approx(law, abs=0.03)
    assert signs.antipodal_error(n_pairs, bias=1.0) < 1e-4


def test_antipodal_keys_beyond_the_units_lose_the_even_part_of_their_values_as_well() -> None:
    assert signs.antipodal_error(320, value_dim=16) == pytest.approx(0.707, abs=0.02)
    assert sign_loss.antipodal_loss(320, 64, 4) == pytest.approx(0.7071, abs=1e-4)
