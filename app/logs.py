"""The log: one line an event, to standard error, with the connection and the node that it is about.

2026-11-24 10:00:00,123 WARNING app.ws.endpoint [connection=3-17 node=673e7a1f5c9d8e001234abcd]: …

A fault that repeats is told once a second, with how often it was not told since: (+1234 alike).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from app.repeats import Repeats

REPEAT_SECONDS: Final = 1.0
_CHATTERBOXES: Final = ("uvicorn.error", "httpx", "httpcore", "websockets", "alembic")
"""Their own accounts of each connection; at DEBUG some of them write the token's header."""
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s%(about)s: %(message)s%(alike)s"
_about: ContextVar[str] = ContextVar("about", default="")


def configure(level: str) -> None:
    """For this process, where nobody has set its log up before; `level` as in AIWM_LOG_LEVEL."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.addFilter(_tell)
    handler.addFilter(Repeats(REPEAT_SECONDS))
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
