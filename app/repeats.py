"""Faults that repeat, told seldom: of each place of the program one line in a while, with how many were not told.

The standard library alone, and Python 3.9: this file travels to GPU machines with `app/worker`.
"""

from __future__ import annotations

import logging
import time
from typing import Callable, Final

EACH_TIME: Final = "each_time"
"""Of `extra`: true for a line that somebody looks for by what only it has."""


class Repeats(logging.Filter):
    """A handler's filter: lets through what is no fault, and of each fault one line in so many seconds.

    It gives each line that it lets through its `alike`: empty, or " (+12 alike)".
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._monotonic = monotonic
        self._told: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to tell it."""
        record.alike = ""
        if record.levelno < logging.WARNING or getattr(record, EACH_TIME, False):
            return True
        place, now = (record.pathname, record.lineno), self._monotonic()
        at, untold = self._told.get(place, (-self._seconds, 0))
        if now - at < self._seconds:
            self._told[place] = at, untold + 1
            return False
        self._told[place] = now, 0
        record.alike = f" (+{untold} alike)" if untold else ""
        return True
