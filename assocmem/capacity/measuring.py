"""Measurement of recall errors against load, compared with the laws."""

from __future__ import annotations

import dataclasses
import importlib
import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from assocmem import __version__, laws
from assocmem.capacity.tables import CapacityTable, Point, with_prediction
from assocmem.core import checks
from assocmem.features.noise import noisy_keys
from assocmem.laws.prediction import KINDS, bits_of
from assocmem.memory import AssociativeMemory
from assocmem.rules import RULES, Rule, as_rule

CONFIDENCE: Final = 0.99

# Pairs drawn, stored and recalled at a time, so that no array has N rows.
BLOCK = 1024

# Squared error of an exact recall, which is rounding.
EXACT = 1e-12


@dataclass(frozen=True)
class _Trial:
    """Configuration of one trial: a memory, the pairs it stores and the queries."""

    rule: Rule
    key_dim: int
    value_dim: int
    expansion: int
    n_pairs: int
    query_cosines: tuple[float, ...]
    kind: str
    queries: int
    whiten: bool
    dtype: str
    seed: tuple[int, ...]

    def build(self) -> AssociativeMemory:
        """Return the empty memory."""
        return AssociativeMemory(
            self.key_dim,
            self.value_dim,
            expansion=self.expansion,
            rule=self.rule,
            whiten=self.whiten,
            seed=int(np.random.default_rng((*self.seed, 0)).integers(2**31)),
            dtype=self.dtype,
        )

    def blocks(self) -> Iterator[tuple[NDArray[Any], NDArray[Any], np.random.Generator, NDArray[np.intp]]]:
        """Keys of norm 1, values, a generator for the noise and the indices to query, the same in every pass."""
        stride = -(-self.n_pairs // self.queries)
        for start in range(0, self.n_pairs, BLOCK):
            rng = np.random.default_rng((*self.seed, 1, start))
            count = min(BLOCK, self.n_pairs - start)
            keys = rng.standard_normal((count, self.key_dim))
            keys /= np.linalg.norm(keys, axis=1, keepdims=True)
            asked = np.arange(-start % stride, count, stride)
            yield keys, self._values(rng, count), rng, asked

    def _values(self, rng: np.random.Generator, count: int) -> NDArray[Any]:
        if self.kind == "onehot":
            return np.eye(self.value_dim)[rng.integers(self.value_dim, size=count)]
        values = rng.standard_normal((count, self.value_dim))
        return np.where(values < 0, -1.0, 1.0) if self.kind == "sign" else values


def _run(trial: _Trial) -> tuple[list[float], float, int]:
    """Store, then recall at every cosine; return the mean errors, the relative penalty and the number of recalls."""
    memory = trial.build()
    for keys, values, _, _ in trial.blocks():
        memory.store(keys, values)
    errors, judged = np.zeros(len(trial.query_cosines)), 0
    for keys, values, rng, asked in trial.blocks():
        if len(asked) == 0:
            continue
        keys, values = keys[asked], values[asked]
        for index, cosine in enumerate(trial.query_cosines):
            recalled = memory.recall(noisy_keys(keys, cosine, rng)).astype(np.float64)
            errors[index] += _errors(trial.kind, recalled, values).sum()
        judged += len(asked) if trial.kind == "onehot" else values.size
    alpha = memory.alpha
    return list(errors / judged), math.nan if alpha is None else float(np.mean(alpha)) / memory.rank, judged


def _errors(kind: str, recalled: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    if kind == "gaussian":
        return np.asarray((recalled - values) ** 2)
    if kind == "onehot":
        return np.asarray(recalled.argmax(axis=1) != values.argmax(axis=1))
    # A recall of exactly 0 has no sign: half an error.
    return np.asarray(np.where(recalled == 0, 0.5, recalled * values < 0))


def interval(errors: ArrayLike, judged: int, *, counts: bool) -> tuple[float, float]:
    """Interval of confidence 99 % for the mean error, from the errors of independent trials.

    Student's t over the trials, since the recalls of one are dependent; for counts no narrower than the interval of
    Clopper and Pearson for independent recalls, which also covers trials without any error.

    Parameters
    ----------
    errors : (trials,)
        Mean error of every trial.
    judged : int
        Recalls in all trials together.
    counts : bool
        Whether the errors are shares of wrong recalls; otherwise mean squares.

    Examples
    --------
    >>> low, high = interval([0.0, 0.0], judged=1000, counts=True)
    >>> low, round(high, 4)
    (0.0, 0.0053)
    """
    trials = checks.read_array("errors", errors).astype(np.float64)
    mean, tail = float(trials.mean()), (1 - CONFIDENCE) / 2
    low, high = mean, mean
    if len(trials) > 1:
        reach = stats.t.ppf(1 - tail, len(trials) - 1) * trials.std(ddof=1) / math.sqrt(len(trials))
        low, high = mean - reach, mean + reach
    if counts:
        wrong = mean * judged
        low = min(low, special.betaincinv(wrong, judged - wrong + 1, tail) if wrong > 0 else 0.0)
        high = max(high, special.betaincinv(wrong + 1, judged - wrong, 1 - tail) if wrong < judged else 1.0)
    else:
        low, high = low - EXACT, high + EXACT
    return max(float(low), 0.0), float(high)


def measure(
    rule: str | Rule = "ridge",
    *,
    key_dim: int = 128,
    value_dim: int = 16,
    expansion: int = 3,
    loads: Sequence[float] = (0.2, 0.5, 0.8, 1.5),
    query_cosines: Sequence[float] = (1.0, 0.9),
    kind: str = "sign",
    trials: int = 5,
    queries: int = 2048,
    whiten: bool = True,
    dtype: str = "float64",
    seed: int = 0,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> CapacityTable:
    """Measure recall errors and compare them with the predicted ones; every trial builds, fills and queries a memory.

    Keys have norm 1 and random directions, values are independent. Pairs are drawn in blocks, and for the queries drawn
    again from the same seeds, so no table of all pairs is held.

    Parameters
    ----------
    rule : rule name or object
        As for `AssociativeMemory`.
    key_dim, value_dim, expansion, whiten, dtype
        As for `AssociativeMemory`; for one-hot values value_dim is the number of classes.
    loads : sequence of float above 0
        Loads N / D; the N that is nearest is stored, at least one pair.
    query_cosines : sequence of float in [0, 1]
        Cosines of the queries to the stored keys; 1 asks for the stored keys themselves.
    kind : {"sign", "gaussian", "onehot"}
        Values ±1, Gaussian of variance 1, or one-hot.
    trials : int, at least 2
        Memories per load.
    queries : int
        Pairs queried in a trial, evenly spread over all that are stored.
    seed : int
        The same seed gives the same table, with any number of processes.
    processes : int
        Trials run side by side, each with one BLAS thread where threadpoolctl is installed.
    progress : function (trials done, all trials), optional
        Called after every trial.

    Returns
    -------
    CapacityTable
        One point for every load and cosine.

    Examples
    --------
    >>> table = measure("hebbian", key_dim=32, loads=[0.5], query_cosines=[1.0], trials=3)
    >>> point = table.points[0]
    >>> point.n_pairs, point.low < point.predicted < point.high
    (64, True)
    """
    low = np.nextafter(0.0, 1.0)
    load_list = [checks.as_number("load", load, low, 1e9) for load in loads]
    cosines = tuple(checks.as_number("query_cosine", cosine, 0.0, 1.0) for cosine in query_cosines)
    trials, queries = checks.as_size("trials", trials, 2), checks.as_size("queries", queries)
    seed = checks.as_size("seed", seed, 0)
    rule = as_rule(rule)
    label = label_of(rule)
    like = AssociativeMemory(key_dim, value_dim, expansion=expansion, rule=rule, whiten=whiten, dtype=dtype)
    todo = [
        _Trial(
            rule=rule,
            key_dim=like.key_dim,
            value_dim=like.value_dim,
            expansion=like.features.expansion,
            n_pairs=max(1, round(load * like.rank)),
            query_cosines=cosines,
            kind=checks.as_choice("kind", kind, KINDS),
            queries=queries,
            whiten=like.features.whiten,
            dtype=like.dtype.name,
            seed=(seed, index, trial),
        )
        for index, load in enumerate(load_list)
        for trial in range(trials)
    ]
    results = []
    for result in _run_all(todo, checks.as_size("processes", processes)):
        results.append(result)
        if progress is not None:
            progress(len(results), len(todo))
    points = [
        point
        for first in range(0, len(todo), trials)
        for point in _points(todo[first], label, like.rank, results[first : first + trials])
    ]
    return CapacityTable(tuple(points))


def _run_all(todo: list[_Trial], processes: int) -> Iterator[tuple[list[float], float, int]]:
    if processes == 1:
        yield from map(_run, todo)
        return
    # Spawned and not forked: a fork copies the locks of running BLAS and numba threads, but not the threads.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), one_blas_thread) as pool:
        yield from pool.map(_run, todo)


def one_blas_thread() -> AbstractContextManager[object]:
    """Limit BLAS to one thread, from this call to the end of a `with` block; no limit without threadpoolctl.

    The products of a trial are small: where processors are shared with other programs, threads of BLAS that wait for
    each other take several times as long.
    """
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[object] = threadpoolctl.threadpool_limits(1, user_api="blas")
    return limits


def _points(trial: _Trial, label: str, rank: int, results: list[tuple[list[float], float, int]]) -> Iterator[Point]:
    """Summarise the trials of one load, cosine by cosine."""
    load = trial.n_pairs / rank
    penalty = float(np.mean([result[1] for result in results]))
    judged = sum(result[2] for result in results)
    for index, cosine in enumerate(trial.query_cosines):
        errors = [result[0][index] for result in results]
        low, high = interval(errors, judged, counts=trial.kind != "gaussian")
        measured = float(np.mean(errors))
        bits = bits_of(trial.kind, load, measured, trial.value_dim)
        point = Point(
            rule=label,
            kind=trial.kind,
            load=load,
            n_pairs=trial.n_pairs,
            query_cosine=cosine,
            trials=len(results),
            penalty=penalty,
            measured=measured,
            low=low,
            high=high,
            predicted=math.nan,
            bits_per_weight=bits,
            share_of_limit=bits / laws.COVER_GARDNER_LIMIT,
            key_dim=trial.key_dim,
            expansion=trial.expansion,
            rank=rank,
            value_dim=trial.value_dim,
            whiten=trial.whiten,
            dtype=trial.dtype,
            queries=trial.queries,
            seed=trial.seed[0],
            version=__version__,
        )
        yield with_prediction(point, trial.rule)


def label_of(rule: Rule) -> str:
    """Name a rule, registered or not; its configuration where that is not the default or the name is another's."""
    is_default = all(getattr(rule, entry.name) == entry.default for entry in dataclasses.fields(rule))  # type: ignore[arg-type]
    is_its_name = RULES.get(rule.name, type(rule)) is type(rule)
    return rule.name if is_default and is_its_name else repr(rule)
