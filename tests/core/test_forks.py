"""Processes that start while another thread writes: a child works, or says why it cannot; none hangs."""

import multiprocessing
import os
import subprocess
import sys

import pytest

BEGIN = """
import os, signal, sys, threading, time
import numpy as np
from assocmem import AssociativeMemory
from assocmem.core import interrupts
rng = np.random.default_rng(0)
keys, values = rng.standard_normal((200, 16)), rng.standard_normal((200, 2))
memory = AssociativeMemory(16, 2)
memory.store(keys, values)
memory.recall(keys[0])

def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(error, flush=True)
            os._exit(1)
        os._exit(0)
    for _ in range(1000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"
"""

WRITER = """
stop = threading.Event()

def write():
    while not stop.is_set():
        memory.store(keys, values)
        memory.recall(keys[0])

def work():
    n = memory.n_stored
    assert np.isfinite(memory.recall(keys)).all()
    memory.store(keys[0], values[0])
    memory.copy().recall(keys[0])
    assert memory.n_stored == n + 1
    assert n % 200 == 0, "a store that was cut in two"

writer = threading.Thread(target=write)
writer.start()
try:
    results = [in_child(work) for _ in range(5)]
finally:
    stop.set()
    writer.join()
assert results == [0] * 5, results
memory.store(keys[0], values[0])  # in the parent the locks are free
"""

LONG_WRITE = """
interrupts.PATIENCE = 0.05
held, done = threading.Event(), threading.Event()

def hold():
    with memory._cell.writing, memory._cell._still:
        held.set()
        done.wait()

holder = threading.Thread(target=hold)
holder.start()
held.wait()
before = memory.recall(keys[0])
other = AssociativeMemory(16, 2)

def work():
    other.store(keys, values)
    assert (memory.recall(keys[0]) == before).all()  # there already: it needs no lock
    memory.store(keys[0], values[0])

status = in_child(work)
done.set()
holder.join()
assert status == 256, status
memory.store(keys[0], values[0])
"""

WITHIN_A_WRITE = """
results = []
memory.store(keys, values, progress=lambda n: results.append(in_child(lambda: memory.recall(keys[0]))))
assert results == [0], results
assert memory.n_stored == 400
"""

COMPILER = """
import numba
from numba.core.compiler_lock import global_compiler_lock
held = threading.Event()

def compile():
    with global_compiler_lock:
        held.set()
        time.sleep(0.1)

compiler = threading.Thread(target=compile)
compiler.start()
held.wait()
assert in_child(lambda: numba.njit(lambda x: x + 1)(1)) == 0
"""

FORKSERVER = """
import multiprocessing, threading
import numpy as np
from assocmem import AssociativeMemory

def work(memory, keys):
    memory.store(keys[0], [1.0, 1.0])
    return memory.n_stored, memory.recall(keys).shape

if __name__ == "__main__":
    keys = np.random.default_rng(0).standard_normal((200, 16))
    memory, stop = AssociativeMemory(16, 2), threading.Event()

    def write():
        while not stop.is_set():
            memory.store(keys, np.ones((200, 2)))
            memory.recall(keys[0])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with multiprocessing.get_context("forkserver").Pool(1) as pool:
            n_stored, shape = pool.apply_async(work, (memory, keys)).get(timeout=30)
    finally:
        stop.set()
        writer.join()
    assert n_stored % 200 == 1 and shape == (200, 2), (n_stored, shape)
"""


def run(*arguments):
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("script", [WRITER, WITHIN_A_WRITE, COMPILER], ids=["writer", "within", "compiler"])
def test_a_fork_waits_for_writes_and_its_child_works(script):
    done = run("-c", BEGIN + script)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_waits_no_longer_than_it_may_and_the_child_refuses_the_memory():
    done = run("-c", BEGIN + LONG_WRITE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "forked while another thread was writing to the memory, for more than 0.05 s; use the memory" in done.stdout


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="no forkserver here")
def test_a_process_of_a_fork_server_takes_a_memory_that_another_thread_writes_to(tmp_path):
    script = tmp_path / "serve.py"
    script.write_text(FORKSERVER)
    done = run(str(script))
    assert done.returncode == 0, done.stdout + done.stderr
