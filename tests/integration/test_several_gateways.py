"""Two gateways on one database: what happens at one reaches the workers of the other."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from app.clock import timestamp
from app.storage import gateways as storage
from app.storage.connections import Admission, Claim, claim
from app.storage.database import Database
from tests.databases import WITH_ROOM
from tests.fakes import FakeClock
from tests.frames import heartbeat
from tests.integration.gateway import Gateway, eventually, running_gateway
from tests.integration.test_lifecycle import beat, introduce

pytestmark = pytest.mark.parametrize("server", WITH_ROOM, indirect=True)


@pytest.fixture
async def gateways(database: Database, clock: FakeClock) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Each with a pool of its own."""
    other = Database(database.url, pool_size=database.pool_size)
    async with running_gateway(database, clock) as here, running_gateway(other, clock) as there:
        yield here, there
    await other.close()


async def test_a_newer_connection_takes_over_from_another_gateway(gateways: tuple[Gateway, Gateway]) -> None:
    """The older one is closed with 4409; its goodbye changes nothing, and what the newer one says counts."""
    here, there = gateways
    node_id = await here.create_node()
    token = await here.make_token(node_id)
    async with here.worker(token) as old:
        await introduce(old)
        async with there.worker(token) as new:
            await introduce(new)
            assert await old.closed() == 4409
            await beat(there, new)
            assert await here.status(node_id) == ("online", True)
            assert await there.status(node_id) == ("online", True)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("DELETE", "", 4404), ("DELETE", "/token", 4403), ("POST", "/token", 4401)],
)
async def test_what_ends_a_connection_reaches_it_wherever_it_is(
    gateways: tuple[Gateway, Gateway], method: str, path: str, code: int
) -> None:
    """Deleted, disabled, or with a newer token in place of its own."""
    here, there = gateways
    node_id = await here.create_node()
    async with here.worker(await here.make_token(node_id)) as worker:
        await introduce(worker)
        answer = await there.http.request(
            method, f"/nodes/{node_id}{path}", json={"revokePrevious": True} if method == "POST" else None
        )
        assert answer.is_success
        assert await worker.closed() == code


async def test_nobody_is_admitted_by_what_was_so_before_a_revocation(gateways: tuple[Gateway, Gateway]) -> None:
    """A connection that comes while its token is being revoked waits for that, and goes by what is so then."""
    here, _ = gateways
    node_id = await here.create_node()
    ask = "SELECT 1 FROM node_state JOIN nodes USING (node_key) WHERE id = :id FOR UPDATE OF node_state"
    revoke = "UPDATE nodes SET disabled = true, token_generation = token_generation + 1 WHERE id = :id"
    waiting = (
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )

    async def admit() -> list[Claim | None]:
        async with here.database.transaction() as connection:
            return await claim(connection, [Admission(node_id, 0)], 1, here.clock.now())

    async def is_waiting() -> bool:
        async with here.database.transaction() as connection:
            return bool(await connection.scalar(text(waiting)))

    async with here.database.transaction() as connection:
        await connection.execute(text(ask), {"id": node_id})
        await connection.execute(text(revoke), {"id": node_id})
        admission = asyncio.create_task(admit())
        await eventually(is_waiting, wanted=True)
    (found,) = await admission
    assert found is not None
    assert (found.disabled, found.epoch) == (True, None)


async def test_what_was_missed_while_nobody_listened_is_made_up_for(gateways: tuple[Gateway, Gateway]) -> None:
    """A line that breaks says nothing: after it is back all nodes here are looked at."""
    here, _ = gateways
    node_id = await here.create_node()
    async with here.worker(await here.make_token(node_id)) as worker:
        await introduce(worker)
        async with here.database.transaction() as connection:
            # The listeners: no connection of a pool listens.
            await connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
            )
            await connection.execute(text("UPDATE nodes SET disabled = true, token_generation = token_generation + 1"))
        for _ in range(3):  # the ping that fails, the pause, the next try
            await here.clock.all_asleep("listener")
            here.clock.advance(1)
        assert await worker.closed() == 4403


async def test_goodbyes_and_news_outlast_an_error_of_the_database(gateways: tuple[Gateway, Gateway]) -> None:
    """Whatever it is (a deadlock, a standby that is read-only): it is tried again, and nothing else stops."""
    here, there = gateways
    node_id, other = await here.create_node(), await here.create_node()
    async with here.worker(await here.make_token(other)) as stays:
        await introduce(stays)
        async with here.worker(await here.make_token(node_id)) as leaves:
            await introduce(leaves)
            await here.passes(1)
            async with here.database.transaction() as connection:
                await connection.execute(text("ALTER TABLE node_state RENAME COLUMN epoch TO away"))
                await connection.execute(
                    text("SELECT pg_notify(gateway_channel(gateway_id), :id) FROM node_state"), {"id": other}
                )
        await eventually(lambda: _asleep(here), (1, 1))
        async with here.database.transaction() as connection:
            await connection.execute(text("ALTER TABLE node_state RENAME COLUMN away TO epoch"))
        here.clock.advance(1)
        await here.becomes(node_id, "offline", connected=False)
        await there.http.delete(f"/nodes/{other}")
        assert await stays.closed() == 4404


