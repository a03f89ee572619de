"""Who may have the database's connections: requests may take theirs, and never those of the service's own work."""

import asyncio

import pytest

from app.errors import StorageUnavailable
from app.storage import database as room
from app.storage.database import Database
from tests.databases import WITH_ROOM
from tests.fakes import FakeClock
from tests.integration.gateway import eventually, running_gateway
from tests.integration.test_lifecycle import beat, introduce

pytestmark = pytest.mark.parametrize("server", WITH_ROOM, indirect=True)


async def test_requests_that_take_all_they_may_hold_up_nothing_else(database: Database, clock: FakeClock) -> None:
    """While more questions wait for a locked table than there are connections, samples are stored and nodes come in."""
    async with running_gateway(database, clock) as gateway:
        old, new = await gateway.create_node(), await gateway.create_node()
        old_token, new_token = await gateway.make_token(old), await gateway.make_token(new)
        async with gateway.worker(old_token) as worker:
            await introduce(worker)
            await beat(gateway, worker)
            async with database.own_connection() as outsider:
                lock = outsider.transaction()
                await lock.start()
                await outsider.execute("LOCK TABLE node_metrics")
                question = f"/nodes/{old}/metrics?from=now-1h&interval=raw&fields=cpuUsage"
                asked = [
                    asyncio.create_task(gateway.http.get(question, timeout=60)) for _ in range(2 * database.pool_size)
                ]
                await eventually(lambda: _are_taken(database), True)
                clock.advance(1)
                await beat(gateway, worker)
                async with gateway.worker(new_token) as another:
                    await introduce(another)
                    await beat(gateway, another)
                assert (await gateway.http.get("/health/ready")).status_code == 200
                assert not any(each.done() and each.result().status_code == 200 for each in asked)
                await lock.rollback()
                assert {answer.status_code for answer in await asyncio.gather(*asked)} <= {200, 503}


async def _are_taken(database: Database) -> bool:
    return database.in_use >= database.pool_size // 2


async def test_a_portion_has_its_bound_and_gives_back_what_it_took(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds it used up is told so after a while, and whoever uses the whole pool notices nothing."""
    monkeypatch.setattr(room, "POOL_SECONDS", 0.05)
    portion = database.portion(1)
    for _ in range(2):
        async with portion.transaction():
            with pytest.raises(StorageUnavailable):
                await portion.ping()
            await database.ping()
    await portion.ping()


async def test_who_asks_after_the_server_has_closed_all_connections_is_answered(database: Database) -> None:
    """The pool knows that they are closed, and makes others: a restarted database costs nobody a question."""
    async with database.driver_transaction() as first, database.driver_transaction() as second:
        closed = [first.get_server_pid(), second.get_server_pid()]
    async with database.own_connection() as outsider:
        await outsider.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest($1::integer[]) AS pid", closed)
    async with database.driver_transaction() as first, database.driver_transaction() as second:
        assert {first.get_server_pid(), second.get_server_pid()}.isdisjoint(closed)
