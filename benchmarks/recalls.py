"""Comparisons of recall: a frozen memory against dense products with the same CReLU features."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import numpy as np

from assocmem import CReLUFeatures, FrozenMemory, HadamardProjection
from assocmem.frozen import quantized
from benchmarks.contest import Comparison, Contest

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

N_KEYS = 16  # keys in turn: recalling one key again and again would leave its rows in the cache


def random_memory(d: int, k: int, v: int, precision: str) -> tuple[FrozenMemory, np.ndarray]:
    """A frozen memory with random weights, and the dense literal weights (2 m, v)."""
    features = CReLUFeatures(d, k, whiten=False, dtype="float32")
    literal = np.random.default_rng(0).standard_normal((2, features.n_units, v), dtype=np.float32)
    frozen = FrozenMemory(features, *quantized(literal, precision), np.zeros(v, np.float32))
    return frozen, literal.reshape(-1, v)


def dense_features(projection: HadamardProjection, key: np.ndarray, features: np.ndarray) -> np.ndarray:
    """CReLU features of one key into `features`, with our projection, the fastest there is for them."""
    z = projection.project(key)
    m = len(z)
    np.maximum(z, 0, out=features[:m])
    np.subtract(features[:m], z, out=features[m:])
    return features


def agree(ours: Callable[[], np.ndarray], others: dict[str, Callable[[], object] | None], tolerance: float) -> None:
    """Raise unless everybody recalls the same."""
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
        repeats=max(20, int(2e9 / dense.size)) // 10,
        rounds=25,
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


SIZES = ((1024, 2, 1024), (1024, 4, 1024), (1024, 8, 4096))
RECALLS = [
    *(
        Comparison(f"one key, {precision}, d={d} k={k} v={v}", lambda p=precision, s=(d, k, v): single(*s, p), target)
        for precision, targets in (("float32", (2, 2, 2)), ("int8", (4, 4, 6)))
        for (d, k, v), target in zip(SIZES, targets, strict=True)
    ),
    Comparison("4096 keys, float32, d=512 k=8 v=1024", lambda: batch(4096, 512, 8, 1024), 1.8),
]
