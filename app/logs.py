"""The log: one line an event, to standard error, with the connection and the node that it is about.

2026-11-24 10:00:00,123 WARNING app.ws.endpoint [connection=3-17 node=673e7a1f5c9d8e001234abcd]: …
"""

import logging
from contextvars import ContextVar
from typing import Final

_CHATTERBOXES: Final = ("uvicorn.error", "httpx", "alembic")
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s%(about)s: %(message)s"
_about: ContextVar[str] = ContextVar("about", default="")


def configure(level: str) -> None:
    """For this process; `level` as in AIWM_LOG_LEVEL."""
    logging.basicConfig(level=level.upper(), format=_FORMAT)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_tell)
    for chatterbox in _CHATTERBOXES:
        logging.getLogger(chatterbox).setLevel(logging.WARNING)


def about(**what: str) -> None:
    """What the lines of this task are about from now on: words of this program, and ids."""
    _about.set(" [" + " ".join(f"{name}={value}" for name, value in what.items()) + "]")


def _tell(record: logging.LogRecord) -> bool:
    record.about = _about.get()
    return True
