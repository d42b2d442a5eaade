"""Edits of a linear layer, against closed forms, dense systems and arithmetic with a hundred digits."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assocmem import least_squares_edit
from tests import naive
from tests.helpers import pairs, relative


def layer(seed=0, n_inputs=12, n_outputs=5):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((200, n_inputs)) @ rng.standard_normal((n_inputs, n_inputs))
    return rng.standard_normal((n_outputs, n_inputs)), inputs, inputs.T @ inputs / 200


@given(n=st.integers(1, 4), n_held=st.integers(0, 4), seed=st.integers(0, 99))
def test_layer_edit_is_the_smallest_change(n, n_held, seed):
    weight, inputs, covariance = layer(seed)
    wanted, held = pairs(n, 5, 5, seed)[0], inputs[10 : 10 + n_held]
    edit = least_squares_edit(weight, inputs[:n], wanted, covariance, preserve=held)
    errors = np.vstack([wanted - inputs[:n] @ weight.T, np.zeros((n_held, 5))])
    expected = naive.smallest_change(covariance, np.vstack([inputs[:n], held]), errors)
    assert relative(edit.change.T, expected) < 1e-6
    assert relative(inputs[:n] @ edit.weight.T, wanted) < 1e-9
    assert np.allclose(held @ edit.weight.T, held @ weight.T, atol=1e-9)


@given(n=st.integers(1, 20), penalty=st.sampled_from([1e-3, 1.0, 100.0]), seed=st.integers(0, 99))
def test_layer_edit_with_a_penalty_is_the_closed_form(n, penalty, seed):
    """MEMIT, with keys and values as columns, also for more keys than inputs."""
    weight, inputs, covariance = layer(seed)
    columns, wanted = inputs[:n].T, pairs(n, 5, 5, seed)[0].T
    inner = penalty * covariance + columns @ columns.T
    expected = weight + (wanted - weight @ columns) @ columns.T @ np.linalg.inv(inner)
    edit = least_squares_edit(weight, columns.T, wanted.T, covariance, penalty=penalty)
    assert relative(edit.weight, expected) < 1e-6


def test_layer_edit_of_one_key_is_the_rank_one_form():
    """ROME: ΔW = Λ (C⁻¹k)ᵀ with Λ = (v − W k) / (kᵀ C⁻¹ k)."""
    weight, inputs, covariance = layer()
    key, value = inputs[0], np.arange(5.0)
    direction = np.linalg.solve(covariance, key)
    expected = weight + np.outer(value - weight @ key, direction) / (key @ direction)
    assert relative(least_squares_edit(weight, key, value, covariance).weight, expected) < 1e-9


@given(penalty=st.sampled_from([1e-2, 1.0]), cut=st.integers(1, 5), seed=st.integers(0, 99))
def test_layer_edits_in_turn_are_one_edit_if_the_covariance_learns_of_them(penalty, cut, seed):
    """One block step of recursive least squares after the other, with covariance (λC)⁻¹."""
    weight, inputs, covariance = layer(seed)
    wanted = pairs(6, 5, 5, seed)[0]
    together = least_squares_edit(weight, inputs[:6], wanted, covariance, penalty=penalty)
    first = least_squares_edit(weight, inputs[:cut], wanted[:cut], covariance, penalty=penalty)
    learned = covariance + inputs[:cut].T @ inputs[:cut] / penalty
    second = least_squares_edit(first.weight, inputs[cut:6], wanted[cut:], learned, penalty=penalty)
    assert relative(second.weight, together.weight) < 1e-6


def test_inputs_that_never_vary_cost_nothing():
    """A sample with fewer rows than inputs: the change goes where the sample is not, and the sample sees none of it."""
    rng = np.random.default_rng(0)
    weight, sample, key = rng.standard_normal((3, 12)), rng.standard_normal((6, 12)), rng.standard_normal(12)
    edit = least_squares_edit(weight, key, [1.0, 2.0, 3.0], sample.T @ sample)
    assert relative(edit.weight @ key, np.array([1.0, 2.0, 3.0])) < 1e-6
    assert edit.locality(sample).largest_change < 1e-6


@given(seed=st.integers(0, 99))
def test_locality_is_what_changed(seed):
    weight, inputs, covariance = layer(seed)
    edit = least_squares_edit(weight, inputs[0], np.ones(5), covariance)
    report = edit.locality(inputs[1:9])
    before, after = inputs[1:9] @ weight.T, inputs[1:9] @ edit.weight.T
    usual = np.sqrt(np.mean([row @ row for row in before]))
    changes = [np.linalg.norm(b - a) / usual for a, b in zip(after, before, strict=True)]
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(after, before, strict=True)]
    assert report.n_keys == 8
    assert np.allclose([report.mean_change, report.largest_change], [np.mean(changes), np.max(changes)])
    assert np.allclose([report.mean_cosine, report.smallest_cosine], [np.mean(cosines), np.min(cosines)])


def test_locality_of_outputs_that_are_zero():
    edit = least_squares_edit(np.zeros((2, 3)), [1.0, 0, 0], [1.0, 1.0], np.eye(3))
    nowhere = edit.locality([[0.0, 1.0, 0.0]])
    assert (nowhere.mean_change, nowhere.largest_change, nowhere.mean_cosine) == (0, 0, 1)
    with pytest.raises(ValueError, match="keys are empty; pass at least one held-out key"):
        edit.locality(np.empty((0, 3)))


@pytest.mark.parametrize(("given", "message"), [
    ({"weight": np.ones(3)}, r"weight must be the matrix of a layer, \(outputs, inputs\), got shape \(3,\)"),
    ({"keys": np.ones(4)}, r"keys have shape \(4,\); expected \(N, 3\) or \(3,\)"),
    ({"keys": np.zeros(3)}, "key 0 is all zeros, for which every layer gives 0"),
    ({"values": np.ones((2, 2))}, "1 keys came with 2 values"),
    ({"values": [np.nan, 1.0]}, "values row 0, column 0 is nan"),
    ({"covariance": np.triu(np.ones((3, 3)))}, "covariance of shape .* is not symmetric, as a second moment is"),
    ({"covariance": np.ones((2, 3))}, "covariance of shape .* is not symmetric"),
    ({"covariance": -np.eye(3)}, "not positive semidefinite, as a second moment of inputs is"),
    ({"covariance": np.zeros((3, 3))}, "not positive semidefinite"),
    ({"preserve": [2.0, 0, 0]}, "key 0 depends linearly on the other keys to edit and the 1 independent ones to pres"),
    ({"keys": np.eye(3)[[0, 1, 0]], "values": np.ones((3, 2))}, "depends linearly on the other keys to edit and the 0"),
    ({"penalty": -1.0}, "penalty must be .*got -1.0"),
])  # fmt: skip
def test_layer_edits_refuse(given, message):
    usual = {"weight": np.ones((2, 3)), "keys": [1.0, 0, 0], "values": [1.0, 2.0], "covariance": np.eye(3)}
    with pytest.raises(ValueError, match=message):
        least_squares_edit(**{**usual, **given})


def test_an_edit_can_be_pickled():
    edit = least_squares_edit(np.eye(3), [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], np.eye(3))
    assert pickle.loads(pickle.dumps(edit)).locality([0.0, 1.0, 0.0]) == edit.locality([0.0, 1.0, 0.0])


def test_a_layer_without_inputs_or_outputs_is_refused():
    with pytest.raises(ValueError, match=r"at least one input and output, got shape \(0, 0\)"):
        least_squares_edit(np.empty((0, 0)), np.empty((0, 0)), np.empty((0, 0)), np.empty((0, 0)))


def test_loud_and_quiet_inputs_count_alike():
    """One dominant and many quiet channels is what real activations look like."""
    edit = least_squares_edit(np.zeros((1, 3)), [0.0, 1.0, 0.01], [1.0], np.diag([1e6, 1.0, 1e-4]))
    assert relative(edit.change, np.array([[0.0, 0.5, 50.0]])) < 1e-12


@pytest.mark.filterwarnings("ignore:this edit")  # some keys nearly repeat others: the cost is least there too
@given(
    n_inputs=st.integers(2, 8), n=st.integers(1, 4), n_factors=st.integers(1, 8), spread=st.floats(-12, 0),
    decades=st.sampled_from([0, 5, 20]), natural=st.booleans(), protect=st.booleans(), seed=st.integers(0, 999),
)  # fmt: skip
def test_no_change_costs_less_whatever_the_scales_and_correlations_of_inputs(
    n_inputs, n, n_factors, spread, decades, natural, protect, seed
):
    rng = np.random.default_rng(seed)
    n = min(n, max(n_inputs // 2, 1))
    factors = rng.standard_normal((n_inputs, n_factors))
    covariance = factors @ factors.T + 10**spread * np.eye(n_inputs)
    scales = 10 ** rng.uniform(-decades / 4, decades / 4, n_inputs)  # of the inputs: twice the decades in the diagonal
    scales /= np.sqrt(covariance.diagonal())
    covariance = scales[:, None] * covariance * scales
    covariance = (covariance + covariance.T) / 2
    keys = rng.standard_normal((n, n_inputs)) * (scales if natural else 1.0)
    errors, n_held = rng.standard_normal((n, 2)), int(protect and n > 1)
    errors[:n_held] = 0.0
    edit = least_squares_edit(
        np.zeros((2, n_inputs)), keys[n_held:], errors[n_held:], covariance, preserve=keys[:n_held]
    )
    assert np.abs(keys @ edit.change.T - errors).max() < 1e-8
    assert naive.cost(covariance, edit.change.T) < (1 + 1e-6) * naive.least_cost(covariance, keys, errors)


def test_an_input_that_never_fires_takes_the_whole_change():
    """It costs nothing, however quiet the others are; of two such inputs both take their share."""
    for quiet in (1.0, 1e-10):
        covariance = np.diag([1e6, quiet, 0.0, 0.0])
        edit = least_squares_edit(np.zeros((1, 4)), [1.0, 1.0, 1.0, 2.0], [1.0], covariance)
        assert relative(edit.change, np.array([[0.0, 0.0, 0.2, 0.4]])) < 1e-6
    both = least_squares_edit(np.zeros((1, 3)), [[1.0, 0, 1e-3], [0, 1.0, 1e-3]], [[1.0], [2.0]], np.diag([1.0, 1, 0]))
    assert relative(both.change @ [1.0, 0, 1e-3], np.array([1.0])) < 1e-9
    assert relative(both.change @ [0, 1.0, 1e-3], np.array([2.0])) < 1e-9
    with pytest.raises(ValueError, match="not positive semidefinite"):
        least_squares_edit(np.zeros((1, 2)), [1.0, 1.0], [1.0], [[1.0, 0.5], [0.5, 0.0]])


@given(penalty=st.sampled_from([1e-30, 1e-6, 1e3]), n_held=st.integers(0, 3), seed=st.integers(0, 99))
def test_a_tiny_penalty_is_the_limit_and_preserved_inputs_keep_their_outputs(penalty, n_held, seed):
    weight, inputs, covariance = layer(seed)
    wanted, held = pairs(3, 5, 5, seed)[0], inputs[10 : 10 + n_held]
    edit = least_squares_edit(weight, inputs[:3], wanted, covariance, penalty=penalty, preserve=held)
    exact = least_squares_edit(weight, inputs[:3], wanted, covariance, preserve=held)
    assert np.allclose(held @ edit.weight.T, held @ weight.T, atol=1e-9)
    if penalty < 1e-20:
        assert relative(edit.weight, exact.weight) < 1e-9
    else:
        inner = covariance + inputs[:3].T @ inputs[:3] / penalty
        system = np.block([[inner, held.T], [held, np.zeros((n_held, n_held))]])
        right = np.vstack([inputs[:3].T @ (wanted - inputs[:3] @ weight.T) / penalty, np.zeros((n_held, 5))])
        assert relative(edit.change.T, np.linalg.solve(system, right)[: len(covariance)]) < 1e-6


@pytest.mark.parametrize("distance", [1e-2, 1e-3, 1e-5])
def test_layer_edits_of_nearly_equal_inputs_warn(distance):
    weight, inputs, covariance = layer()
    usual = least_squares_edit(weight, inputs[:3], pairs(3, 5, 5)[0], covariance)
    assert 0.5 < usual.growth < 2
    near = inputs[0] + distance * inputs[1]
    wanted = inputs[0] @ weight.T + 3.0
    with pytest.warns(UserWarning, match=r"outputs for other inputs .* times as long as usual.*pass penalty="):
        edit = least_squares_edit(weight, near, wanted, covariance, preserve=inputs[0])
    lengths = [np.sqrt(np.mean((inputs @ w.T) ** 2)) for w in (edit.weight, weight)]
    assert 0.5 < edit.growth * lengths[1] / lengths[0] < 1.0 + 1e-9
    assert least_squares_edit(weight, near, wanted, covariance, preserve=inputs[0], penalty=1.0).growth < 4
