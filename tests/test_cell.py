"""One door: whatever cuts a write off, the memory is whole or refuses, and what was deleted is gone from it."""

import gc
import signal
import time

import numpy as np
import pytest

import assocmem.rules.sums
from assocmem import AssociativeMemory, RecursiveLeastSquares, Ridge
from tests.helpers import RULES, pairs, relative

KEYS, VALUES = pairs(4000, 8, 2)
FOUR = {"hebbian": "hebbian", "delta": "delta", "ridge": Ridge(alpha=1.0), "rls": RecursiveLeastSquares(alpha=1.0)}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="timers are POSIX's")
@pytest.mark.parametrize("size", [1, 300])
@pytest.mark.parametrize("name", FOUR)
def test_alarms_at_any_moment_of_thousands_of_stores_leave_the_first_pairs_or_a_refusal(name, size):
    """An alarm handler that raises, as for timeouts: n_stored tells which pairs are in, and recalls agree."""
    memory, interrupted, pause = AssociativeMemory(8, 2, rule=FOUR[name]), 0, np.random.default_rng(0)
    memory.store(KEYS[:size], VALUES[:size])
    memory.recall(KEYS[:2])  # compiled before the first alarm
    memory.recall(KEYS[0])

    def ring(number, frame):
        raise TimeoutError

    n_attempts = 2000 if size == 1 else 400
    handler = signal.signal(signal.SIGALRM, ring)
    try:
        for _ in range(n_attempts):
            n = memory.n_stored
            if n + size > len(KEYS):
                break
            try:
                signal.setitimer(signal.ITIMER_REAL, pause.uniform(1e-6, 2e-4 if size == 1 else 1e-3))
                memory.store(KEYS[n : n + size], VALUES[n : n + size])
                memory.recall(KEYS[0])
                signal.setitimer(signal.ITIMER_REAL, 0)
            except TimeoutError:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert interrupted > 5
    n = memory.n_stored
    assert n % size == 0
    whole = AssociativeMemory(8, 2, rule=FOUR[name])
    whole.store(KEYS[:n], VALUES[:n])
    assert relative(memory.recall(KEYS), whole.recall(KEYS)) < 1e-7


def store_and_recall(memory, keys, values):
    """What is pending is stored when it is asked for."""
    memory.store(keys, values)
    return memory.recall(keys)


@pytest.mark.parametrize("rule", [Ridge(), Ridge(alpha=1.0), RecursiveLeastSquares(alpha=1.0)], ids=str)
@pytest.mark.parametrize("n", [1, 300])
def test_an_exception_between_two_sums_makes_the_memory_refuse_for_good(rule, n, monkeypatch, tmp_path):
    memory = AssociativeMemory(8, 2, rule=rule)
    memory.store(KEYS[:20], VALUES[:20])
    memory.recall(KEYS[:1])

    def fail(*arguments):
        raise MemoryError("no room for the product")

    with monkeypatch.context() as patch:
        patch.setattr(assocmem.rules.sums, "add_product", fail)
        with pytest.raises(MemoryError, match="no room"):
            store_and_recall(memory, KEYS[20 : 20 + n], VALUES[20 : 20 + n])
    for call in (
        lambda: memory.recall(KEYS[0]),
        lambda: memory.recall(KEYS[:5]),
        lambda: store_and_recall(memory, KEYS[0], VALUES[0]),
        lambda: memory.forget(KEYS[0], VALUES[0]),
        memory.copy,
        memory.freeze,
        lambda: memory.weights,
        lambda: memory.save(tmp_path / "memory"),
    ):
        with pytest.raises(RuntimeError, match=r"cut off halfway by MemoryError.*new memory"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["hebbian", "delta"])
def test_an_exception_before_the_sums_leaves_the_memory_as_it_was(name, monkeypatch):
    memory = AssociativeMemory(8, 2, rule=name)
    memory.store(KEYS[:20], VALUES[:20])
    before = memory.recall(KEYS)
    with monkeypatch.context() as patch:
        patch.setattr(type(memory.rule), "store", lambda *arguments: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            memory.store(KEYS[:300], VALUES[:300])
    assert memory.n_stored == 20
    assert np.array_equal(memory.recall(KEYS), before)


def arrays_within(*roots):
    """All arrays that can be reached, the buffers that they look into included."""
    seen, waiting, found = set(), list(roots), []
    while waiting:
        thing = waiting.pop()
        if (
            id(thing) in seen
            or isinstance(thing, type)
            or type(thing).__name__ in ("module", "function", "CPUDispatcher")
        ):
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray):
            found.append(thing)
            if thing.base is not None:
                waiting.append(thing.base)
        waiting.extend(gc.get_referents(thing))
    return found


