"""Frames for which nothing has to be awaited are taken in where they are parsed, and the others keep their order."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.clock import timestamp
from app.protocol.session import Session
from app.storage.database import Database
from app.ws.inbox import Inbox
from tests.fakes import FakeClock
from tests.frames import heartbeat, metrics
from tests.integration.gateway import Gateway, running_gateway
from tests.integration.test_lifecycle import introduce
from tests.security.doors import Doors, doors, frame


@pytest.fixture
async def gateway(database: Database, clock: FakeClock) -> AsyncIterator[Gateway]:
    async with running_gateway(database, clock) as gateway:
        yield gateway


@pytest.fixture
async def there() -> AsyncIterator[Doors]:
    async with doors() as there:
        yield there


async def test_telemetry_wakes_no_conversation(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it pause its socket, which is done for what comes into the inbox while nobody waits there."""
    received: list[Any] = []
    async with gateway.worker(await gateway.make_token(await gateway.create_node())) as worker:
        await introduce(worker)
        put = Inbox.put_nowait

        def counted(inbox: Inbox, event: Any) -> None:
            received.append(event)
            put(inbox, event)

        monkeypatch.setattr(Inbox, "put_nowait", counted)
        now = timestamp(gateway.clock.now())
        for said in (heartbeat(now, ack=True), metrics(now, ack=True)):
            assert (await worker.ask(said))["data"]["status"] == "stored"
        assert (await worker.ask(heartbeat("2001-01-01T00:00:00.000Z")))["error"]["code"] == "SAMPLE_TOO_OLD"
        assert (await worker.ask("{}"))["error"]["code"] == "INVALID_MESSAGE"
        assert received == []
        unseen = metrics(now, ack=True)
        unseen["data"]["timestamp"] = "2026-11-23T11:59:59.000Z"
        unseen["data"]["gpus"][0]["deviceId"] = "GPU-unseen"
        assert (await worker.ask(unseen))["data"]["status"] == "stored"
        assert [json.loads(event["text"]) for event in received] == [unseen]


async def test_a_defect_of_ours_ends_the_conversation(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """1011, come again, as for what is heard in its turn."""
    async with gateway.worker(await gateway.make_token(await gateway.create_node())) as worker:
        await introduce(worker)

        def broken(_session: Session, _frame: str) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(Session, "receive", broken)
        await worker.send(heartbeat(timestamp(gateway.clock.now())))
        assert await worker.closed() == 1011


async def test_what_was_not_heard_yet_comes_first(there: Doors) -> None:
    """While the application does not listen, everything waits for it; then a text goes to the ear, if that takes it."""
    client = await there.websocket()
    [protocol] = there.connections
    taken: list[str] = []

    def ear(text: str) -> bool:
        if text != "not this":
            taken.append(text)
        return text != "not this"

    protocol.ear = ear
    await there.become(lambda: protocol.queue.is_awaited, True)
    there.app.may_read.clear()
    client.say(frame(b"one") + frame(b"not this") + frame(b"two") + frame(b"three"))
    await there.become(lambda: len(there.app.heard), 1)
    assert (taken, there.app.heard) == (["one"], ["not this"])
    there.app.may_read.set()
    await there.become(lambda: len(there.app.heard), 3)
    await there.become(lambda: protocol.queue.is_awaited, True)
    client.say(frame(b"four") + frame(b"five", kind=2) + frame(b"", kind=8))
    await client.rest()
    assert (taken, there.app.heard) == (["one", "four"], ["not this", "two", "three", b"five"])


async def test_whoever_does_not_read_is_not_heard_at_once(there: Doors) -> None:
    """What waits to be written is bounded by not reading on, and the ear does not wait."""
    client = await there.websocket()
    [protocol] = there.connections
    taken: list[str] = []
    protocol.ear = lambda text: not taken.append(text)  # type: ignore[func-returns-value]
    await there.become(lambda: protocol.queue.is_awaited, True)
    protocol.writable.clear()
    client.say(frame(b"one"))
    async with asyncio.timeout(10):
        while there.app.heard != ["one"]:
            await asyncio.sleep(0.01)
    assert taken == []
    protocol.writable.set()
