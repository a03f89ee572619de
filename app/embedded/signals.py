"""Ctrl-C, SIGTERM and SIGHUP around a process that must not be left behind.

Python handles signals in the main thread only, so in any other thread there is nothing to do here.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

_TERMINATION = (signal.SIGTERM, signal.SIGHUP)
_ALL = (signal.SIGINT, *_TERMINATION)


@contextmanager
def unwind_when_terminated() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit(128 + number) where they would end the process on the spot.

    uvicorn, too, delivers the signal that stopped it once more when it is done, to whoever was there before.
    A handler that somebody installed, and a signal that is ignored (nohup), are left alone. So is
    Ctrl-C: asyncio puts its own handler there, but only in place of Python's.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _handlers()

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        # A closing terminal and a service manager send several at once: one is enough to unwind.
        for other in before:
            signal.signal(other, _ignore)
        raise SystemExit(128 + number)

    try:
        for number in _TERMINATION:
            if before.get(number) is signal.SIG_DFL:
                signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) in (end, _ignore):
                signal.signal(number, handler)


@contextmanager
def hold_back_signals() -> Iterator[None]:
    """Note Ctrl-C, SIGTERM and SIGHUP instead of handling them; the first one is delivered after the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)

    before = _handlers()
    try:
        for number in before:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if noted:
            signal.raise_signal(noted[0])


def _handlers() -> dict[signal.Signals, Any]:
    """What happens on each signal now, but for handlers not of Python's making, which could not be put back."""
    return {number: handler for number in _ALL if (handler := signal.getsignal(number)) is not None}


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Not SIG_IGN, which the programs that are started meanwhile would inherit."""