async def _asleep(gateway: Gateway) -> tuple[int, int]:
    """How many wait to record goodbyes again, and how many to look at news again."""
    return gateway.clock.asleep("goodbyes"), gateway.clock.asleep("news")


async def test_who_holds_a_node_is_not_told_of_what_it_did_itself(gateways: tuple[Gateway, Gateway]) -> None:
    """NOTIFY makes commits wait for each other."""
    here, there = gateways
    node_id = await here.create_node()
    heard: list[str] = []
    async with there.database.own_connection() as connection:
        async with there.database.transaction() as query:
            for channel in (await query.execute(text("SELECT gateway_channel(gateway_id) FROM gateways"))).scalars():
                await connection.add_listener(channel, lambda *news: heard.append(news[-1]))
        for _ in range(2):
            async with here.worker(await here.make_token(node_id)) as worker:
                await introduce(worker)
        await here.http.delete(f"/nodes/{node_id}/token")
        other = await here.create_node()
        async with here.worker(await here.make_token(other)) as worker:
            await introduce(worker)
            await there.http.delete(f"/nodes/{other}")
            await eventually(lambda: _copy(heard), [other])


async def _copy(heard: list[str]) -> list[str]:
    return list(heard)


async def test_a_gateway_that_was_taken_for_dead_takes_its_seat_again(gateways: tuple[Gateway, Gateway]) -> None:
    """It stood still for longer than a gateway may: by its next beat its nodes are its own, and news reach it again."""
    here, there = gateways
    node_id = await here.create_node()
    async with here.worker(await here.make_token(node_id)) as worker:
        await introduce(worker)
        async with here.database.transaction() as connection:
            await connection.execute(text("DELETE FROM gateways"))
            await connection.execute(text("UPDATE node_state SET gateway_id = NULL"))
        assert await there.status(node_id) == ("online", False)
        await here.passes(1)
        assert await there.status(node_id) == ("online", True)
        assert (await there.http.delete(f"/nodes/{node_id}")).is_success
        assert await worker.closed() == 4404


async def test_a_gateway_is_dead_when_it_could_have_been_heard_and_was_not(gateways: tuple[Gateway, Gateway]) -> None:
    """Whoever has only begun to listen, or could not for a while, takes no other for dead because its last beat is old."""
    here, _ = gateways
    node_id = await here.create_node()
    async with here.worker(await here.make_token(node_id)) as worker:
        await introduce(worker)
        async with here.database.transaction() as connection:
            await connection.execute(
                text("""
                    WITH other AS (
                        INSERT INTO gateways (seat, started_at, seen_at) VALUES ('elsewhere', :long_ago, :long_ago)
                        RETURNING gateway_id
                    ) UPDATE node_state SET gateway_id = other.gateway_id FROM other
                """),
                {"long_ago": here.clock.now() - timedelta(minutes=5)},
            )
        await here.passes(14)
        assert await here.status(node_id) == ("online", True)
        await here.passes(1)
        assert await here.status(node_id) == ("online", False)


async def test_what_a_gateway_could_not_store_is_not_silence_to_another(gateways: tuple[Gateway, Gateway]) -> None:
    """A gateway whose frames wait says since when it hears; for one timeout after nobody judges its nodes."""
    here, there = gateways
    node_id = await there.create_node()
    async with there.worker(await there.make_token(node_id)) as worker:
        await introduce(worker)
        await here.passes(95)  # both have listened for long enough to judge
        await beat(there, worker)
        async with there.database.own_connection() as other, other.transaction():
            await other.execute("LOCK TABLE heartbeats")
            await worker.send(heartbeat(timestamp(there.clock.now()), ack=True))
            await eventually(lambda: _waiting(there), 1)
            for _ in range(10):
                await here.passes(10)
            assert await here.status(node_id) == ("online", True)
        assert (await worker.receive())["data"]["status"] in ("stored", "duplicate")
        await here.passes(80)
        assert await here.status(node_id) == ("online", True)
        await here.passes(20)
        assert await here.status(node_id) == ("offline", True)


async def _waiting(gateway: Gateway) -> float:
    answer = await gateway.http.get("/metrics")
    return float(next(line for line in answer.text.splitlines() if line.startswith("aiwm_buffer_frames")).split()[-1])


async def test_one_sweep_is_enough_for_all_gateways(gateways: tuple[Gateway, Gateway]) -> None:
    """It reads all nodes there are: who comes too soon after another leaves it, unless the other's clock was ahead."""
    here, there = gateways
    node_id, now, second = await here.create_node(), here.clock.now(), timedelta(seconds=1)
    silent = []
    for gateway, at in ((here, now), (there, now + second / 2), (there, now + second), (here, now - 60 * second)):
        async with gateway.database.driver_transaction() as connection:
            long_ago = now - timedelta(days=1)
            await connection.execute("UPDATE node_state SET status = 'online', alive_at = $1", long_ago)
            silent.append(await storage.sweep(connection, at, None, at, second))
    assert silent == [1, 0, 1, 1]
    assert (await here.status(node_id))[0] == "offline"
