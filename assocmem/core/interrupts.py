"""What keeps a memory whole when a program is interrupted: signals that wait, locks that are released."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # a tenth of the time of the module signal, which wraps it in enums
import contextlib
import threading
from typing import Any

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


class WriteQueue(type(threading.RLock())):  # type: ignore[misc]
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
