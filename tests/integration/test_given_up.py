"""A connection that somebody gave up in the middle: what is left of that concerns nobody who comes later."""

import asyncio
import os
import signal

import pytest

from app.errors import StorageUnavailable
from app.storage import database as room
from app.storage import tables
from app.storage.database import Database
from tests.integration.gateway import eventually

# A server of this machine, one of whose processes can be stopped.
pytestmark = pytest.mark.parametrize("server", ["postgresql"], indirect=True)


@pytest.mark.parametrize("by_driver", [True, False])
@pytest.mark.parametrize("given_up_by", ["the time limit", "whoever asked"])
async def test_what_follows_a_transaction_that_never_began_is_stored(
    database: Database, monkeypatch: pytest.MonkeyPatch, *, by_driver: bool, given_up_by: str
) -> None:
    """A BEGIN that was given up is carried out when the server goes on: within it nothing would ever be committed."""
    if given_up_by == "the time limit":
        monkeypatch.setattr(room, "COMMAND_SECONDS", 0.1)
    only = Database(database.url, pool_size=1)

    async def write(job: str) -> None:
        if by_driver:
            async with only.driver_transaction() as driver:
                await driver.execute("INSERT INTO jobs (job) VALUES ($1)", job)
        else:
            async with only.transaction() as connection:
                await connection.execute(tables.jobs.insert().values(job=job))

    async def in_use() -> int:
        return only.in_use

    async with only.driver() as driver:
        backend = driver.get_server_pid()
    os.kill(backend, signal.SIGSTOP)
    try:
        writing = asyncio.create_task(write("given up"))
        await eventually(in_use, 1)
        if given_up_by == "whoever asked":
            writing.cancel()
        with pytest.raises((StorageUnavailable, asyncio.CancelledError)):
            await writing
    finally:
        os.kill(backend, signal.SIGCONT)
    await write("after it")
    await only.close()
    assert await _written(database) == ["after it"]


async def test_what_follows_a_transaction_that_was_left_open_is_stored(database: Database) -> None:
    """Whoever left it so: the next one would write within it."""
    only = Database(database.url, pool_size=1)
    async with only.driver() as driver:
        await driver.execute("BEGIN")
    async with only.driver() as driver:
        await driver.execute("INSERT INTO jobs (job) VALUES ('after it')")
    await only.close()
    assert await _written(database) == ["after it"]


async def _written(database: Database) -> list[str] | None:
    async with database.driver() as onlooker:
        found: list[str] | None = await onlooker.fetchval("SELECT array_agg(job) FROM jobs WHERE job ~ ' '")
        return found
