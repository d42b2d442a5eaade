"""How many threads a call may use is looked up when it is made, and no call waits for a helper that has not begun."""

import threading

import numpy as np
import pytest

import assocmem
from assocmem.core import threads


@pytest.fixture(autouse=True)
def a_machine_of_64(monkeypatch):
    monkeypatch.setattr(threads, "MOST_THREADS", 64)
    monkeypatch.setattr(threads, "_pool", None)
    monkeypatch.setattr(threads, "_quota_until", 0.0)
    monkeypatch.setattr(threads, "_all_quotas", lambda: 48)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(32)), raising=False)
    yield
    if threads._pool is not None:
        threads._pool.shutdown()


def blocks(n_rows, min_rows):
    """The row blocks of a call, which together are all rows."""
    seen = []
    threads.run_in_row_blocks(lambda start, stop: seen.append((start, stop)), n_rows, min_rows)
    assert [row for start, stop in sorted(seen) for row in range(start, stop)] == list(range(n_rows))
    return len(seen)


def test_affinity_quota_and_what_the_user_says_count_at_the_time_of_the_call(monkeypatch):
    assert threads.n_threads() == 32
    assert blocks(1000, 10) == 32
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {5})
    assert threads.n_threads() == 1
    assert blocks(1000, 10) == 1
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)))
    assert threads.n_threads() == 48
    monkeypatch.setattr(threads, "_all_quotas", lambda: 3)
    assert threads.n_threads() == 48  # looked up at most once in a second
    monkeypatch.setattr(threads, "_quota_until", 0.0)
    assert threads.n_threads() == 3
    try:
        assocmem.set_num_threads(2)
        assert threads.n_threads() == 2
        assocmem.set_num_threads(1000)
        assert threads.n_threads() == 3
    finally:
        assocmem.set_num_threads(None)
    monkeypatch.setattr(threads, "MOST_THREADS", 2)  # as NUMBA_NUM_THREADS sets it
    assert threads.n_threads() == 2
    assert blocks(19, 10) == 1  # too few rows for two


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "two", True])
def test_numbers_of_threads_that_are_none_are_refused(wrong):
    with pytest.raises((TypeError, ValueError), match="n_threads must be an integer of at least 1, got"):
        assocmem.set_num_threads(wrong)


def test_the_caller_does_what_no_helper_has_begun(monkeypatch):
    """Helpers without a processor, here busy until the end of the test, cost nothing."""
    monkeypatch.setattr(threads, "MOST_THREADS", 2)
    release, taken, done = threading.Event(), np.zeros(100, int), []
    busy = [threads._shared_pool().submit(release.wait) for _ in range(2)]

    def add(start, stop):
        taken[start:stop] += 1

    def work():
        threads.run_in_row_blocks(add, 100, 1)
        threads.share_out(lambda: done.append(threading.get_ident()), 1)

    caller = threading.Thread(target=work, daemon=True)
    caller.start()
    caller.join(timeout=20)
    hangs = caller.is_alive()
    release.set()
    assert not hangs
    assert (taken == 1).all()
    assert done == [caller.ident]
    assert all(task.result() for task in busy)


def test_what_a_helper_raises_is_raised():
    def fail(start, stop):
        if stop == 100:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        threads.run_in_row_blocks(fail, 100, 1)