@pytest.mark.parametrize("name", ["hebbian", "ridge", "ridge-alpha", "rls"])
@pytest.mark.parametrize("size", [1, 20, 500])
def test_what_is_forgotten_is_in_no_array_of_the_memory(name, size):
    """Also where a store, an edit and a recall of the confidence came before: no buffer, no old view."""
    memory = AssociativeMemory(8, 2, rule=RULES[name][0])
    memory.store(KEYS[:30], VALUES[:30])
    memory.recall(KEYS[:30])
    memory.store(KEYS[30 : 30 + size], VALUES[30 : 30 + size])

    def holds(row):
        return any(
            (np.abs(array.reshape(-1, len(row)) - row) < 1e-12).all(axis=1).any()
            for array in arrays_within(memory._cell)
            if array.dtype == row.dtype and array.size and array.size % len(row) == 0
        )

    if size < 256:  # it waits: the test could fail
        assert holds(KEYS[30])
        assert holds(VALUES[30])
    weights = memory._cell.view().weights.copy()
    memory.forget(KEYS[30 : 30 + size], VALUES[30 : 30 + size])
    memory.recall(KEYS[0])
    assert not holds(KEYS[30])
    assert not holds(VALUES[30])
    assert not any(
        array.shape == weights.shape and np.array_equal(array, weights) for array in arrays_within(memory._cell)
    )


def test_a_recall_meanwhile_holds_a_view_and_no_lock():
    """A view, once taken, never changes."""
    memory = AssociativeMemory(8, 2, rule="rls")
    memory.store(KEYS[:300], VALUES[:300])
    view = memory._cell.view()
    before = view.weights.copy()
    memory.store(KEYS[300:600], VALUES[300:600])
    assert np.array_equal(view.weights, before)
    assert memory._cell.view() is not view
    start = time.perf_counter()
    with memory._cell.writing:
        memory.recall(KEYS[0])  # no writer keeps a recall waiting
    assert time.perf_counter() - start < 5


# Keys too near to each other, or too different in length, for the sums to tell them apart.
NEAR = np.vstack([KEYS[:5], KEYS[:1] + 1e-8])
FAR = np.vstack([KEYS[:5], 1e9 * KEYS[5:6]])


@pytest.mark.parametrize("keys", [NEAR, FAR], ids=["near", "far"])
@pytest.mark.parametrize("n_queries", [1, 5])
def test_the_first_recall_warns_of_keys_that_are_not_told_apart(keys, n_queries):
    memory = AssociativeMemory(8, 2)
    memory.store(keys, VALUES[:6])
    queries = keys[0] if n_queries == 1 else keys[:n_queries]
    with pytest.warns(UserWarning, match="too near to each other, or too different in length") as told:
        memory.recall(queries)
    assert len(told) == 1
    assert told[0].filename == __file__
    assert memory.error_bound > 1e-3
    memory.recall(queries)  # once: warnings are errors in these tests
    memory.store(KEYS[10], VALUES[10])
    memory.recall(queries)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [6, 60])
def test_no_recall_warns_of_keys_that_are_told_apart(dtype, n):
    """Also repeats with other values, keys of few numbers, whose blocks repeat each other, and a penalty."""
    for rule in ("ridge", Ridge(1e-3), "rls"):
        for keys in (KEYS[:n], KEYS[:n] + 10.0, np.vstack([KEYS[: n // 2]] * 2), np.vstack([NEAR + 1e-3 * KEYS[:6]])):
            memory = AssociativeMemory(8, 2, rule=rule, dtype=dtype)
            memory.store(keys, VALUES[: len(keys)])
            memory.recall(keys)
        memory = AssociativeMemory(4, 2, rule=rule, dtype=dtype)
        memory.store(KEYS[:n, :4], VALUES[:n])
        memory.recall(KEYS[:n, :4])


class ProgressError(Exception):
    """What a progress function raises."""


def raising_at(call):
    """A progress function that raises when it is called for the n-th time."""
    calls = []

    def progress(n_done):
        calls.append(n_done)
        if len(calls) == call:
            raise ProgressError

    return progress


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("size", "call"), [(1, 1), (20, 1), (256, 1), (300, 1), (700, 1), (700, 2), (700, 3)])
@pytest.mark.parametrize("way", ["store", "noise", "store_from"])
def test_a_progress_function_that_raises_leaves_the_memory_as_it_was(name, size, call, way, monkeypatch):
    memory = AssociativeMemory(8, 2, rule=RULES[name][0])
    if way == "noise" and not memory.rule.adds_variances:
        pytest.skip("no noise under this rule")
    monkeypatch.setattr("assocmem.cell.CHUNK_BYTES", 1 if size == 700 else 2**25)  # in chunks of 256
    memory.store(KEYS[:30], VALUES[:30])
    memory.recall(KEYS[0])
    memory.store(KEYS[30:35], VALUES[30:35])  # these wait
    twin = memory.copy()
    new = slice(40, 40 + size)
    progress = raising_at(call)
    stores = {
        "store": lambda: memory.store(KEYS[new], VALUES[new], progress=progress),
        "noise": lambda: memory.store(KEYS[new], VALUES[new], progress=progress, query_cosine=0.9),
        "store_from": lambda: memory.store_from((KEYS[new], VALUES[new]), every=256, progress=progress),
    }
    with pytest.raises(ProgressError):
        stores[way]()
    assert memory.n_stored == 35
    states = [each._cell.current().arrays() for each in (memory, twin)]
    assert all(np.array_equal(states[0][array], states[1][array]) for array in states[1])
    assert np.array_equal(memory.recall(KEYS), twin.recall(KEYS))
    done = []
    memory.store(KEYS[new], VALUES[new], progress=done.append)
    assert sum(done) == size
    assert memory.n_stored == 35 + size
