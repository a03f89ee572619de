"""The whole service: a worker that sends too much, and strangers at its door."""

import asyncio
import gc
import json
import socket
from collections import Counter
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from app.clock import timestamp
from app.domain.ingest import Ingest
from app.storage.database import Database
from app.ws.sockets import FRAMES_A_TURN, WebSocketProtocol
from tests.fakes import FakeClock
from tests.frames import heartbeat
from tests.integration.gateway import running_gateway
from tests.integration.test_lifecycle import beat, introduce
from tests.security.doors import UPGRADE, frame


async def test_a_flood_gives_others_their_turn(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of frames that were read at one time are not taken in at one time: so many where they are parsed, and so
    many by their conversation."""
    turn = 0
    taken: Counter[int] = Counter()
    put = Ingest.put

    def counted(*arguments: Any) -> None:
        taken[turn] += 1
        put(*arguments)

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async with running_gateway(database, clock) as gateway:
        node_id = await gateway.create_node()
        async with gateway.worker(await gateway.make_token(node_id)) as worker:
            await introduce(worker)
            monkeypatch.setattr(Ingest, "put", counted)
            counting = asyncio.create_task(count_turns())
            frame = heartbeat(timestamp(clock.now()))
            await asyncio.gather(*(worker.send(json.dumps(frame | {"messageId": f"{n}"})) for n in range(400)))
            assert (await worker.ask(frame | {"messageId": "last", "ack": True}))["data"]["ackFor"] == "last"
            counting.cancel()
    assert taken.total() == 401
    assert max(taken.values()) <= 2 * FRAMES_A_TURN


async def test_a_worker_that_does_not_read_its_answers_is_not_read(database: Database, clock: FakeClock) -> None:
    """They wait to be written, and for how many of them is not the worker's to say."""
    async with running_gateway(database, clock) as gateway:
        token = await gateway.make_token(await gateway.create_node())
        wire = socket.socket()
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.setblocking(False)
        await asyncio.get_running_loop().sock_connect(wire, ("127.0.0.1", gateway.settings.port))
        reader, writer = await asyncio.open_connection(sock=wire, limit=1000)
        writer.write(UPGRADE.replace(b"/ws ", b"/ws/node ") + f"Authorization: Bearer {token}\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        # Each is answered: its node is not registered yet.
        writer.write(frame(json.dumps(heartbeat(timestamp(clock.now()))).encode()) * 20_000)
        async with asyncio.timeout(30):
            protocol = the_socket()
            while protocol.writable.is_set():
                await asyncio.sleep(0)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert protocol.transport.get_write_buffer_size() < 128 * 1024
        writer.transport.abort()


def the_socket() -> WebSocketProtocol:
    """The one WebSocket that the service has."""
    there = (each for each in gc.get_objects() if type(each) is WebSocketProtocol)
    return next(each for each in there if not each.transport.is_closing())


async def test_a_goodbye_does_not_disturb_the_stop(database: Database, clock: FakeClock) -> None:
    """Of a worker that goes in the moment when the service does: all others would be left without theirs."""
    async with running_gateway(database, clock) as gateway:
        token = await gateway.make_token(await gateway.create_node())
        async with gateway.worker(token) as worker:
            await introduce(worker)
            protocol = the_socket()
            protocol.data_received(frame(b"\x03\xe8", kind=8))
            protocol.shutdown()
            assert await worker.closed() == 1000


async def test_who_is_cut_off_for_standing_still_is_not_offline(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was this end that went; whether the node is silent, time tells."""
    monkeypatch.setattr("app.ws.stalls.STALL_SECONDS", 0.01)
    async with running_gateway(database, clock) as gateway:
        node_id = await gateway.create_node()
        async with gateway.worker(await gateway.make_token(node_id)) as worker:
            await introduce(worker)
            the_socket().pause_writing()
            await gateway.becomes(node_id, "online", connected=False)


async def test_a_body_that_breaks_off_is_no_defect_of_ours(
    database: Database, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever holds a token could fill the log with tracebacks."""
    async with running_gateway(database, clock) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.settings.port)
        token = gateway.http.headers["Authorization"]
        writer.write(f"POST /nodes HTTP/1.1\r\nHost: t\r\nAuthorization: {token}\r\n".encode())
        writer.write(b'Content-Length: 1000\r\nContent-Type: application/json\r\n\r\n{"name')
        await writer.drain()
        assert (await gateway.http.get("/nodes")).status_code == 200
        writer.transport.abort()
        assert (await gateway.http.get("/nodes")).status_code == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_workers_and_portals_are_no_strangers(database: Database, clock: FakeClock) -> None:
    """One stranger an address: whoever has a token comes in beside it, and a second stranger is told to wait."""
    async with running_gateway(database, clock, strangers_per_address=1) as gateway:
        tokens = [await gateway.make_token(await gateway.create_node()) for _ in range(3)]
        async with gateway.worker(tokens[0]) as one:
            await introduce(one)
            async with gateway.worker(tokens[1]) as two:
                await introduce(two)
                async with gateway.worker(None):
                    with pytest.raises(InvalidStatus) as refused:
                        async with gateway.worker(tokens[2]):
                            pass
                    assert refused.value.response.status_code == 429
                    assert refused.value.response.headers["Retry-After"] == "10"
                    await beat(gateway, one)
                    assert (await gateway.http.get("/nodes")).status_code == 200
                async with gateway.worker(tokens[2]) as third:
                    await introduce(third)
