"""How the package compiles its loops: the only file that names numba's options.

Every compiled function releases the interpreter lock, so that `threads.run_in_row_blocks` can split batches.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock

from assocmem.core.warned import warn

if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError(
        "assocmem needs the interpreter lock, which this free-threaded Python runs without; unset PYTHON_GIL, or start "
        "Python with -X gil=1"
    )

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}

_FUNCTION_CACHE: Any = FunctionCache  # numba's functions have no types

JIT_DISABLED = bool(vars(numba.config)["DISABLE_JIT"])  # kernels run as plain Python, to look inside

COMPILER_LOCK: Any = getattr(global_compiler_lock, "_lock", None) or threading.RLock()  # held while numba compiles

_has_warned = False


def _warn_once(error: Exception) -> None:
    global _has_warned
    if not _has_warned:
        _has_warned = True
        warn(
            f"numba cannot use its cache of compiled loops, which are compiled anew in this process and take some "
            f"seconds ({type(error).__name__}: {error}); set the environment variable NUMBA_CACHE_DIR to a folder that "
            f"can be written and has 100 MB free"
        )


class _Cache(_FUNCTION_CACHE):  # type: ignore[misc]
    """Numba's cache on disk, of which a file that cannot be read or written is a miss and not an error."""

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return super().load_overload(*arguments)
        except Exception as error:  # noqa: BLE001, RUF100 -- damaged bytes raise anything when they are unpickled
            _warn_once(error)
            with contextlib.suppress(Exception):
                self.flush()  # so that the next process finds what this one compiles
            return None

    def save_overload(self, *arguments: Any) -> None:
        try:
            super().save_overload(*arguments)
        except Exception as error:  # noqa: BLE001, RUF100
            _warn_once(error)


def _compiled(function: Function, fastmath: set[str]) -> Function:
    """Compile a function, and keep the machine code on disk where that is possible."""
    compiled: Any = numba.njit(**_OPTIONS, fastmath=fastmath)(function)
    if not JIT_DISABLED:
        try:
            compiled._cache = _Cache(function)
        except (RuntimeError, OSError) as error:  # no folder that can be written
            _warn_once(error)
    result: Function = compiled
    return result


def kernel(function: Function) -> Function:
    """Compile an elementwise loop: products and sums may fuse, nothing else may change."""
    return _compiled(function, {"contract"})


def reduction(function: Function) -> Function:
    """Compile a loop that sums: additions may also be reordered, which is what lets a sum use vector units."""
    return _compiled(function, {"contract", "reassoc"})
