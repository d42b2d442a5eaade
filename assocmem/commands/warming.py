"""The command `warm-up`: compiles every loop of the package once, so that a container image holds the results."""

from __future__ import annotations

import sys
import time
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from assocmem import AssociativeMemory, FrozenMemory, RecursiveLeastSquares, Ridge
from assocmem.core.jit import JIT_DISABLED
from assocmem.rules import DeltaRule, Hebbian
from assocmem.rules.banded import WIDTH, to_band

KEY_DIM, N_PAIRS = 8, 80  # more pairs than are collected
RULES = (Hebbian(), DeltaRule(), Ridge(alpha=0.1), Ridge(alpha=1e6), RecursiveLeastSquares(alpha=0.1))


def loops() -> dict[str, Any]:
    """Return every compiled loop of the package by its name."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "assocmem":
            for loop in vars(module).values():
                if hasattr(loop, "py_func") and hasattr(loop, "signatures"):
                    found[f"{loop.__module__}.{loop.__name__}"] = loop
    return found


def warm_up() -> None:
    """Compile every loop of the package once, for a container image, and show where the results lie."""
    if JIT_DISABLED:
        raise ValueError("NUMBA_DISABLE_JIT is set, so nothing is compiled. Unset it")
    begin = time.perf_counter()
    compile_all()
    seconds = time.perf_counter() - begin
    stats = [loop.stats for loop in loops().values()]
    n_compiled = sum(sum(entry.cache_misses.values()) for entry in stats)
    n_read = sum(sum(entry.cache_hits.values()) for entry in stats)
    print(f"{n_compiled} loops compiled, {n_read} found in the cache, in {seconds:.1f} s")
    folders = sorted({entry.cache_path for entry in stats if entry.cache_path})
    for folder in folders:
        print(f"cache: {folder}")
    if not folders:
        print("no cache: nothing is kept. Set NUMBA_CACHE_DIR to a folder that can be written")


def compile_all() -> None:
    """Use every loop in both dtypes, on arrays that may be written and on others, such as mapped files."""
    rng = np.random.default_rng(0)
    for dtype in ("float64", "float32"):
        keys, values = rng.standard_normal((2, N_PAIRS, KEY_DIM)).astype(dtype)
        for writeable in (True, False):
            keys.flags.writeable = values.flags.writeable = writeable
            for rule in RULES:
                memory = AssociativeMemory(KEY_DIM, KEY_DIM, rule=rule, dtype=dtype)
                use_memory(memory, keys, values)
                if isinstance(rule, Ridge | RecursiveLeastSquares):
                    use_sums(memory, keys, values)
            use_frozen(memory, keys)
            use_ledger(AssociativeMemory(KEY_DIM, KEY_DIM, ledger=True, dtype=dtype), keys, values)
    to_band(np.eye(2 * WIDTH), np.ones((2 * WIDTH, 1)))  # of "gcv" and large memories


def use_memory(memory: AssociativeMemory, keys: Any, values: Any) -> None:
    """Use what every memory can be asked."""
    memory.store(keys, values)
    memory.store(keys[0], values[0])
    memory.recall(keys)
    memory.recall(keys[0])
    memory.settle(keys, max_steps=2)
    memory.features.projection.project(keys)
    memory.features.expand(keys)


def use_ledger(memory: AssociativeMemory, keys: Any, values: Any) -> None:
    """Store pairs with a ledger, some of them with noise, and forget some."""
    memory.store(keys, values)
    memory.forget(keys[:2], values[:2])
    memory.store(keys, values, query_cosine=0.9)


def use_sums(memory: AssociativeMemory, keys: Any, values: Any) -> None:
    """Use what a memory that holds sums can be asked."""
    memory.recall(keys, return_confidence=True)
    memory.leverage(keys)
    memory.leave_one_out(keys, values)
    _ = memory.error_bound
    memory.edit(keys[:2], values[2:4])
    memory.release(keys[:2])
    memory.forget(keys[:2], values[:2])
    memory.forget(keys[2], values[2])
    memory.verify_forgotten(keys[:2])
    memory.recall(keys)


def use_frozen(memory: AssociativeMemory, keys: Any) -> None:
    """Recall from frozen memories, also from a file."""
    with TemporaryDirectory() as folder:
        for precision in ("float32", "float64", "int8"):
            frozen = memory.freeze(precision, sample=keys)
            frozen.save(f"{folder}/{precision}")
            for served in (frozen, FrozenMemory.load(f"{folder}/{precision}")):
                served.recall(keys)
                served.recall(keys[0])
