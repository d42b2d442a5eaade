"""How the package compiles and runs its loops: the only file that names numba's options.

Every compiled function releases the interpreter lock, so that batches are split over plain threads
(`run_in_row_blocks`). Numba's own parallel loops are not used: they take seconds to compile, and one of their
threading layers aborts the process when two Python threads enter it at once.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


def kernel(function: Function) -> Function:
    """Compile an elementwise loop: products and sums may fuse, nothing else may change."""
    compiled: Function = numba.njit(**_OPTIONS, fastmath={"contract"})(function)
    return compiled


def reduction(function: Function) -> Function:
    """Compile a loop that sums: additions may also be reordered, which is what lets a sum use vector units."""
    compiled: Function = numba.njit(**_OPTIONS, fastmath={"contract", "reassoc"})(function)
    return compiled


N_THREADS: int = int(vars(numba.config)["NUMBA_NUM_THREADS"])  # the cores of this process, unless the user says less

JIT_DISABLED = bool(vars(numba.config)["DISABLE_JIT"])  # kernels run as plain Python, to look inside

_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _forget_pool() -> None:
    # A forked child has the parent's pool object and none of its threads.
    global _pool
    _pool = None


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
