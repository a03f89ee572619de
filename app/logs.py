"""The log: one line an event, to standard error, with the connection and the node that it is about.

2026-11-24 10:00:00,123 WARNING app.ws.endpoint [connection=3-17 node=673e7a1f5c9d8e001234abcd]: …

A fault that repeats is told once a second, with how often it was not told since: (+1234 alike).
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

REPEAT_SECONDS: Final = 1.0
EACH_TIME: Final = "each_time"
"""Of `extra`: true for a line that somebody looks for by what only it has."""
_CHATTERBOXES: Final = ("uvicorn.error", "httpx", "alembic")
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s%(about)s: %(message)s%(alike)s"
_about: ContextVar[str] = ContextVar("about", default="")


class Repeats:
    """Lets through what is no fault, and of each fault (one place of the program) one line a second."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._told: dict[tuple[str, int], tuple[float, int]] = {}

    def __call__(self, record: logging.LogRecord) -> bool:
        """Whether to tell it, as a handler's filter."""
        record.alike = ""
        if record.levelno < logging.WARNING or getattr(record, EACH_TIME, False):
            return True
        place, now = (record.pathname, record.lineno), self._monotonic()
        at, untold = self._told.get(place, (-REPEAT_SECONDS, 0))
        if now - at < REPEAT_SECONDS:
            self._told[place] = at, untold + 1
            return False
        self._told[place] = now, 0
        record.alike = f" (+{untold} alike)" if untold else ""
        return True


def configure(level: str) -> None:
    """For this process, where nobody has set its log up before; `level` as in AIWM_LOG_LEVEL."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.addFilter(_tell)
    handler.addFilter(Repeats())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for chatterbox in _CHATTERBOXES:
        logging.getLogger(chatterbox).setLevel(logging.WARNING)


def about(**what: str) -> None:
    """What the lines of this task are about from now on: words of this program, and ids."""
    _about.set(_written(what))


@contextmanager
def speaking_of(**what: str) -> Iterator[None]:
    """The same for the length of a block, whoever's task it runs in."""
    before = _about.set(_written(what))
    try:
        yield
    finally:
        _about.reset(before)


def _written(what: dict[str, str]) -> str:
    return " [" + " ".join(f"{name}={value}" for name, value in what.items()) + "]"


def _tell(record: logging.LogRecord) -> bool:
    record.about = _about.get()
    return True
