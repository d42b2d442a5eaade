import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assocmem import HadamardProjection
from assocmem.features.hadamard import random_signs
from tests import naive
from tests.helpers import relative

sizes = st.integers(1, 40)


@given(key_dim=sizes, expansion=st.integers(1, 4), seed=st.integers(0, 2**64))
def test_projection_is_the_explicit_hadamard_product(key_dim, expansion, seed):
    projection = HadamardProjection(key_dim, expansion, seed)
    explicit = naive.projection_matrix(projection.signs, key_dim)
    keys = np.random.default_rng(0).standard_normal((3, key_dim))
    assert relative(projection.project(keys), keys @ explicit.T) < 1e-14
    assert relative(projection.matrix(), explicit) < 1e-14


@given(key_dim=sizes, expansion=st.integers(1, 4))
def test_projection_is_orthonormal(key_dim, expansion):
    matrix = HadamardProjection(key_dim, expansion, seed=5).matrix()
    assert np.allclose(matrix.T @ matrix, expansion * np.eye(key_dim), atol=1e-13)


@pytest.mark.parametrize("p", [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_transform_length(p, dtype):
    projection = HadamardProjection(p, 1, seed=p)
    keys = np.random.default_rng(p).standard_normal((2, p)).astype(dtype)
    expected = keys @ naive.projection_matrix(projection.signs, p).T
    got = projection.project(keys)
    assert got.dtype == dtype
    assert relative(got, expected) < 20 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_key_many_keys_and_many_threads_agree_to_the_last_bit(dtype):
    projection = HadamardProjection(100, 3, seed=1)
    keys = np.random.default_rng(0).standard_normal((3000, 100)).astype(dtype)
    together = projection.project(keys)
    alone = np.array([projection.project(key) for key in keys[::97]])
    assert np.array_equal(together[::97], alone)


def test_signs_are_the_documented_bits():
    # Raw words of PCG64 are promised never to change; these were drawn when the format was fixed.
    assert random_signs(1, 4, seed=0).tolist() == SIGNS_OF_SEED_0
    raw = np.random.PCG64(0).random_raw(1)
    bits = [(int(raw[0]) >> (8 * (i // 8) + 7 - i % 8)) & 1 for i in range(12)]
    assert [1 - 2 * b for b in bits] == np.ravel(SIGNS_OF_SEED_0).tolist()


SIGNS_OF_SEED_0 = [[[1, -1, 1, -1], [-1, -1, -1, -1], [-1, 1, 1, 1]]]


@given(seed=st.integers(0, 1000))
def test_more_blocks_begin_with_the_fewer(seed):
    assert np.array_equal(random_signs(5, 24, seed)[:2], random_signs(2, 24, seed))


def test_seeds_differ_and_repeat():
    assert np.array_equal(HadamardProjection(64, 2, 3).signs, HadamardProjection(64, 2, 3).signs)
    assert not np.array_equal(HadamardProjection(64, 2, 3).signs, HadamardProjection(64, 2, 4).signs)


def test_sparse_keys_spread_over_all_coordinates():
    # One round leaves a unit vector on p equal magnitudes; three make it Gaussian-like: E z^4 / (E z^2)^2 near 3.
    z = HadamardProjection(256, 8, seed=0).matrix()
    assert abs(np.mean(z**4) / np.mean(z**2) ** 2 - 3 * 256 / 258) < 0.05


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("many", [False, True])
def test_nonfinite_keys_are_refused(bad, many):
    keys = np.ones((5, 6))
    keys[3, 2] = bad
    with pytest.raises(ValueError, match=r"column 2 is .*expected finite.*repair"):
        HadamardProjection(6).project(keys if many else keys[3])


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((0,), ValueError, "key_dim must be an integer of at least 1, got 0"),
    ((2.5,), TypeError, "key_dim must be .*got 2.5"),
    ((True,), TypeError, "key_dim must be .*got True"),
    ((4, 0), ValueError, "expansion must be .*got 0"),
    ((4, 1, -1), ValueError, "seed must be an integer of at least 0, got -1"),
    ((4, 1, None), TypeError, "seed must be .*got None"),
])  # fmt: skip
def test_bad_sizes_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        HadamardProjection(*arguments)
