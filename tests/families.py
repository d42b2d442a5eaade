"""Hard families of pairs, and the lives of memories that end up holding them: by a seed, for tests and benchmarks.

A family makes keys, a kind of values their values, a history a memory that holds the pairs in the end. Nothing here
imports the package: a history is given the function that makes an empty memory.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

VALUE_DIM = 2
# Lengths of keys of float32 must stay within 1e-15 to 1e15, those of float64 within 1e-150 to 1e150.
WIDEST = {"float32": 26, "float64": 60}

# ------------------------------------------------------------------------------------------------------------- keys


def random_keys(rng, n, key_dim, widest):
    return rng.standard_normal((n, key_dim))


def lengths_over(decades):
    def make(rng, n, key_dim, widest):
        most = min(decades, widest)
        return rng.standard_normal((n, key_dim)) * 10.0 ** rng.uniform(-most / 2, most / 2, (n, 1))

    return make


def one_long_key(ratio):
    def make(rng, n, key_dim, widest):
        keys = rng.standard_normal((n, key_dim)) / np.sqrt(ratio)
        keys[rng.integers(n)] *= ratio
        return keys

    return make


def near_duplicates(distance):
    """Half of the keys, and one at this distance of each."""

    def make(rng, n, key_dim, widest):
        keys = rng.standard_normal((n, key_dim))
        half = n // 2
        keys[half : 2 * half] = keys[:half] + distance * rng.standard_normal((half, key_dim))
        return keys

    return make


def constant_offset(ratio):
    """Keys with the same mean, so many times their spread."""

    def make(rng, n, key_dim, widest):
        return rng.standard_normal((n, key_dim)) + ratio * rng.standard_normal(key_dim)

    return make


def few_distinct_keys(rng, n, key_dim, widest):
    return rng.standard_normal((max(n // 8, 1), key_dim))[rng.integers(0, max(n // 8, 1), n)]


def embedding_like(rng, n, key_dim, widest):
    """Mutual cosine 0.8."""
    common, own = rng.standard_normal(key_dim), rng.standard_normal((n, key_dim))
    return np.sqrt(0.8) * common / np.linalg.norm(common) * np.sqrt(key_dim) + np.sqrt(0.2) * own


def absent_coordinates(rng, n, key_dim, widest):
    """Half of the coordinates are 0 in every key."""
    keys = rng.standard_normal((n, key_dim))
    keys[:, key_dim // 2 :] = 0.0
    return keys


def quiet_coordinates(rng, n, key_dim, widest):
    """One coordinate is far larger than the others."""
    return rng.standard_normal((n, key_dim)) * np.append(1e4, 10.0 ** rng.uniform(-4, 0, key_dim - 1))


KEYS = {
    "random": random_keys,
    "lengths over 3 decades": lengths_over(3),
    "lengths over 10 decades": lengths_over(10),
    "lengths over 30 decades": lengths_over(30),
    "a key 1e4 times longer": one_long_key(1e4),
    "a key 1e8 times longer": one_long_key(1e8),
    "a key 1e16 times longer": one_long_key(1e16),
    "duplicates at 1e-2": near_duplicates(1e-2),
    "duplicates at 1e-5": near_duplicates(1e-5),
    "duplicates at 1e-7": near_duplicates(1e-7),
    "duplicates at 1e-9": near_duplicates(1e-9),
    "mean of 1e1 spreads": constant_offset(1e1),
    "mean of 1e3 spreads": constant_offset(1e3),
    "mean of 1e6 spreads": constant_offset(1e6),
    "few distinct keys": few_distinct_keys,
    "embedding-like": embedding_like,
    "absent coordinates": absent_coordinates,
    "quiet coordinates": quiet_coordinates,
    "repeated units": random_keys,
}

# ----------------------------------------------------------------------------------------------------------- values


def random_values(rng, keys):
    return rng.standard_normal((len(keys), VALUE_DIM))


def values_linear_in_keys(rng, keys):
    return keys @ rng.standard_normal((keys.shape[1], VALUE_DIM)) / np.linalg.norm(keys, axis=1).max()


def outputs_of_different_sizes(rng, keys):
    return random_values(rng, keys) * 10.0 ** rng.uniform(-9, 9, VALUE_DIM)


def values_of_different_sizes(rng, keys):
    return random_values(rng, keys) * 10.0 ** rng.uniform(-9, 9, (len(keys), 1))


def one_extreme_value(rng, keys):
    values = random_values(rng, keys)
    values[rng.integers(len(values)), 0] = 1e12
    return values


VALUES = {
    "random": random_values,
    "linear in the key": values_linear_in_keys,
    "outputs of different sizes": outputs_of_different_sizes,
    "values of different sizes": values_of_different_sizes,
    "one extreme value": one_extreme_value,
}

# -------------------------------------------------------------------------------------------------------- histories


@dataclass(frozen=True)
class Case:
    """Pairs, in the order of their storing, and the configuration and the life of the memory that holds them.

    Parameters
    ----------
    share : float
        Penalty, as a share of the mean eigenvalue of the sum over the pairs.
    seed : int
        Of whatever the history draws.
    """

    family: str
    keys: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)
    kind: str = "random"
    history: str = "one block"
    rule: str = "ridge"
    share: float = 0.0
    decay: float = 1.0
    dtype: str = "float64"
    expansion: int = 2
    seed: int = 0

    def others(self, n):
        """Further pairs of the same family."""
        rng = np.random.default_rng([self.seed, 1])
        keys = KEYS[self.family](rng, max(n, 2), self.keys.shape[1], WIDEST[self.dtype])[:n]
        return keys, VALUES[self.kind](rng, keys)


def stored_at_once(empty, case):
    memory = empty()
    memory.store(case.keys, case.values)
    return memory


def stored_one_by_one(empty, case):
    memory = empty()
    for key, value in zip(case.keys, case.values, strict=True):
        memory.store(key, value)
        assert memory.n_effective  # so that pairs do not wait to be stored as one block
    return memory


def stored_in_chunks(empty, case):
    memory = empty()
    for start in range(0, len(case.keys), 7):
        memory.store(case.keys[start : start + 7], case.values[start : start + 7])
        memory.recall(case.keys[0])
    return memory


def merged_from_parts(empty, case):
    memory = empty()
    for keys, values in zip(np.array_split(case.keys, 3), np.array_split(case.values, 3), strict=True):
        part = empty()
        part.store(keys, values)
        memory = memory.merge(part)
    return memory


def more_stored_and_forgotten(scale_of_keys, scale_of_values):
    def live(empty, case):
        memory = empty()
        keys, values = case.others(len(case.keys) // 2 + 1)
        keys, values = scale_of_keys * keys, scale_of_values * values
        half = len(case.keys) // 2
        memory.store(case.keys[:half], case.values[:half])
        memory.store(keys, values)
        memory.store(case.keys[half:], case.values[half:])
        memory.forget(keys, values)
        return memory

    return live


def stored_and_forgotten_many_times(empty, case):
    memory = stored_at_once(empty, case)
    for key, value in zip(*case.others(6), strict=True):
        memory.store(key, value)
        memory.forget(key, value)
    return memory


def with_values_replaced(empty, case):
    memory, half = empty(), len(case.keys) // 2 + 1
    old = case.values.copy()
    old[:half] = case.others(half)[1]
    memory.store(case.keys, old)
    memory.replace(case.keys[:half], old[:half], case.values[:half])
    return memory


def saved_and_loaded(empty, case):
    memory, half = empty(), len(case.keys) // 2
    memory.store(case.keys[:half], case.values[:half])
    with tempfile.TemporaryDirectory() as folder:
        memory.save(Path(folder) / "memory")
        memory = type(memory).load(Path(folder) / "memory")
    memory.store(case.keys[half:], case.values[half:])
    return memory


STORING = {
    "one block": stored_at_once,
    "one by one": stored_one_by_one,
    "chunks": stored_in_chunks,
    "saved and loaded": saved_and_loaded,
}
DELETING = {
    "more forgotten": more_stored_and_forgotten(1.0, 1.0),
    "longer forgotten": more_stored_and_forgotten(1e3, 1.0),
    "larger values forgotten": more_stored_and_forgotten(1.0, 1e6),
    "forgotten many times": stored_and_forgotten_many_times,
    "replaced": with_values_replaced,
}
HISTORIES = {**STORING, "merged": merged_from_parts, **DELETING}

# ------------------------------------------------------------------------------------------------------------ draws

SHARES = (0.0, 0.0, 0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e6)
LOADS = (0.1, 0.3, 0.6, 0.9, 1.0, 1.3, 2.0, 3.0)
# Length of keys and expansion: ranks of 8 to 152.
SIZES = ((4, 1), (4, 2), (8, 1), (8, 1), (8, 2), (12, 1), (16, 1), (24, 4))
# Blocks of the projection repeat, and so do units, where keys are short: 20 features of rank 12, 14 of 12, 23 of 21.
REPEATING_SIZES = ((4, 4), (6, 1), (7, 2))
MOST = 64  # pairs, and half of that above a rank of 100


def draw(seed, family=None, *, load=None, **fixed):
    """A case by a seed; further arguments fix the family, the load, or fields of the case."""
    rng = np.random.default_rng([seed, 7])

    def one_of(choices):
        return choices[rng.integers(len(choices))]

    family = family or one_of(list(KEYS))
    key_dim, expansion = one_of(REPEATING_SIZES if family == "repeated units" else SIZES)
    rank = key_dim + expansion * 2 ** int(np.ceil(np.log2(key_dim)))
    chosen = {
        "kind": one_of(["random", "random", *VALUES]),
        "rule": one_of(["ridge", "ridge", "rls"]),
        "decay": one_of([1.0] * 7 + [0.9]),
        "dtype": one_of(["float64", "float64", "float64", "float32"]),
        "share": one_of(SHARES),
        "seed": seed,
        **fixed,
    }
    chosen.setdefault("history", one_of(list(HISTORIES if chosen["decay"] == 1.0 else STORING)))
    n = min(max(round((load or one_of(LOADS)) * rank), 3), MOST if rank <= 100 else MOST // 2)
    keys = KEYS[family](rng, n, key_dim, WIDEST[chosen["dtype"]])
    return Case(family, keys, VALUES[chosen["kind"]](rng, keys), expansion=expansion, **chosen)


# Families and values whose sums lose so many digits to the largest pairs that a deletion may be refused.
EXTREME = ("a key", "lengths over", "quiet")


def may_be_refused(case):
    """Whether an honest deletion may be refused: one or several of the pairs take the digits of the others."""
    extreme_keys = case.family.startswith(EXTREME) or case.history == "longer forgotten"
    extreme_values = case.kind != "random" or case.history == "larger values forgotten"
    return case.history in DELETING and (extreme_keys or extreme_values)


def mean_eigenvalue(features):
    """Of the sum of the outer products of rows."""
    return float((features.astype(float) ** 2).sum() / features.shape[1])
