"""What the service logged while it was tried."""

import logging

import pytest


def defects(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as an error; what else there is depends on which tests ran before in this process."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
