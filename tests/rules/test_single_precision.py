"""Products in single precision are for blocks whose rounding the penalty covers, whatever the keys are like."""

import numpy as np
import pytest

from assocmem import AssociativeMemory, Ridge
from assocmem.rules.blas import single_noise
from tests.helpers import relative


def embedding_like(n, key_dim, cosine, rng):
    common = rng.standard_normal(key_dim) / np.sqrt(key_dim)
    return np.sqrt(cosine) * common + np.sqrt(1 - cosine) * rng.standard_normal((n, key_dim)) / np.sqrt(key_dim)


KEYS = {
    "random": lambda rng: rng.standard_normal((600, 64)),
    "embeddings": lambda rng: embedding_like(800, 256, 0.8, rng),
    "ten keys ten times": lambda rng: np.repeat(rng.standard_normal((10, 64)), 10, axis=0),
    "ten keys 300 times": lambda rng: np.repeat(rng.standard_normal((10, 64)), 300, axis=0),
    "one key 1000 times": lambda rng: np.repeat(rng.standard_normal((1, 64)), 1000, axis=0),
    "offset": lambda rng: rng.standard_normal((600, 64)) + 5,
    "lengths": lambda rng: rng.standard_normal((600, 64)) * 10 ** rng.uniform(-2, 2, (600, 1)),
}


@pytest.mark.parametrize("share", [None, 1e-3, 1e-2, 1e-1])
@pytest.mark.parametrize("kind", sorted(KEYS))
def test_recalls_stay_within_3e_4_of_those_of_double_precision(kind, share):
    rng = np.random.default_rng(0)
    keys = KEYS[kind](rng).astype(np.float32)
    values = rng.standard_normal((len(keys), 3)).astype(np.float32)
    features = AssociativeMemory(keys.shape[1], 3, dtype="float32").features.fold(keys).astype(np.float64)
    rule = Ridge(query_cosine=0.9) if share is None else Ridge(share * (features**2).sum() / features.shape[1])
    memory = AssociativeMemory(keys.shape[1], 3, rule=rule, dtype="float32")
    for start in range(0, len(keys), 400):
        memory.store(keys[start : start + 400], values[start : start + 400])
    gram = features.T @ features + memory.alpha * np.eye(features.shape[1])
    assert relative(memory.recall(keys), features @ np.linalg.solve(gram, features.T @ values)) < 3e-4


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_the_measured_noise_is_above_the_true_one_and_near_it(kind):
    keys = KEYS[kind](np.random.default_rng(1)).astype(np.float32)
    features = AssociativeMemory(keys.shape[1], 1, dtype="float32").features.fold(keys)
    exact = features.astype(np.float64)
    lost = np.linalg.norm((features.T @ features).astype(np.float64) - exact.T @ exact, 2)
    assert lost < single_noise(features) < 10 * lost


def test_random_keys_with_an_ordinary_penalty_are_still_multiplied_in_single_precision():
    keys = np.random.default_rng(0).standard_normal((2000, 64))
    for rule, single in ((Ridge(query_cosine=0.9), True), (Ridge(1e5), True), (Ridge(1e-3), False), (Ridge(), False)):
        memory = AssociativeMemory(64, 1, rule=rule, dtype="float32")
        memory.store(keys, keys[:, :1])
        lost = memory._cell.current().sums.noise / memory._cell.current().sums.level
        assert (lost > 1e-9) == single
