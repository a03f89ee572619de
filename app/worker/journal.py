"""The log: sentences to standard error, where journald takes them.

A fault that repeats is told once a minute, with how often it was not told since: (+12 alike).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Final

from app.repeats import Repeats

REPEAT_SECONDS: Final = 60.0
_PRIORITIES: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _Journal(logging.Formatter):
    """For journald, which knows the time and reads the priority from the line's beginning."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{super().format(record)}"


def configure(environ: Mapping[str, str] = os.environ) -> None:
    """For this process, in place of whatever was configured before."""
    handler = logging.StreamHandler()
    if "JOURNAL_STREAM" in environ:
        handler.setFormatter(_Journal("%(message)s%(alike)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s%(alike)s"))
    handler.addFilter(Repeats(REPEAT_SECONDS))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # Its own accounts of each connection; at DEBUG it would write the token's header.
    logging.getLogger("websockets").setLevel(logging.WARNING)
