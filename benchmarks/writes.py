"""Comparisons of writes: every rule against the loop, the solver or the filter that one would otherwise use."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

from assocmem import AssociativeMemory, CReLUFeatures, DeltaRule, Hebbian, RecursiveLeastSquares, Ridge
from assocmem.rules import Shape
from benchmarks.contest import Comparison, Contest

try:
    import padasip
except ImportError:
    padasip = None

try:
    from sklearn.linear_model import Ridge as SklearnRidge
except ImportError:
    SklearnRidge = None

RIDGE_SIZE = (20_000, 512, 8, 64)  # pairs, key_dim, expansion, value_dim
DELTA_SIZE = (512, 512, 8, 256)
RLS_SIZE = (256, 256, 7, 8)
HEBBIAN_SIZE = (4096, 512, 8, 256)
STREAM_SIZE = (100_000, 128, 7, 10)
FILTER_SIZE = (100, 128, 3, 4)
TINY: dict[str, object] = {
    "RIDGE_SIZE": (1200, 16, 2, 3),
    "DELTA_SIZE": (20, 16, 2, 3),
    "RLS_SIZE": (24, 16, 2, 3),
    "HEBBIAN_SIZE": (40, 16, 2, 3),
    "STREAM_SIZE": (300, 16, 2, 3),
    "FILTER_SIZE": (10, 8, 1, 2),
}
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


def shape(size: tuple[int, int, int, int], dtype: str = "float64") -> Shape:
    """Sizes of a memory, as a rule takes them."""
    _, d, k, v = size
    return Shape(d, k, True, v, np.dtype(dtype))


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
    _, d, k, _ = RIDGE_SIZE
    features = CReLUFeatures(d, k, whiten=False, dtype="float32")
    expanded = literal_features(features, keys)
    model = SklearnRidge(alpha=ALPHA, fit_intercept=False, solver="cholesky", copy_X=False)
    return features, model.fit(expanded, values)


def ridge() -> Contest:
    n, d, _, v = RIDGE_SIZE
    keys, values = pairs(n, d, v, "float32")
    elsewhere = pairs(1000, d, 1, "float32")[0][::-1] + 1

    def check() -> None:
        memory = our_ridge(keys, values)
        features, model = sklearn_ridge(keys, values)
        for queries in (keys[:1000], elsewhere):
            close(memory.recall(queries), model.predict(features.expand(queries)), 1e-3)  # type: ignore[attr-defined]

    return Contest(
        ours=lambda: our_ridge(keys, values),
        others={"scikit-learn": None if SklearnRidge is None else lambda: sklearn_ridge(keys, values)},
        check=check,
        rounds=5,
    )


def delta_by_numpy(features: np.ndarray, values: np.ndarray, weights: np.ndarray) -> None:
    """The rule as one writes it down."""
    for f, value in zip(features, values, strict=True):
        weights += np.outer(f, (value - f @ weights) / (f @ f))


@numba.njit(cache=True, fastmath=True)
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
    (n, _, _, v), sizes = DELTA_SIZE, shape(DELTA_SIZE, "float32")
    features, values = pairs(n, sizes.rank, v, "float32")
    rule = DeltaRule()

    def ours() -> np.ndarray:
        state = rule.start(sizes)
        rule.store(state, features, values)
        return rule.solve(state).weights

    def theirs() -> np.ndarray:
        weights = np.zeros((sizes.rank, v), np.float32)
        loop(features, values, weights)
        return weights

    def check() -> None:
        close(ours(), theirs(), 1e-5)

    return Contest(ours=ours, others={loop_name: theirs}, check=check, repeats=3, rounds=7, per=n)


def recursive(block: int) -> Contest:
    """Recursive least squares on folded features against the textbook loop on the literal ones."""
    _, d, k, v = RLS_SIZE
    folded = CReLUFeatures(d, k, whiten=False)
    n_ours, n_theirs = (100, 20) if block == 1 else (block, 20)
    keys, values = pairs(max(n_ours, n_theirs), d, v)
    ours_features, theirs_features = folded.fold(keys), folded.expand(keys)
    rule = RecursiveLeastSquares(alpha=1.0)
    state = rule.start(shape(RLS_SIZE))
    rule.store(state, ours_features[:1], values[:1])
    inverse = np.eye(theirs_features.shape[1])
    weights = np.zeros((theirs_features.shape[1], v))

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
        fresh = rule.start(shape(RLS_SIZE))
        for start in range(0, 20, min(block, 20)):
            rule.store(fresh, ours_features[start : start + block][:20], values[start : start + block][:20])
        textbook(20)
        queries = pairs(30, d, 1)[0] + 1
        close(folded.fold(queries) @ rule.solve(fresh).weights, folded.expand(queries) @ weights, 1e-9)

    return Contest(
        ours=write,
        others={"NumPy loop": lambda: textbook()},
        check=check,
        rounds=7,
        per=n_ours,
        per_other=n_theirs,
    )


def hebbian() -> Contest:
    (n, _, _, v), sizes = HEBBIAN_SIZE, shape(HEBBIAN_SIZE, "float32")
    features, values = pairs(n, sizes.rank, v, "float32")
    rule = Hebbian()
    state = rule.start(sizes)
    weights = np.zeros((sizes.rank, v), np.float32)

    def product() -> None:
        np.matmul(features.T, values, out=weights)

    def check() -> None:
        fresh = rule.start(sizes)
        rule.store(fresh, features, values)
        close(rule.solve(fresh).weights, features.T @ (values / (features**2).sum(1)[:, None]), 1e-5)

    return Contest(
        ours=lambda: rule.store(state, features, values), others={"its product": product}, check=check, rounds=15
    )


def stream() -> Contest:
    """100 000 single stores through the public method against the arithmetic of the same pairs in the same blocks."""
    n, d, k, v = STREAM_SIZE
    memory = AssociativeMemory(d, v, expansion=k)
    keys, values = pairs(n, d, v)
    rows = list(zip(keys, values, strict=True))
    state = memory.rule.start(shape(STREAM_SIZE))

    def ours() -> None:
        for key, value in rows:
            memory.store(key, value)

    def arithmetic() -> None:
        for start in range(0, n, 256):
            block = slice(start, start + 256)
            memory.rule.store(state, memory.features.fold(keys[block]), values[block])

    def check() -> None:
        one_by_one, at_once = (AssociativeMemory(d, v, expansion=k) for _ in range(2))
        for key, value in rows[:2000]:
            one_by_one.store(key, value)
        at_once.store(keys[:2000], values[:2000])
        close(one_by_one.recall(keys[:50] + 1), at_once.recall(keys[:50] + 1), 1e-9)

    return Contest(ours=ours, others={"its arithmetic": arithmetic}, check=check, rounds=3, per=n)


def filters(name: str) -> Contest:
    """Against padasip's filter of the same rule, one filter for every output, on the same folded features."""
    (n, _, _, v), sizes = FILTER_SIZE, shape(FILTER_SIZE)
    rank = sizes.rank
    features, values = pairs(n, rank, v)
    rule = DeltaRule(0.5) if name == "NLMS" else RecursiveLeastSquares(alpha=0.1)
    states = [rule.start(sizes)]

    def ours() -> np.ndarray:
        states[0] = rule.start(sizes)
        for i in range(n):
            rule.store(states[0], features[i : i + 1], values[i : i + 1])
        return rule.solve(states[0]).weights

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


