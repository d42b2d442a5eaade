"""What `center=` is worth on real keys: wrong signs raw and centred, at the same noise, each at its best penalty.

Random ±1 values are stored, and asked for with noisy keys, the same for both memories. The noise is Gaussian and of one
size for all keys of a set: a query is at COSINE to a key of the typical distance from the mean, both without the mean.
Penalties are chosen in hindsight, for each memory its own.
"""

import time
from collections.abc import Callable, Iterable

import numpy as np

from assocmem import AssociativeMemory, Ridge
from benchmarks.keysets import Keys, sets_named
from benchmarks.timing import machine, table

COSINE, VALUE_DIM, TRIALS = 0.9, 64, 3
LOADS = (0.3, 0.8)
EXPANSIONS = {"random": 4, "digits": 8, "photograph": 4, "words": 4, "MNIST": 1}
PENALTIES = tuple(10.0 ** np.arange(-2, 2.01, 0.25))  # in mean eigenvalues of G
TINY = {"TRIALS": 1, "LOADS": (0.05,), "PENALTIES": (0.1, 1.0)}

HEADER = ["keys", "expansion", "pairs", "rank", "raw", "centred", "centred / raw"]


def noisy(keys: Keys, rng: np.random.Generator) -> Keys:
    """Keys with noise added, whose size is measured by how far keys are from their mean."""
    return keys + np.sqrt(1 / COSINE**2 - 1) * np.sqrt(keys.var(axis=0).mean()) * rng.standard_normal(keys.shape)


def wrong_signs(memory: AssociativeMemory, keys: Keys, values: Keys, queries: Keys) -> list[float]:
    """Share of wrong signs for each of PENALTIES, of the pairs stored under Ridge(1) in an empty memory."""
    memory.store(keys, values)
    mean_eigenvalue = (memory.features.fold(keys) ** 2).sum() / memory.rank
    rules = (Ridge(penalty * mean_eigenvalue) for penalty in PENALTIES)
    return [float((memory.with_rule(rule).recall(queries) * values < 0).mean()) for rule in rules]


def errors(keys: Keys, expansion: int, load: float) -> tuple[int, int, float, float]:
    """Pairs, rank, and the share of wrong signs of raw and of centred keys, at the best penalty of each."""
    center, key_dim = keys.mean(axis=0), keys.shape[1]
    found = []
    for trial in range(TRIALS):
        rng = np.random.default_rng(trial)
        memories = [
            AssociativeMemory(key_dim, VALUE_DIM, expansion=expansion, rule=Ridge(1.0), center=each, seed=trial)
            for each in (None, center)
        ]
        rank = memories[0].rank
        stored = rng.permutation(keys)[: round(load * rank)]
        values, queries = rng.choice([-1.0, 1.0], (len(stored), VALUE_DIM)), noisy(stored, rng)
        found.append([wrong_signs(memory, stored, values, queries) for memory in memories])
    raw, centred = np.mean(found, axis=0).min(axis=1)
    return len(stored), rank, float(raw), float(centred)


def centring_rows(sets: dict[str, Callable[[np.random.Generator], Keys]]) -> Iterable[list[str]]:
    """Rows of a table under HEADER, for each set of keys and each of LOADS that it has keys for."""
    for name, draw in sets.items():
        keys = draw(np.random.default_rng(0))
        for load in LOADS:
            n_pairs, rank, raw, centred = errors(keys, EXPANSIONS[name], load)
            row = [name, str(EXPANSIONS[name]), str(n_pairs), str(rank)]
            yield [*row, f"{raw:.4f}", f"{centred:.4f}", f"{centred / raw:.2f}" if raw else ""]


def main(options: tuple[str, ...] = ()) -> None:
    """Print the table, for the large sets only if they are given."""
    start = time.perf_counter()
    print(machine())
    print(f"wrong signs of ±1 values, queries at cosine {COSINE:g} to typical keys, best penalty, {TRIALS} trials\n")
    print(table(HEADER, list(centring_rows(sets_named(options)))))
    print(f"\n{time.perf_counter() - start:.0f} s")
