"""Handshakes that lead nowhere: too many connections, and those who speak Socket.IO."""

import asyncio
import json

import pytest
from websockets.exceptions import InvalidStatus

from app.meters import Meters
from app.storage.database import Database
from app.ws import doors
from app.ws.doors import Doors
from tests.fakes import FakeClock
from tests.integration.gateway import running_gateway
from tests.integration.test_lifecycle import introduce
from tests.worker import Worker


async def test_beyond_its_room_a_worker_is_asked_to_come_later(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1013; who was there stays, and a place that becomes free is taken."""
    monkeypatch.setattr("app.asgi.room", lambda: 1)
    async with running_gateway(database, clock) as gateway:
        node_id = await gateway.create_node()
        token = await gateway.make_token(node_id)
        async with gateway.worker(token) as first:
            await introduce(first)
            async with gateway.worker(token) as second:
                assert await second.closed() == 1013
            assert await gateway.status(node_id) == ("online", True)
        await gateway.becomes(node_id, "offline", connected=False)
        async with gateway.worker(token) as third:
            await introduce(third)


async def test_a_socket_io_client_that_starts_with_a_handshake_is_told(database: Database, clock: FakeClock) -> None:
    """The same 404 and the same sentence as for its other transport."""
    async with running_gateway(database, clock) as gateway:
        for path in ("/socket.io/?EIO=4&transport=websocket", "/socket.io/a"):
            with pytest.raises(InvalidStatus) as refused:
                async with Worker(f"{gateway.settings.websocket_url}{path}", None):
                    pass
            answer = refused.value.response
            assert answer.status_code == 404
            body = json.loads(answer.body or b"")
            assert (body["statusCode"], body["path"]) == (404, path.partition("?")[0].rstrip("/"))
            assert "plain WebSocket at /ws/node" in body["message"]


async def test_connections_that_say_nothing_are_bounded_too(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 beyond the limit, without a word of theirs; who sends no whole request is closed after a while, and leaves room."""
    monkeypatch.setattr("app.server.room", lambda: 1)
    monkeypatch.setattr("app.server.REQUESTS", 1)
    monkeypatch.setattr("app.server.SILENT_SECONDS", 1)
    async with running_gateway(database, clock) as gateway, asyncio.timeout(30):
        silent = [await asyncio.open_connection("127.0.0.1", gateway.settings.port) for _ in range(3)]
        readers = [reader for reader, _ in silent]
        silent[0][1].write(b"GET /health/live HTTP/1.1\r\nX-Never")
        assert (await readers[2].read()).startswith(b"HTTP/1.1 503 ")
        assert [await reader.read() for reader in readers[:2]] == [b"", b""]
        assert (await gateway.http.get("/health/live")).status_code == 200
        for _, writer in silent:
            writer.close()


def test_room_is_less_than_files() -> None:
    """For the database, requests, and whoever is told that there is no room."""
    counted = Doors(Meters(), 2)
    assert [counted.enter() for _ in range(3)] == [True, True, False]
    counted.leave()
    counted.leave()
    assert counted.enter()
    assert doors.room() > 0
