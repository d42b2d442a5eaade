"""Comparisons of writes: every rule against the loop, the solver or the filter that one would otherwise use."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

from assocmem import AssociativeMemory, CReLUFeatures, Ridge
from assocmem.rules import DeltaRule, Hebbian, RecursiveLeastSquares
from benchmarks.contest import Comparison, Contest

try:
    import padasip
except ImportError:
    padasip = None

RIDGE_SIZE = (20_000, 512, 8, 64)  # pairs, key_dim, expansion, value_dim
ALPHA = 100.0


def pairs(n: int, d: int, v: int, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((n, v)).astype(dtype)


def close(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    """Raise unless the arrays agree."""
    away = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    if not away <= tolerance:
        raise AssertionError(f"the contestants differ by {away:.1e}, more than {tolerance:g}")


def our_ridge(keys: np.ndarray, values: np.ndarray) -> AssociativeMemory:
    """From keys to solved weights, literal metric, float32 features."""
    _, d, k, v = RIDGE_SIZE
    memory = AssociativeMemory(d, v, expansion=k, rule=Ridge(ALPHA), whiten=False, dtype="float32")
    memory.store(keys, values)
    memory.recall(keys[0])
    return memory


def literal_features(features: CReLUFeatures, keys: np.ndarray) -> np.ndarray:
    """CReLU features of many keys, written where they stay."""
    expanded = np.empty((len(keys), 2 * features.n_units), np.float32)
    for start in range(0, len(keys), 2048):  # stays in the cache between projection and rectifier
        rows = slice(start, start + 2048)
        z = features.project(keys[rows])
        np.maximum(z, 0, out=expanded[rows, : features.n_units])
        np.subtract(expanded[rows, : features.n_units], z, out=expanded[rows, features.n_units :])
    return expanded


def sklearn_ridge(keys: np.ndarray, values: np.ndarray) -> tuple[CReLUFeatures, object]:
    """scikit-learn's Ridge by Cholesky on the literal features."""
    from sklearn.linear_model import Ridge as SklearnRidge

    _, d, k, _ = RIDGE_SIZE
    features = CReLUFeatures(d, k, whiten=False, dtype="float32")
    expanded = literal_features(features, keys)
    model = SklearnRidge(alpha=ALPHA, fit_intercept=False, solver="cholesky", copy_X=False)
    return features, model.fit(expanded, values)


def ridge() -> Contest:
    n, d, _, v = RIDGE_SIZE
    keys, values = pairs(n, d, v, "float32")
    others = pairs(1000, d, 1, "float32")[0][::-1] + 1

    def check() -> None:
        memory = our_ridge(keys, values)
        features, model = sklearn_ridge(keys, values)
        for queries in (keys[:1000], others):
            close(memory.recall(queries), model.predict(features.expand(queries)), 1e-3)  # type: ignore[attr-defined]

    return Contest(
        ours=lambda: our_ridge(keys, values),
        others={"scikit-learn": lambda: sklearn_ridge(keys, values)},
        check=check,
        rounds=5,
    )


def delta_by_numpy(features: np.ndarray, values: np.ndarray, weights: np.ndarray) -> None:
    """The rule as one writes it down."""
    for f, value in zip(features, values, strict=True):
        weights += np.outer(f, (value - f @ weights) / (f @ f))


@numba.njit(fastmath=True)
def delta_by_numba(features: np.ndarray, values: np.ndarray, weights: np.ndarray) -> None:
    """The same as loops over contiguous memory."""
    error = np.empty(weights.shape[1], weights.dtype)
    for n in range(features.shape[0]):
        f = features[n]
        error[:] = values[n]
        for i in range(f.shape[0]):
            error -= f[i] * weights[i]
        error /= np.dot(f, f)
        for i in range(f.shape[0]):
            weights[i] += f[i] * error


def delta(loop_name: str, loop: Callable[..., None]) -> Contest:
    n, rank, v = 512, 4608, 256
    features, values = pairs(n, rank, v, "float32")
    rule = DeltaRule()

    def ours() -> np.ndarray:
        state = rule.start(rank, v, features.dtype)
        rule.store(state, features, values)
        return rule.weights(state)

    def theirs() -> np.ndarray:
        weights = np.zeros((rank, v), np.float32)
        loop(features, values, weights)
        return weights

    def check() -> None:
        close(ours(), theirs(), 1e-5)

    return Contest(ours=ours, others={loop_name: theirs}, check=check, repeats=3, rounds=7, per=n)


RLS_D, RLS_K, RLS_V = 256, 7, 8  # rank 2048, 3584 literal features


