"""What keeps a memory whole when a user interrupts: changes that end, locks that are released."""

from __future__ import annotations

import contextlib
import threading
from _signal import SIGINT, getsignal, signal  # type: ignore[import-not-found]  # a tenth of the time of signal.signal
from types import FrameType
from typing import Any


class Uninterrupted:
    """A block during which an interrupt (SIGINT) waits: it takes effect at its end.

    Python delivers signals to the main thread, between any two instructions. An array that several operations change
    in place would be left half changed; copying it first would cost more than the change.
    """

    def __enter__(self) -> None:
        self._arrived: tuple[int, FrameType | None] | None = None
        self._handler: Any = None
        if threading.get_ident() == threading.main_thread().ident and callable(getsignal(SIGINT)):
            self._handler = signal(SIGINT, self._wait)

    def _wait(self, number: int, frame: FrameType | None) -> None:
        self._arrived = (number, frame)

    def __exit__(self, *_: object) -> None:
        if self._handler is not None:
            signal(SIGINT, self._handler)
            if self._arrived is not None:
                self._handler(*self._arrived)


class WriteQueue(type(threading.RLock())):  # type: ignore[misc]
    """A lock that writers wait for; a write from inside a write of the same thread is refused, not lost.

    A lock of the interpreter, whose release no interrupt can come between.
    """

    def __enter__(self) -> None:
        if self._is_owned():
            raise RuntimeError(
                "a write was begun from inside another write of the same memory, for example from its progress "
                "function; expected writes one after the other; begin it when the first has returned"
            )
        try:
            self.acquire()
        except BaseException:
            with contextlib.suppress(RuntimeError):  # interrupted before it was acquired, or after
                self.release()
            raise
