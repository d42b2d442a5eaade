"""Comparisons of recall: a frozen memory against dense products with the same CReLU features."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import numba
import numpy as np

from assocmem import AssociativeMemory, FrozenMemory, HadamardProjection
from benchmarks.contest import Comparison, Contest

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]
try:
    import torchhd
except ImportError:
    torchhd = None

N_KEYS = 16  # keys in turn: recalling one key again and again would leave its rows in the cache
N_STORED = 64  # pairs, for weights that look random

SIZES = ((1024, 2, 1024), (1024, 4, 1024), (1024, 8, 4096))  # key_dim, expansion, value_dim
SPARSE_SIZE = (128, 3, 32)
BATCH_SIZE = (4096, 512, 8, 1024)  # keys, and as above
TINY: dict[str, object] = {
    "SIZES": ((64, 2, 64), (64, 4, 64), (64, 8, 64)),
    "SPARSE_SIZE": (128, 1, 32),
    "BATCH_SIZE": (64, 32, 2, 16),
}


def random_memory(d: int, k: int, v: int, precision: str) -> tuple[FrozenMemory, np.ndarray]:
    """A frozen memory of a few random pairs, and its dense literal weights (2 m, v) in float32."""
    memory = random_pairs(d, k, v, "float64" if precision == "float64" else "float32")
    return memory.freeze(precision), memory.weights.astype(np.float32, copy=False).reshape(-1, v)


def random_pairs(d: int, k: int, v: int, dtype: str) -> AssociativeMemory:
    """A memory of a few random pairs."""
    rng = np.random.default_rng(0)
    memory = AssociativeMemory(d, v, expansion=k, rule="hebbian", whiten=False, dtype=dtype)
    memory.store(rng.standard_normal((N_STORED, d)), rng.standard_normal((N_STORED, v)))
    return memory


def dense_features(projection: HadamardProjection, key: np.ndarray, features: np.ndarray) -> np.ndarray:
    """CReLU features of one key into `features`, with our projection, the fastest there is for them."""
    z = projection.project(key)
    m = len(z)
    np.maximum(z, 0, out=features[:m])
    np.subtract(features[:m], z, out=features[m:])
    return features


def agree(ours: Callable[[], np.ndarray], others: dict[str, Callable[[], object] | None], tolerance: float) -> None:
    """Raise unless all recall the same."""
    expected = np.asarray(next(call for call in others.values() if call is not None)())
    for call in (ours, *others.values()):
        if call is not None:
            np.testing.assert_allclose(np.asarray(call()), expected, atol=tolerance * float(abs(expected).max()))


def single(d: int, k: int, v: int, precision: str) -> Contest:
    """One key, end to end."""
    frozen, dense = random_memory(d, k, v, precision)
    transposed = np.ascontiguousarray(dense.T)
    keys = np.random.default_rng(1).standard_normal((N_KEYS, d), dtype=np.float32)
    projection = frozen.features.projection
    buffer = np.empty(len(dense), np.float32)

    def contestants(choose: Callable[[], np.ndarray]) -> dict[str, Callable[[], object] | None]:
        def features() -> np.ndarray:
            return dense_features(projection, choose(), buffer)

        calls: dict[str, Callable[[], object] | None] = {
            "numpy, rows": lambda: features() @ dense,
            "numpy, columns": lambda: transposed @ features(),
            "torch, rows": None,
            "torch, columns": None,
        }
        if torch is not None:
            rows, columns = torch.from_numpy(dense), torch.from_numpy(transposed)
            calls["torch, rows"] = lambda: torch.from_numpy(features()) @ rows
            calls["torch, columns"] = lambda: torch.mv(columns, torch.from_numpy(features()))
        return calls

    turn = cycle(keys)
    tolerance = 2e-2 if precision == "int8" else 1e-4
    return Contest(
        ours=lambda: frozen.recall(next(turn)),
        others=contestants(lambda: next(turn)),
        check=lambda: agree(lambda: frozen.recall(keys[0]), contestants(lambda: keys[0]), tolerance),
        repeats=max(20, int(2e9 / dense.size)),
        rounds=15,
    )


def batch(n: int, d: int, k: int, v: int) -> Contest:
    """Many keys at once."""
    frozen, dense = random_memory(d, k, v, "float32")
    keys = np.random.default_rng(1).standard_normal((n, d), dtype=np.float32)
    projection = frozen.features.projection
    m = frozen.features.n_units
    buffer = np.empty((n, 2 * m), np.float32)

    def features() -> np.ndarray:
        z = projection.project(keys)
        np.maximum(z, 0, out=buffer[:, :m])
        np.subtract(buffer[:, :m], z, out=buffer[:, m:])
        return buffer

    others: dict[str, Callable[[], object] | None] = {"numpy": lambda: features() @ dense, "torch": None}
    if torch is not None:
        rows = torch.from_numpy(dense)

        def in_torch() -> object:
            z = torch.from_numpy(projection.project(keys))
            return torch.cat([torch.relu(z), torch.relu(-z)], 1) @ rows

        others["torch"] = in_torch
    return Contest(
        ours=lambda: frozen.recall(keys),
        others=others,
        check=lambda: agree(lambda: frozen.recall(keys), others, 1e-4),
        rounds=7,
    )


@numba.njit(cache=True, fastmath=True, parallel=True)
def sum_on_all_threads(numbers: np.ndarray) -> float:
    """The sum of an array, every thread reading a part of it in order."""
    total = numbers.dtype.type(0)
    for i in numba.prange(numbers.shape[0]):
        total += numbers[i]
    return total


def bandwidth(d: int, k: int, v: int) -> Contest:
    """One recall against the plain sum of as many consecutive bytes as it reads, on the same threads.

    Sums of the first and of the second half of the weights in turn, since recalls of different keys touch both.
    """
    frozen, _ = random_memory(d, k, v, "float32")
    keys = np.random.default_rng(1).standard_normal((N_KEYS, d), dtype=np.float32)
    halves = cycle(frozen.weights.reshape(2, -1))
    turn = cycle(keys)

    def check() -> None:
        half = frozen.weights.reshape(2, -1)[0]
        size = float(np.abs(half).max())
        np.testing.assert_allclose(
            sum_on_all_threads(half), half.sum(dtype=np.float64), atol=1e-3 * size * half.size**0.5
        )

    return Contest(
        ours=lambda: frozen.recall(next(turn)),
        others={"plain sum": lambda: sum_on_all_threads(next(halves))},
        check=check,
        repeats=max(20, int(2e9 / frozen.weights.size)),
        rounds=15,
    )


def sparse_distributed() -> Contest:
    """Recall from torchhd's sparse distributed memory with as many numbers; that it holds less is not timed."""
    (d, k, v), n = SPARSE_SIZE, 50
    frozen_keys, values = (np.random.default_rng(0).standard_normal((n, size)).astype(np.float32) for size in (d, v))
    memory = AssociativeMemory(d, v, expansion=k, rule="hebbian", dtype="float32")
    memory.store(frozen_keys, values)
    frozen = memory.freeze()
    theirs = None
    if torchhd is not None:
        torch.manual_seed(0)
        hard = torchhd.memory.SparseDistributed(memory.rank, d, v, p=0.03)
        with torch.no_grad():
            hard.values.zero_()
            hard.write(torch.from_numpy(d**0.5 * frozen_keys), torch.from_numpy(values))
        theirs = lambda: hard.read(torch.from_numpy(d**0.5 * frozen_keys[:1]))  # noqa: E731

    def check() -> None:
        value = frozen.recall(frozen_keys[0])
        assert np.corrcoef(value, values[0])[0, 1] > 0.8

    return Contest(ours=lambda: frozen.recall(frozen_keys[0]), others={"torchhd": theirs}, check=check, repeats=300)


def comparisons() -> list[Comparison]:
    """The comparisons of recalls."""
    n, *rest = BATCH_SIZE
    named = [(size, "d={} k={} v={}".format(*size)) for size in SIZES]
    return [
        *(
            Comparison(f"one key, {precision}, {name}", lambda p=precision, s=size: single(*s, p), target)
            for precision, targets in (("float32", (2, 2, 2)), ("int8", (4, 4, 6)))
            for (size, name), target in zip(named, targets, strict=True)
        ),
        *(
            Comparison(f"one key, float32, {name}: share of the bandwidth", lambda s=size: bandwidth(*s), 0.8)
            for size, name in named
        ),
        Comparison(
            "one key, d={} k={} v={}, beside a sparse distributed memory".format(*SPARSE_SIZE), sparse_distributed
        ),
        Comparison("{} keys, float32, d={} k={} v={}".format(*BATCH_SIZE), lambda: batch(n, *rest), 1.8),
    ]
