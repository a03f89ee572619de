"""GPU events, of the extension gpuEvents: among the events of their node once, and acknowledged after the commit."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.clock import timestamp
from app.model import EventKind, GpuEvent
from app.storage import gpu_events, schema
from app.storage.arrivals import Outcome
from app.storage.database import Database
from app.storage.events import Happening, record
from app.storage.gpu_events import Told
from tests.fakes import START, FakeClock
from tests.frames import gpu_event, heartbeat
from tests.integration.gateway import Gateway, running_gateway
from tests.integration.test_conversation import FickleDatabase, fickle
from tests.integration.test_ingest import make_node
from tests.integration.test_lifecycle import introduce

__all__ = ["fickle"]


@pytest.fixture
async def gateway(fickle: FickleDatabase, clock: FakeClock) -> AsyncIterator[Gateway]:
    """A service that answers."""
    async with running_gateway(fickle, clock) as gateway:
        yield gateway


async def told(gateway: Gateway, node_id: str) -> list[dict[str, Any]]:
    """The node's events of GPUs, oldest first."""
    kinds = "gpu_xid,gpu_vanished,gpu_returned,gpu_ecc_uncorrected"
    answer = await gateway.http.get(
        f"/nodes/{node_id}/events", params={"kind": kinds, "from": "2026-11-23T00:00:00Z", "to": "2026-11-24T00:00:00Z"}
    )
    assert answer.status_code == 200, answer.text
    return list(reversed(answer.json()["events"]))


def event(kind: str, seconds: float, **detail: Any) -> dict[str, Any]:
    """GPU_EVENT that asks for its acknowledgement."""
    frame = gpu_event(timestamp(START), ack=True)
    moment = timestamp(START + timedelta(seconds=seconds))
    frame["data"] |= {"timestamp": moment, "kind": kind, "detail": detail}
    return frame


async def test_events_are_written_down_with_their_own_time(gateway: Gateway) -> None:
    """Of each kind, whatever order they come in; nobody did it."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        for frame in (
            event("gpu_returned", 30),
            event("xid", 10, xid=79),
            event("gpu_vanished", 20),
            event("ecc_uncorrected", 40, count=2),
        ):
            acknowledged = (await worker.ask(frame))["data"]
            assert acknowledged == {"ackFor": frame["messageId"], "status": "stored"}
    device = {"deviceId": "GPU-0"}
    assert [(each["kind"], each["time"], each["detail"]) for each in await told(gateway, node_id)] == [
        ("gpu_xid", timestamp(START + timedelta(seconds=10)), device | {"xid": 79}),
        ("gpu_vanished", timestamp(START + timedelta(seconds=20)), device),
        ("gpu_returned", timestamp(START + timedelta(seconds=30)), device),
        ("gpu_ecc_uncorrected", timestamp(START + timedelta(seconds=40)), device | {"count": 2}),
    ]
    assert all("actor" not in each for each in await told(gateway, node_id))


async def test_an_event_sent_again_is_written_once(gateway: Gateway) -> None:
    """Under another messageId and from another connection too; what differs in anything else is another event."""
    node_id = await gateway.create_node()
    token = await gateway.make_token(node_id)
    async with gateway.worker(token) as worker:
        await introduce(worker)
        first = await worker.ask(event("xid", 0, xid=79, pid=1))
        again = await worker.ask(event("xid", 0, pid=1, xid=79))
    async with gateway.worker(token) as worker:
        await introduce(worker)
        later = await worker.ask(
            event("xid", 0, xid=79, pid=1) | {"messageId": "another", "timestamp": timestamp(START)}
        )
        others = [event("xid", 0, xid=80), event("gpu_vanished", 0), event("xid", 0.001, xid=79, pid=1)]
        others.append(event("xid", 0, xid=79, pid=1))
        others[-1]["data"]["deviceId"] = "GPU-1"
        fates = [(await worker.ask(frame))["data"]["status"] for frame in others]
    assert [answer["data"]["status"] for answer in (first, again, later)] == ["stored", "duplicate", "duplicate"]
    assert fates == ["stored"] * 4
    assert len(await told(gateway, node_id)) == 5


async def test_who_did_not_ask_hears_nothing(gateway: Gateway) -> None:
    """The event is written all the same."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        await worker.send(gpu_event(timestamp(START)))
        acknowledged = await worker.ask(heartbeat(timestamp(START), ack=True))
    assert acknowledged["data"]["ackFor"] == heartbeat()["messageId"]
    assert len(await told(gateway, node_id)) == 1


async def test_an_event_waits_for_a_database_that_is_away(gateway: Gateway, fickle: FickleDatabase) -> None:
    """Acknowledged when it is back, and not before."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        fickle.is_away = True
        asleep = gateway.clock.sleepers
        await worker.send(event("xid", 0, xid=79))
        async with asyncio.timeout(10):
            while gateway.clock.sleepers == asleep:
                await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await worker.receive()
        fickle.is_away = False
        gateway.clock.advance(1)
        assert (await worker.receive())["data"]["status"] == "stored"
    assert len(await told(gateway, node_id)) == 1


async def test_a_downgrade_leaves_no_kind_that_the_program_of_before_does_not_know(database: Database) -> None:
    """Events of GPUs go with the column that keeps them single; those of registrations stay."""
    key = await make_node(database)
    gone = GpuEvent(START, EventKind.GPU_XID, '{"deviceId": "GPU-0"}')
    assert await gpu_events.record(database, [Told(key, gone)]) == [Outcome.STORED]
    async with database.transaction() as connection:
        for kind in (EventKind.GPU_VANISHED, EventKind.TOKEN_RENEWED):
            await record(connection, key, START, Happening(kind, None, {}))
    await schema.downgrade(database, "0013")
    async with database.transaction() as connection:
        assert list(await connection.scalars(text("SELECT kind FROM node_events"))) == ["gpu_vanished"]
