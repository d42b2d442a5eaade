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
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba

from assocmem.core import checks
from assocmem.core.limits import ROOT, control_groups

_MANY = 2**16  # processors: no limit
_QUOTA_HOLDS = 1.0  # seconds until the files of the control groups are read again, which takes a tenth of a millisecond


def usable_processors(root: Path = ROOT) -> int:
    """Processors that this process may use, at least 1: by affinity and by the quotas of its control groups."""
    return max(1, min(_allowed(), _all_quotas(root)))


def _allowed() -> int:
    """Processors that the calling thread may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return os.cpu_count() or 1 if affinity is None else len(affinity(0))


def _all_quotas(root: Path = ROOT) -> int:
    """Processors that the control groups of this process may keep busy."""
    quotas = [_quota(group) for group in control_groups("cpu", root)]
    return min((quota for quota in quotas if quota is not None), default=_MANY)


def _quota(group: Path) -> int | None:
    """Processors that a control group may keep busy, rounded up; None without a limit."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else -(-int(quota) // int(period))
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota_us = int((group / "cpu.cfs_quota_us").read_text())
        return None if quota_us <= 0 else -(-quota_us // int((group / "cpu.cfs_period_us").read_text()))
    return None


# Threads at most, by NUMBA_NUM_THREADS or else by the processors there were at the import.
MOST_THREADS = int(vars(numba.config)["NUMBA_NUM_THREADS"])

_chosen: int | None = None
_quota_until, _quota_now = 0.0, _MANY


def set_num_threads(n_threads: int | None) -> None:
    """Set how many threads this package uses for one call, at most; BLAS, which NumPy calls, has threads of its own.

    Parameters
    ----------
    n_threads : int or None
        1 for servers that have a process or a thread for every processor; None for all usable processors, which are
        looked up at every call. Never more than the environment variable NUMBA_NUM_THREADS allows.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer of at least 1.

    Examples
    --------
    >>> import assocmem
    >>> assocmem.set_num_threads(1)
    >>> assocmem.set_num_threads(None)
    """
    global _chosen
    _chosen = None if n_threads is None else checks.as_size("n_threads", n_threads)


def n_threads() -> int:
    """Threads to use for a call that is made now."""
    global _quota_until, _quota_now
    most = MOST_THREADS if _chosen is None else min(_chosen, MOST_THREADS)
    if most == 1:
        return 1
    now = time.monotonic()
    if now >= _quota_until:
        _quota_until, _quota_now = now + _QUOTA_HOLDS, _all_quotas()
    return max(1, min(most, _allowed(), _quota_now))


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
            _pool = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="assocmem")
        return _pool


def run_in_row_blocks(function: Callable[..., None], n_rows: int, min_rows: int, *arguments: Any) -> None:
    """Call ``function(start, stop, *arguments)`` on consecutive row blocks, one per thread.

    A block has at least `min_rows` rows: below that, waking a thread costs more than it saves. A block that no helper
    has begun when the caller is done with its own is done by the caller. Which rows share a block never changes what
    is computed for a row.
    """
    n_blocks = 1 if n_rows < 2 * min_rows else min(n_threads(), n_rows // max(min_rows, 1))
    if n_blocks <= 1:
        function(0, n_rows, *arguments)
        return
    bounds = [n_rows * i // n_blocks for i in range(n_blocks + 1)]
    pool = _shared_pool()
    blocks = [
        (pool.submit(function, start, stop, *arguments), start, stop) for start, stop in itertools.pairwise(bounds[1:])
    ]
    function(0, bounds[1], *arguments)
    for block, start, stop in reversed(blocks):
        if block.cancel():
            function(start, stop, *arguments)
    for block, _, _ in blocks:
        if not block.cancelled():
            block.result()


def share_out(function: Callable[..., None], n_helpers: int, *arguments: Any) -> None:
    """Call ``function(*arguments)`` in the caller and in helpers at once; it takes shares until none is left.

    For work of a millisecond, of which a helper wakes in time for a part. A helper that has not begun when the caller
    finds nothing left is cancelled, and nobody spins: where processors are shared with other programs the caller does
    the work alone, at its own speed.

    Microseconds of one recall of a frozen memory on 2 processors, medians of nine rounds, by one thread, this, a team
    of threads that spin between recalls, and numba's parallel loop; on a quiet machine, float32 weights of m × v =
    2048 × 1024: 191, 176, 125, 127; 4096 × 1024: 678, 405, 342, 333; 8192 × 4096: 8782, 6519, 6507, 6128. With another
    process on the same processors, 8-bit weights of 2048 × 1024: 237, 257, 1946, 1480. The faster two wait by spinning
    for threads that have no processor, and numba's aborts the process when two threads enter it.
    """
    pool = _shared_pool()
    helpers = [pool.submit(function, *arguments) for _ in range(n_helpers)]
    function(*arguments)
    for helper in helpers:
        if not helper.cancel():
            helper.result()
