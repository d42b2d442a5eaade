"""An interrupt from the keyboard at any step leaves the state before an operation or after it, and no lock behind."""

import _thread
import random
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import assocmem
from assocmem import AssociativeMemory
from assocmem.core.interrupts import Uninterrupted, WriteQueue
from assocmem.rules import blas
from tests.helpers import RULES, SUMS, pairs, relative

PACKAGE = str(Path(assocmem.__file__).parent)
KEYS, VALUES = pairs(700, 8, 2)

OPERATIONS = {
    "store one": lambda memory: (memory.store(KEYS[500], VALUES[500]), memory.recall(KEYS[0])),
    "store many": lambda memory: memory.store(KEYS[20:320], VALUES[20:320]),
    "forget": lambda memory: memory.forget(KEYS[:5], VALUES[:5]),
    "replace": lambda memory: memory.replace(KEYS[:5], VALUES[:5], VALUES[5:10]),
    "recompute": lambda memory: memory.recompute(),
}


@pytest.fixture(autouse=True)
def interrupts():
    """Interrupts arrive, also in a process that was started in the background, which ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupting:
    """A module of BLAS whose functions send the interrupt of a user, the n-th of them, before or after their work."""

    def __init__(self, module, countdown, before):
        self.module, self.countdown, self.before = module, countdown, before

    def __getattr__(self, name):
        function = getattr(self.module, name)

        def call(*arguments, **options):
            self.countdown[0] -= 1
            if self.countdown[0] == 0 and self.before:
                signal.raise_signal(signal.SIGINT)
            result = function(*arguments, **options)
            if self.countdown[0] == 0 and not self.before:
                signal.raise_signal(signal.SIGINT)
            return result

        return call


def started(name):
    memory = AssociativeMemory(8, 2, expansion=2, rule=RULES[name][0])
    memory.store(KEYS[:20], VALUES[:20])
    memory.recall(KEYS[:1])
    return memory


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", [name for name in RULES if name != "diagonal"])  # NumPy alone
def test_an_interrupt_at_any_step_leaves_the_state_before_or_after(name, operation, before, monkeypatch):
    if name not in SUMS and operation in ("forget", "replace"):
        pytest.skip("the rule refuses")
    run, old, new = OPERATIONS[operation], started(name), started(name)
    run(new)
    steps, interrupts = [*range(1, 40), *range(40, 1000, 17)], 0
    for step in steps:
        memory, countdown = started(name), [step]
        with monkeypatch.context() as patch:
            patch.setattr(blas, "blas", Interrupting(blas.blas, countdown, before))
            patch.setattr(blas, "lapack", Interrupting(blas.lapack, countdown, before))
            try:
                run(memory)
            except KeyboardInterrupt:
                interrupts += 1
        recalled = memory.recall(KEYS)
        assert any(
            memory.n_stored == other.n_stored and np.array_equal(recalled, other.recall(KEYS)) for other in (old, new)
        )
        if countdown[0] > 0:  # the operation was over before its turn came
            break
    assert interrupts == steps.index(step)
    assert interrupts > 0 or operation == "recompute"  # which most rules answer by solving later


@pytest.mark.parametrize("name", SUMS)
def test_interrupts_at_random_moments_lose_nothing_and_leave_no_lock(name):
    """Real signals between any two instructions of the package, hundreds of times, while pairs come and go."""
    memory = AssociativeMemory(8, 2, expansion=4, rule=RULES[name][0])
    done, interrupts = threading.Event(), [0]

    def interrupt(number, frame):
        # Only in a function of the package: neither in the test, which must go on, nor in a destructor, where an
        # exception is lost.
        if frame.f_code.co_filename.startswith(PACKAGE):
            interrupts[0] += 1
            raise KeyboardInterrupt

    def send():
        pause = random.Random(0)
        while not done.is_set():
            time.sleep(pause.uniform(0, 1e-3))
            _thread.interrupt_main()

    memory.store(KEYS[:2], VALUES[:2])
    memory.recall(KEYS)  # compiled before the first interrupt, which LLVM does not survive
    memory.recall(KEYS[0])
    sender, interval = threading.Thread(target=send), sys.getswitchinterval()
    handler = signal.signal(signal.SIGINT, interrupt)
    sys.setswitchinterval(1e-5)
    try:
        sender.start()
        for _ in range(20_000):
            if interrupts[0] >= 100:
                break
            try:  # the memory holds the first n_stored keys: an operation has happened, or it has not
                if memory.n_stored >= 20:
                    memory.forget(KEYS[:20], VALUES[:20])
                memory.store(KEYS[memory.n_stored], VALUES[memory.n_stored])
                memory.recall(KEYS[0])
            except KeyboardInterrupt:
                pass
    finally:
        done.set()
        sender.join()
        sys.setswitchinterval(interval)
        signal.signal(signal.SIGINT, handler)
    assert interrupts[0] >= 100
    n = memory.n_stored
    worker = threading.Thread(target=memory.store, args=(KEYS[n:25], VALUES[n:25]), daemon=True)
    worker.start()
    worker.join(timeout=20)
    assert not worker.is_alive(), "a lock was left behind"
    fresh = AssociativeMemory(8, 2, expansion=4, rule=RULES[name][0])
    fresh.store(KEYS[:25], VALUES[:25])
    assert relative(memory.recall(KEYS), fresh.recall(KEYS)) < 1e-9


def test_an_interrupt_waits_for_the_end_of_the_block():
    steps = []

    def block():
        with Uninterrupted():
            signal.raise_signal(signal.SIGINT)
            with Uninterrupted():
                signal.raise_signal(signal.SIGINT)
            steps.append("whole")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert steps == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_and_ignored_signals_are_left_alone():
    seen = []

    def work():
        with Uninterrupted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Uninterrupted():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("acquired", [True, False])
def test_a_lock_is_free_after_an_interrupt_in_the_instant_of_its_acquisition(acquired):
    class Interrupted(WriteQueue):
        def acquire(self):
            if acquired:
                super().acquire()
            raise KeyboardInterrupt

    queue, free = Interrupted(), []
    with pytest.raises(KeyboardInterrupt):
        queue.__enter__()
    thread = threading.Thread(target=lambda: free.append(WriteQueue.acquire(queue, blocking=False)))
    thread.start()
    thread.join()
    assert free == [True]
