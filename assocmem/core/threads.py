"""How many threads there are, and the pool that shares the rows of a batch among them.

Compiled loops release the interpreter lock, so plain threads run them side by side. Numba's own parallel loops are not
used: they take seconds to compile, and one of their threading layers aborts the process when two Python threads enter
it at once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba

from assocmem.core.limits import ROOT, control_groups


def usable_processors(root: Path = ROOT) -> int:
    """Processors that this process may use, at least 1: by affinity and by the quotas of its control groups."""
    affinity = getattr(os, "sched_getaffinity", None)
    processors = os.cpu_count() or 1 if affinity is None else len(affinity(0))
    quotas = [_quota(group) for group in control_groups("cpu", root)]
    return max(1, min([processors, *(quota for quota in quotas if quota is not None)]))


def _quota(group: Path) -> int | None:
    """Processors that a control group may keep busy, rounded up; None without a limit."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else -(-int(quota) // int(period))
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota_us = int((group / "cpu.cfs_quota_us").read_text())
        return None if quota_us <= 0 else -(-quota_us // int((group / "cpu.cfs_period_us").read_text()))
    return None


# NUMBA_NUM_THREADS lets the user say less.
N_THREADS: int = min(int(vars(numba.config)["NUMBA_NUM_THREADS"]), usable_processors())

_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _forget_pool() -> None:
    # A forked child has the parent's pool object and none of its threads, and a lock that another thread may hold.
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _shared_pool() -> ThreadPoolExecutor:
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(N_THREADS, thread_name_prefix="assocmem")
        return _pool


def run_in_row_blocks(function: Callable[..., None], n_rows: int, min_rows: int, *arguments: Any) -> None:
    """Call ``function(start, stop, *arguments)`` on consecutive row blocks, one per thread.

    A block has at least `min_rows` rows: below that, waking a thread costs more than it saves. Which rows share a
    block never changes what is computed for a row.
    """
    n_blocks = 1 if n_rows < 2 * min_rows else min(N_THREADS, n_rows // max(min_rows, 1))
    if n_blocks <= 1:
        function(0, n_rows, *arguments)
        return
    bounds = [n_rows * i // n_blocks for i in range(n_blocks + 1)]
    waiting = [
        _shared_pool().submit(function, start, stop, *arguments) for start, stop in itertools.pairwise(bounds[1:])
    ]
    function(0, bounds[1], *arguments)
    for block in waiting:
        block.result()


# Threads that share one piece of work at most: it is limited by the memory, which a few threads exhaust.
MOST_SHARING = min(N_THREADS, 8)


def share_out(function: Callable[..., None], *arguments: Any) -> None:
    """Call ``function(*arguments)`` in the caller and in helpers at once; it takes shares until none is left.

    For work of a tenth of a millisecond, of which a helper wakes in time for a part. A helper that has not begun when
    the caller finds nothing left is cancelled, and nobody spins: where processors are shared with other programs the
    caller does the work alone, at its own speed.

    Microseconds of one recall of a frozen memory on 2 processors, medians of nine rounds, by one thread, this, a team
    of threads that spin between recalls, and numba's parallel loop; on a quiet machine, float32 weights of m × v =
    2048 × 1024: 191, 176, 125, 127; 4096 × 1024: 678, 405, 342, 333; 8192 × 4096: 8782, 6519, 6507, 6128. With another
    process on the same processors, 8-bit weights of 2048 × 1024: 237, 257, 1946, 1480. The faster two wait by spinning
    for threads that have no processor, and numba's aborts the process when two threads enter it.
    """
    helpers = [_shared_pool().submit(function, *arguments) for _ in range(MOST_SHARING - 1)]
    function(*arguments)
    for helper in helpers:
        if not helper.cancel():
            helper.result()
