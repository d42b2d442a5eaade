"""Threads that share one piece of work which is too short for a pool, whose threads take 50 microseconds to wake.

The caller begins at once and takes one share of the work after the other. A thread that wakes meanwhile takes shares
too; one that wakes too late finds nothing left and touches nothing. Who takes a share never changes what is computed
for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assocmem._intrinsics import atomic_add, atomic_read
from assocmem._jit import JIT_DISABLED, N_THREADS, kernel

# Places in the ledger of a piece of work, far enough apart to lie on different cache lines.
_READY, _NEXT, _ACTIVE, _LEDGER_LENGTH = 0, 16, 32, 48
_NO_MORE = 2**62

# How often a thread that has finished looks for more work before it sleeps, about a tenth of a millisecond in all:
# recalls that follow one another find it awake.
_LOOKS = 200_000

# Threads that work together at most: what they share is limited by the memory, which a few threads exhaust.
MOST_THREADS = min(N_THREADS, 8)


@kernel
def announce(bell: NDArray[np.int64]) -> None:
    """Tell the threads that are awake that there is work; the leader calls this first."""
    atomic_add(bell, 0, 1)


@kernel
def open_shares(ledger: NDArray[np.int64]) -> None:
    """Let shares be taken: what they need has been prepared."""
    atomic_add(ledger, _READY, 1)


@kernel
def join(ledger: NDArray[np.int64]) -> None:
    """Count among those who take shares, and wait until these are open."""
    atomic_add(ledger, _ACTIVE, 1)
    while atomic_read(ledger, _READY) == 0:
        pass


@kernel
def take_share(ledger: NDArray[np.int64]) -> int:
    """The number of the next share that nobody has taken."""
    share: int = atomic_add(ledger, _NEXT, 1)
    return share


@kernel
def look(heard: int, bell: NDArray[np.int64]) -> float:
    """Look for work from inside a kernel, where nobody waits for the interpreter: 1.0 if there is some in a while."""
    for _ in range(_LOOKS):
        if atomic_read(bell, 0) != heard:
            return 1.0
    return 0.0


@kernel
def leave(heard: int, bell: NDArray[np.int64], ledger: NDArray[np.int64]) -> float:
    """Count no longer among those who take shares, and look for more work."""
    atomic_add(ledger, _ACTIVE, -1)
    return look(heard, bell)


@kernel
def wait_for_others(ledger: NDArray[np.int64]) -> None:
    """Wait until everybody who had taken a share has left."""
    while atomic_read(ledger, _ACTIVE) > 0:
        pass


LEADER = -1  # what the leader passes instead of the number of times that it heard the bell


class Team:
    """The threads beside the caller, asleep unless there is work."""

    def __init__(self, n_threads: int) -> None:
        self.free = threading.Lock()  # a second caller works alone instead of waiting
        self.bell = np.zeros(1, np.int64)
        # Without work they look for it: whoever came too late for one piece is in time for the next.
        self.work: tuple[Callable[..., Any], tuple[Any, ...]] = (look, ())
        self._wakers = [threading.Lock() for _ in range(n_threads)]
        for waker in self._wakers:
            waker.acquire()
            threading.Thread(target=self._follow, args=(waker,), name="assocmem-team", daemon=True).start()

    def wake(self) -> None:
        """Wake whoever sleeps; whoever is awake hears the bell."""
        for waker in self._wakers:
            if waker.locked():
                waker.release()

    def _follow(self, waker: threading.Lock) -> None:
        while True:
            waker.acquire()
            awake = 1.0
            while awake:
                heard = int(self.bell[0])  # before looking at the work: a bell rung after this is not missed
                function, arguments = self.work
                awake = function(heard, self.bell, *arguments)
                del function, arguments  # the arrays belong to the caller


_team: Team | None = None
_team_lock = threading.Lock()
_SILENT = np.zeros(1, np.int64)


def _forget_team() -> None:
    # A forked child has the parent's team object and none of its threads.
    global _team, _team_lock
    _team, _team_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_team)


def _the_team() -> Team:
    global _team
    with _team_lock:
        if _team is None:
            _team = Team(MOST_THREADS - 1)
        return _team


def work_together(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the kernel ``function(LEADER, bell, ledger, *arguments)`` and return its result.

    Threads that are free call it too, with how often they heard the bell instead of LEADER. The leader announces,
    prepares, opens the shares, takes some and waits for the others; they join, take shares and leave.
    """
    team = None if MOST_THREADS == 1 or JIT_DISABLED else _team or _the_team()
    if team is None or not team.free.acquire(blocking=False):
        return work_alone(function, *arguments)
    ledger = np.zeros(_LEDGER_LENGTH, np.int64)
    try:
        team.work = (function, (ledger, *arguments))
        team.wake()
        return function(LEADER, team.bell, ledger, *arguments)
    finally:
        ledger[_NEXT], ledger[_READY] = _NO_MORE, 1  # whatever happened, nobody waits for shares that never open
        team.work = (look, ())
        team.free.release()


def work_alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the kernel as `work_together` does, without the others."""
    return function(LEADER, _SILENT, np.zeros(_LEDGER_LENGTH, np.int64), *arguments)
