"""Frozen recalls on processors that are shared, pinned or busy: as many threads as are used now against one thread.

Every process of an arrangement times both in turn, so that what else runs on the machine slows both.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

import assocmem
from assocmem import AssociativeMemory
from assocmem.frozen import FrozenMemory
from benchmarks.timing import machine, table

SHAPES = [(512, 4, 512), (1024, 4, 1024), (1024, 8, 1024)]  # key_dim, expansion, value_dim
SECONDS, SLICE = 4.0, 0.04  # of a process, and of a turn
TINY = {"SHAPES": [(16, 2, 4)], "SECONDS": 0.02, "SLICE": 0.005}
WORST = 1.2  # times slower than on one thread, in no arrangement

# Processes on the same two processors, busy loops beside them, whether the process is pinned to one after the import.
ARRANGEMENTS = {
    "alone": (1, 0, False),
    "2 processes": (2, 0, False),
    "4 processes": (4, 0, False),
    "beside 2 busy loops": (1, 2, False),
    "pinned": (1, 0, True),
}


def turns(memory: FrozenMemory, keys: np.ndarray, seconds: float, slice_seconds: float) -> list[list[float]]:
    """Microseconds of a recall, by as many threads as are used now and by one, in every turn."""
    found: list[list[float]] = [[], []]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not found[1]:
        for which, n_threads in enumerate((None, 1)):
            assocmem.set_num_threads(n_threads)
            start, n = time.perf_counter(), 0
            while n < 3 or time.perf_counter() - start < slice_seconds:
                memory.recall(keys[n % len(keys)])
                n += 1
            found[which].append(1e6 * (time.perf_counter() - start) / n)
    return found


def serve() -> None:
    """One process of an arrangement: prepare, wait for the others, recall, print."""
    key_dim, expansion, value_dim, seconds, slice_seconds, pinned = json.loads(sys.argv[1])
    memory = AssociativeMemory(key_dim, value_dim, rule="hebbian", expansion=expansion, dtype="float32")
    keys = np.random.default_rng(0).standard_normal((64, key_dim)).astype(np.float32)
    memory.store(keys, np.ones((64, value_dim)))
    frozen = memory.freeze("float32")
    turns(frozen, keys, 0.0, slice_seconds)
    if pinned and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(turns(frozen, keys, seconds, slice_seconds)), flush=True)


@contextlib.contextmanager
def busy(n_loops: int) -> Iterator[None]:
    """Processes that do nothing, without end."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_loops)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure(shape: tuple[int, int, int], n_processes: int, n_busy: int, pinned: bool) -> tuple[float, float, float]:
    """Median microseconds of a recall now and by one thread, and the ratio of their means."""
    argument = json.dumps([*shape, SECONDS, SLICE, pinned])
    code = "from benchmarks.sharing import serve; serve()"
    command = [sys.executable, "-c", code, argument]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(n_processes)
    ]
    for process in processes:
        assert process.stdout.readline().strip() == "ready"
    with busy(n_busy):
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        found = [json.loads(process.communicate()[0]) for process in processes]
    now, alone = ([time for process in found for time in process[which]] for which in (0, 1))
    return float(np.median(now)), float(np.median(alone)), float(np.mean(now) / np.mean(alone))


def main() -> None:
    allowed = getattr(os, "sched_getaffinity", lambda process: set())(0)
    if len(allowed) > 2:
        os.sched_setaffinity(0, sorted(allowed)[:2])  # inherited by the processes that are started
    rows = []
    for shape in SHAPES:
        for name, arrangement in ARRANGEMENTS.items():
            now, alone, ratio = measure(shape, *arrangement)
            rows.append([str(shape), name, f"{now:.0f}", f"{alone:.0f}", f"{ratio:.2f}"])
    if len(allowed) > 2:
        os.sched_setaffinity(0, allowed)
    print(machine())
    print(table(["float32, d, k, v", "on 2 processors", "µs", "µs on one thread", f"slower (at most {WORST})"], rows))
