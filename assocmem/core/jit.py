"""How the package compiles its loops: the only file that names numba's options.

Every compiled function releases the interpreter lock, so that `threads.run_in_row_blocks` can split batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}

JIT_DISABLED = bool(vars(numba.config)["DISABLE_JIT"])  # kernels run as plain Python, to look inside


def kernel(function: Function) -> Function:
    """Compile an elementwise loop: products and sums may fuse, nothing else may change."""
    compiled: Function = numba.njit(**_OPTIONS, fastmath={"contract"})(function)
    return compiled


def reduction(function: Function) -> Function:
    """Compile a loop that sums: additions may also be reordered, which is what lets a sum use vector units."""
    compiled: Function = numba.njit(**_OPTIONS, fastmath={"contract", "reassoc"})(function)
    return compiled