def recursive(block: int) -> Contest:
    """Recursive least squares on folded features against the textbook loop on the literal ones."""
    folded = CReLUFeatures(RLS_D, RLS_K, whiten=False)
    n_ours, n_theirs = (100, 20) if block == 1 else (block, 20)
    keys, values = pairs(max(n_ours, n_theirs), RLS_D, RLS_V)
    ours_features, theirs_features = folded.fold(keys), folded.expand(keys)
    rule = RecursiveLeastSquares(alpha=1.0)
    state = rule.start(folded.rank, RLS_V, np.dtype(np.float64))
    rule.store(state, ours_features[:1], values[:1])
    inverse = np.eye(theirs_features.shape[1])
    weights = np.zeros((theirs_features.shape[1], RLS_V))

    def write() -> None:
        for start in range(0, n_ours, block):
            rows = slice(start, start + block)
            rule.store(state, ours_features[rows], values[rows])

    def textbook(n: int = n_theirs) -> None:
        nonlocal inverse
        for f, value in zip(theirs_features[:n], values[:n], strict=True):
            gain = inverse @ f
            gain /= 1 + f @ gain
            weights[...] += np.outer(gain, value - f @ weights)
            inverse -= np.outer(gain, f @ inverse)

    def check() -> None:
        fresh = rule.start(folded.rank, RLS_V, np.dtype(np.float64))
        for start in range(0, 20, min(block, 20)):
            rule.store(fresh, ours_features[start : start + block][:20], values[start : start + block][:20])
        textbook(20)
        queries = pairs(30, RLS_D, 1)[0] + 1
        close(folded.fold(queries) @ rule.weights(fresh), folded.expand(queries) @ weights, 1e-9)

    return Contest(
        ours=write,
        others={"NumPy loop": lambda: textbook()},
        check=check,
        rounds=7,
        per=n_ours,
        per_other=n_theirs,
    )


def hebbian() -> Contest:
    n, rank, v = 4096, 4608, 256
    features, values = pairs(n, rank, v, "float32")
    rule = Hebbian()
    state = rule.start(rank, v, features.dtype)
    weights = np.zeros((rank, v), np.float32)

    def product() -> None:
        np.matmul(features.T, values, out=weights)

    def check() -> None:
        fresh = rule.start(rank, v, features.dtype)
        rule.store(fresh, features, values)
        close(rule.weights(fresh), features.T @ (values / (features**2).sum(1)[:, None]), 1e-5)

    return Contest(
        ours=lambda: rule.store(state, features, values), others={"its product": product}, check=check, rounds=15
    )


def stream() -> Contest:
    """100 000 single stores through the public method against the arithmetic of the same pairs in the same blocks."""
    n, d, v = 100_000, 128, 10
    memory = AssociativeMemory(d, v, expansion=7)
    keys, values = pairs(n, d, v)
    rows = list(zip(keys, values, strict=True))
    state = memory.rule.start(memory.rank, v, memory.dtype)

    def ours() -> None:
        for key, value in rows:
            memory.store(key, value)

    def arithmetic() -> None:
        for start in range(0, n, 256):
            block = slice(start, start + 256)
            memory.rule.store(state, memory.features.fold_rows(keys[block]), values[block])

    def check() -> None:
        one_by_one, at_once = (AssociativeMemory(d, v, expansion=7) for _ in range(2))
        for key, value in rows[:2000]:
            one_by_one.store(key, value)
        at_once.store(keys[:2000], values[:2000])
        close(one_by_one.recall(keys[:50] + 1), at_once.recall(keys[:50] + 1), 1e-9)

    return Contest(ours=ours, others={"its arithmetic": arithmetic}, check=check, rounds=3, per=n)


def filters(name: str) -> Contest:
    """Against padasip's filter of the same rule, one filter for every output, on the same folded features."""
    rank, v, n = 512, 4, 100
    features, values = pairs(n, rank, v)
    rule = DeltaRule(0.5) if name == "NLMS" else RecursiveLeastSquares(alpha=0.1)
    states = [rule.start(rank, v, features.dtype)]

    def ours() -> np.ndarray:
        states[0] = rule.start(rank, v, features.dtype)
        for i in range(n):
            rule.store(states[0], features[i : i + 1], values[i : i + 1])
        return rule.weights(states[0])

    def theirs() -> np.ndarray:
        weights = []
        for target in values.T:
            if name == "NLMS":
                one = padasip.filters.FilterNLMS(rank, mu=0.5, eps=1e-12, w="zeros")
            else:
                one = padasip.filters.FilterRLS(rank, mu=1.0, eps=0.1, w="zeros")
            for f, value in zip(features, target, strict=True):
                one.adapt(value, f)
            weights.append(one.w)
        return np.array(weights).T

    def check() -> None:
        if padasip is not None:
            close(ours(), theirs(), 1e-6)

    return Contest(ours=ours, others={"padasip": theirs if padasip is not None else None}, check=check, rounds=5, per=n)


WRITES = [
    Comparison("ridge, 20 000 pairs, d=512 k=8 v=64, float32: keys to weights", ridge, 4.5),
    Comparison("delta rule, one pair of 512, D=4608 v=256", lambda: delta("NumPy loop", delta_by_numpy), 6),
    Comparison("the same", lambda: delta("numba loop", delta_by_numba), 2),
    Comparison("recursive least squares, one pair, D=2048", lambda: recursive(1), 4),
    Comparison("recursive least squares, one pair of 256, D=2048", lambda: recursive(256), 20),
    Comparison("Hebbian, 4096 pairs, D=4608 v=256", hebbian, 1 / 1.3),
    Comparison("stream of single stores, ridge, D=1024", stream),
    Comparison("delta rule pair by pair, D=512 v=4", lambda: filters("NLMS")),
    Comparison("recursive least squares pair by pair, D=512 v=4", lambda: filters("RLS")),
]
