"""The log: one line an event, to standard error."""

import logging

_CHATTERBOXES = ("uvicorn.error", "httpx", "alembic")


def configure(level: str) -> None:
    """For this process; `level` as in AIWM_LOG_LEVEL."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatterbox in _CHATTERBOXES:
        logging.getLogger(chatterbox).setLevel(logging.WARNING)
