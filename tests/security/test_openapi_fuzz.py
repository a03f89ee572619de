"""The whole OpenAPI document, asked for a few seconds by schemathesis with all of its checks; `make fuzz` asks for longer."""

import logging
from collections.abc import AsyncIterator
from typing import cast

import pytest

from app.clock import SystemClock
from app.storage.database import Database
from tests.fakes import FakeClock
from tests.integration.gateway import Gateway, running_gateway
from tests.security.fuzz import rest
from tests.security.logged import defects

SECONDS = 4


@pytest.fixture
async def gateway(database: Database) -> AsyncIterator[Gateway]:
    """A whole service, by the clock of the wall."""
    async with running_gateway(database, cast(FakeClock, SystemClock())) as gateway:
        yield gateway


async def test_the_document_is_true(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """No 5xx, no status, content type, schema or header that is not described, and nothing wrong that is taken."""
    with caplog.at_level(logging.ERROR):
        totals = await rest(gateway, seconds=SECONDS, examples=1)
    assert totals.found == [], totals
    assert not defects(caplog)
    assert {kind.rpartition(" ")[-1] for kind in totals.cases} == {"2xx", "4xx"}, totals
