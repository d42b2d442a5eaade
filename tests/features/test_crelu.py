import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assocmem import CReLUFeatures, crelu, inverse_crelu
from tests import naive
from tests.helpers import pairs, relative

shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)
arrays = st.sampled_from([np.float32, np.float64]).flatmap(lambda dtype: hnp.arrays(dtype, shapes))
configurations = st.fixed_dictionaries(
    {
        "key_dim": st.integers(1, 33),
        "expansion": st.integers(1, 4),
        "whiten": st.booleans(),
        "bias": st.sampled_from([0.0, 1.0, -2.5]),
        "seed": st.integers(0, 99),
    }
)


@given(x=arrays, data=st.data())
def test_crelu_loses_nothing_not_even_the_sign_of_zero(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    features = crelu(x, axis)
    assert features.shape[axis] == 2 * x.shape[axis]
    assert not (features < 0).any()
    back = inverse_crelu(features, axis)
    assert back.dtype == x.dtype
    numbers = ~np.isnan(x)
    bits = {4: np.uint32, 8: np.uint64}[x.itemsize]
    assert np.array_equal(back[numbers].view(bits), x[numbers].view(bits))
    assert np.array_equal(np.isnan(back), np.isnan(x))


def test_crelu_of_lists_and_integers():
    assert crelu([1, -2]).tolist() == [1.0, 0.0, 0.0, 2.0]
    assert crelu(np.array([[-128]], dtype=np.int8)).tolist() == [[0.0, 128.0]]


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: crelu([1j]), TypeError, "dtype complex128; expected real"),
    (lambda: crelu(["a"]), TypeError, "expected real"),
    (lambda: crelu(1.0), ValueError, r"axis"),
    (lambda: crelu([1.0], axis=1), ValueError, "axis"),
    (lambda: inverse_crelu([1.0, 2.0, 3.0]), ValueError, "even length, .*got 3"),
    (lambda: inverse_crelu([1.0, 2.0], axis=3), ValueError, "axis"),
])  # fmt: skip
def test_bad_crelu_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def extended(keys, bias):
    return np.hstack([keys, np.full((len(keys), 1), bias)]) if bias else keys


@given(configuration=configurations)
def test_features_are_the_literal_ones(configuration):
    features = CReLUFeatures(**configuration)
    keys = pairs(4, configuration["key_dim"], 1)[0]
    long_keys = extended(keys, configuration["bias"])
    projection = naive.projection_matrix(features.projection.signs, long_keys.shape[1])
    assert features.n_units == len(projection)
    assert features.rank == len(projection) + long_keys.shape[1]
    assert relative(features.project(keys), long_keys @ projection.T) < 1e-13
    assert relative(features.expand(keys), naive.literal_features(projection, long_keys)) < 1e-13
    if configuration["whiten"]:
        expected = naive.whitened_features(projection, long_keys, features.projection.padded_dim)
        assert relative(features.fold(keys), expected) < 1e-12


@given(configuration=configurations)
def test_folded_inner_products_are_the_literal_ones(configuration):
    features = CReLUFeatures(**{**configuration, "whiten": False})
    keys = pairs(5, configuration["key_dim"], 1)[0]
    literal, folded = features.expand(keys), features.fold(keys)
    assert relative(folded @ folded.T, literal @ literal.T) < 1e-13


@given(configuration=configurations, scale=st.floats(1e-3, 1e3))
def test_features_are_positively_homogeneous(configuration, scale):
    features = CReLUFeatures(**{**configuration, "bias": 0.0})
    keys = pairs(3, configuration["key_dim"], 1)[0]
    assert relative(features.fold(scale * keys), scale * features.fold(keys)) < 1e-12


@given(configuration=configurations)
def test_unfolded_weights_recall_the_same(configuration):
    features = CReLUFeatures(**configuration)
    keys = pairs(4, configuration["key_dim"], 1)[0]
    weights = np.random.default_rng(1).standard_normal((features.rank, 3))
    literal, offset = features.unfold(weights)
    assert literal.shape == (2, features.n_units, 3)
    assert offset.shape == (3,)
    norms = np.linalg.norm(extended(keys, configuration["bias"]), axis=1, keepdims=True)
    by_hand = features.expand(keys) @ literal.reshape(-1, 3) + norms * offset
    assert relative(by_hand, features.fold(keys) @ weights) < 1e-12
    if not configuration["whiten"]:
        assert not offset.any()


def test_whitened_features_have_mean_0_and_variance_1_over_random_directions():
    keys = pairs(20_000, 16, 1)[0]
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    folded = CReLUFeatures(16, 2).fold(keys)
    # Units of a finite sphere are slightly lighter-tailed than Gaussian: E|z| is 1 + 1/(4 d) times what is subtracted.
    assert np.abs(folded.mean(axis=0)).max() < 0.08
    assert np.abs(folded.var(axis=0) - 1).max() < 0.1


@pytest.mark.parametrize(
    ("key_dim", "expansion"), [(8, 1), (8, 2), (31, 1), (31, 2), (31, 4), (64, 1), (64, 2), (64, 4)]
)
def test_rank_is_d_plus_m(key_dim, expansion):
    features = CReLUFeatures(key_dim, expansion, whiten=False, seed=3)
    literal = features.expand(pairs(3 * features.rank, key_dim, 1)[0])
    assert np.linalg.matrix_rank(literal) == features.rank == key_dim + features.n_units


def test_dtypes_and_shapes():
    for dtype in ("float32", "float64"):
        features = CReLUFeatures(5, 2, dtype=dtype)
        for method, width in ((features.project, 16), (features.expand, 32), (features.fold, 21)):
            assert method(np.ones(5)).shape == (width,)
            assert method(np.ones((4, 5), np.int8)).shape == (4, width)
            assert method(np.ones((0, 5))).shape == (0, width)
            assert method([[1, 2, 3, 4, 5]]).dtype == dtype


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"whiten": 1}, TypeError, "whiten must be True or False, got 1"),
    ({"bias": "big"}, TypeError, "bias must be .*got 'big'"),
    ({"bias": np.nan}, ValueError, "bias must be .*got nan"),
    ({"bias": 1e-200}, ValueError, "bias must be 0 or at least 1e-150, got 1e-200"),
    ({"dtype": "float16"}, ValueError, "dtype must be 'float32' or 'float64', got 'float16'"),
    ({"dtype": None}, ValueError, "dtype must be .*got None"),
])  # fmt: skip
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        CReLUFeatures(4, **options)


def test_unfold_refuses_other_weights():
    with pytest.raises(ValueError, match=r"weights have shape \(3, 2\); expected \(20, value_dim\)"):
        CReLUFeatures(4).unfold(np.ones((3, 2)))