def comparisons() -> list[Comparison]:
    """The comparisons of writes."""
    n, d, k, v = RIDGE_SIZE
    pairs_of_ridge = f"{n:,}".replace(",", " ")
    recursive_rank, filter_sizes = shape(RLS_SIZE).rank, f"D={shape(FILTER_SIZE).rank} v={FILTER_SIZE[3]}"
    block = RLS_SIZE[0]
    return [
        Comparison(f"ridge, {pairs_of_ridge} pairs, d={d} k={k} v={v}, float32: keys to weights", ridge, 4.5),
        Comparison(
            f"delta rule, one pair of {DELTA_SIZE[0]}, D={shape(DELTA_SIZE).rank} v={DELTA_SIZE[3]}",
            lambda: delta("NumPy loop", delta_by_numpy),
            6,
        ),
        Comparison("the same", lambda: delta("numba loop", delta_by_numba), 2),
        Comparison(f"recursive least squares, one pair, D={recursive_rank}", lambda: recursive(1), 4),
        Comparison(f"recursive least squares, one pair of {block}, D={recursive_rank}", lambda: recursive(block), 20),
        Comparison(
            f"Hebbian, {HEBBIAN_SIZE[0]} pairs, D={shape(HEBBIAN_SIZE).rank} v={HEBBIAN_SIZE[3]}", hebbian, 1 / 1.3
        ),
        Comparison(f"stream of single stores, ridge, D={shape(STREAM_SIZE).rank}", stream),
        Comparison(f"delta rule pair by pair, {filter_sizes}", lambda: filters("NLMS")),
        Comparison(f"recursive least squares pair by pair, {filter_sizes}", lambda: filters("RLS")),
    ]
