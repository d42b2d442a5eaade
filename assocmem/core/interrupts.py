"""What keeps a memory whole when a program is interrupted or forks: signals that wait, locks that are released."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # a tenth of the time of the module signal, which wraps it in enums
import contextlib
import os
import threading
import time
import weakref
from typing import Any

from assocmem.core.jit import COMPILER_LOCK

# Signals whose handlers raise in practice: interrupts, timeouts, requests to stop. To look for all of them would cost
# more than a small write.
_NAMES = "SIGINT", "SIGALRM", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGPROF", "SIGXCPU"
_SIGNALS = tuple(getattr(_signal, name) for name in _NAMES if hasattr(_signal, name))


class Uninterrupted:
    """A block during which signals with a Python handler wait: the handlers run at its end.

    Python runs handlers in the main thread, between any two instructions, and a handler may raise. Arrays that several
    operations change in place would be left half changed; copying them first would cost more than the change.
    """

    _handlers: list[tuple[int, Any]] | None = None

    def __enter__(self) -> None:
        if threading.get_ident() != threading.main_thread().ident:
            return
        self._arrived: list[int] = []
        self._handlers = []
        try:
            for number in _SIGNALS:
                handler = _signal.getsignal(number)
                if callable(handler):
                    self._handlers.append((number, handler))
                    _signal.signal(number, self._wait)
        except BaseException:  # a signal that came before its turn
            self._restore(self._handlers)
            raise

    def _wait(self, number: int, frame: object) -> None:
        self._arrived.append(number)

    def _restore(self, handlers: list[tuple[int, Any]]) -> None:
        try:
            while handlers:
                _signal.signal(*handlers[-1])
                handlers.pop()
        except BaseException:  # a signal that came meanwhile: the other handlers must return, too
            self._restore(handlers)
            raise

    def __exit__(self, *raised: object) -> None:
        if self._handlers is None:
            return
        arrived, handlers, self._handlers = self._arrived, self._handlers, None
        try:
            self._restore(handlers)
        finally:
            _deliver(arrived)


def _deliver(arrived: list[int]) -> None:
    """Let every signal that has waited run its handler, even if that of another raises."""
    try:
        while arrived:
            _signal.raise_signal(arrived.pop(0))
    except BaseException:
        _deliver(arrived)
        raise


class StateLock(type(threading.RLock())):  # type: ignore[misc]
    """A lock on a state, for which a fork of the process waits.

    A forked child has only the thread that forked: a lock that another thread held would stay closed, on a state that
    may be half changed.
    """

    def __init__(self) -> None:
        _locks[weakref.ref(self, _locks.pop)] = None


class WriteQueue(StateLock):
    """A lock that writers wait for; a write from inside a write of the same thread is refused.

    A lock of the interpreter, whose release no signal can come between.
    """

    def __enter__(self) -> None:
        if self._is_owned():
            raise RuntimeError(
                "a write was begun from inside another write of the same memory, for example from its progress "
                "function; begin it when the first has returned"
            )
        try:
            self.acquire()
        except BaseException:
            with contextlib.suppress(RuntimeError):  # interrupted before it was acquired, or after
                self.release()
            raise


class _LostLock(StateLock):
    """A lock whose thread was left behind by a fork, in the child."""

    def __enter__(self) -> None:
        raise RuntimeError(
            f"this process was forked while another thread was writing to the memory, for more than {PATIENCE:g} s; "
            f"use the memory in the parent, load it from a file, or start processes by 'forkserver' or 'spawn'"
        )


PATIENCE = 3.0  # seconds that a fork waits for writes and for the compiler, all together

_locks: dict[weakref.ref[StateLock], None] = {}
_held: dict[int, list[Any]] = {}  # for a fork, by the thread that forks


def _before_fork() -> None:
    """Acquire every lock, in the order in which writers do: the queues first, the compiler last."""
    deadline = time.monotonic() + PATIENCE
    locks = sorted(_living_locks(), key=lambda lock: not isinstance(lock, WriteQueue))
    held = _held[threading.get_ident()] = []
    for lock in (*locks, COMPILER_LOCK):
        if lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            held.append(lock)


def _living_locks() -> list[StateLock]:
    return [lock for reference in list(_locks) if (lock := reference()) is not None]


def _after_fork() -> None:
    for lock in reversed(_held.pop(threading.get_ident(), [])):
        lock.release()


def _after_fork_in_child() -> None:
    _after_fork()
    for lock in _living_locks():
        if lock.acquire(blocking=False):
            lock.release()
        else:
            lock.__class__ = _LostLock


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
