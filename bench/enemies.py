"""Bad clients of every kind, each of which acts ten times a second for as long as it is let, and then comes again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from bench import wire

PACE: Final = 0.1
TELEMETRY_AT_ONCE: Final = 5
APART: Final = timedelta(seconds=PACE / TELEMETRY_AT_ONCE)
_DEEP: Final = wire.frame("[" * 60_000)
_LARGE: Final = b"\x81\xff" + (300_000).to_bytes(8, "big") + bytes(4) + b" " * 300_000
_COMPRESSED: Final = b"\xc1\xfe" + (1000).to_bytes(2, "big") + bytes(4) + bytes(1000)
_BEGUN: Final = b"\x81\xfe" + (60_000).to_bytes(2, "big") + bytes(4)
_PINGS: Final = (b"\x89\x80" + bytes(4)) * 2000
_FRAGMENTS: Final = b"\x01\x80" + bytes(4) + (b"\x00\x80" + bytes(4)) * 2000


class Ended(Exception):
    """The service has closed the connection."""


class Enemy:
    """One of them: how often it acted, and how often the service ended its connection."""

    def __init__(self, port: int, number: int, token: str, portal: str) -> None:
        self._port = port
        self.number = number
        self.token = token
        self.portal = portal
        self.acts = 0
        self.ended = 0
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def live(self, kind: Callable[["Enemy"], Awaitable[None]]) -> None:
        """One connection after the other, until cancelled."""
        while True:
            try:
                await kind(self)
            except (Ended, OSError, asyncio.IncompleteReadError, TimeoutError):
                self.ended += 1
            finally:
                with suppress(AttributeError):
                    self._writer.transport.abort()
            await asyncio.sleep(PACE)

    async def open(self, said: bytes) -> None:
        """A connection that starts so. What is not read is soon not taken any more."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2048)
        await self.act(said)

    async def join(self, token: str | None = None) -> None:
        """A socket of our node, or of whoever this token is."""
        head = wire.HANDSHAKE.format(key=wire.KEY, token=token or self.token).encode()
        await self.open(head)
        async with asyncio.timeout(10):
            await self._reader.readuntil(b"\r\n\r\n")

    async def act(self, said: bytes) -> None:
        """Say it and wait for the next turn. Raises Ended."""
        self.acts += 1
        self._writer.write(said)
        await asyncio.sleep(PACE)
        if self._writer.transport.is_closing() or self._reader.at_eof():
            raise Ended

    async def again(self, said: bytes) -> None:
        """The same for ever, and read what is answered. Raises Ended."""
        while True:
            await self.act(said)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.001):
                    await self._reader.read(65_536)

    async def deaf(self, said: bytes) -> None:
        """The same, without reading anything."""
        while True:
            await self.act(said)


async def slow_head(enemy: Enemy) -> None:
    """A request's head, a byte at a time."""
    await enemy.open(b"GET /nodes HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    await enemy.again(b"x")


async def slow_body(enemy: Enemy) -> None:
    """A body, a byte at a time, with a token that is good."""
    await enemy.open(
        f"POST /nodes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {enemy.portal}\r\nContent-Length: 200000\r\n\r\n".encode()
    )
    await enemy.again(b" ")


async def deaf_reader(enemy: Enemy) -> None:
    """Questions with long answers that nobody takes."""
    await enemy.open(b"GET /schema/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 15)
    await enemy.deaf(b"")


async def pipeline(enemy: Enemy) -> None:
    """A thousand requests in one breath."""
    await enemy.open(b"GET /schema/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
    await enemy.again(b"")


async def silent(enemy: Enemy) -> None:
    """A handshake without a token, and then nothing."""
    await enemy.open(wire.HANDSHAKE.format(key=wire.KEY, token="").replace("Authorization: Bearer \r\n", "").encode())
    await enemy.again(b"")


async def wrong_token(enemy: Enemy) -> None:
    """A token that is not ours, on a new connection each time."""
    await enemy.join(enemy.token[:-8] + "AAAAAAAA")
    raise Ended


async def slow_frame(enemy: Enemy) -> None:
    """A frame, a byte at a time."""
    await enemy.join()
    await enemy.act(_BEGUN)
    await enemy.again(b"x")


async def deep_frames(enemy: Enemy) -> None:
    """Frames nested sixty thousand times."""
    await enemy.join()
    await enemy.again(_DEEP * 5)


async def large_frames(enemy: Enemy) -> None:
    """Frames that are too large, and compressed ones in turn."""
    await enemy.join()
    await enemy.again(_LARGE if enemy.acts % 2 else _COMPRESSED)


async def frames_of_nothing(enemy: Enemy) -> None:
    """Pings and empty fragments by the thousand."""
    await enemy.join()
    await enemy.again(_PINGS if enemy.acts % 2 else _FRAGMENTS)


async def flood(enemy: Enemy) -> None:
    """Telemetry that is good, fifteen hundred times as often as it should be; its acknowledgements are not taken."""
    await enemy.join()
    await enemy.act(wire.register(enemy.number, datetime.now(UTC)))
    while True:
        now = datetime.now(UTC)
        moments = [now + APART * place for place in range(TELEMETRY_AT_ONCE)]
        await enemy.act(b"".join(wire.heartbeat(enemy.number, f"f-{moment:%s%f}", moment) for moment in moments))


async def resent(enemy: Enemy) -> None:
    """The same metrics again and again: each batch that they are in has to look what is new."""
    await enemy.join()
    await enemy.act(wire.register(enemy.number, datetime.now(UTC)))
    await enemy.again(wire.metrics(enemy.number, "again", datetime.now(UTC)))


async def creator(enemy: Enemy) -> None:
    """Nodes, as fast as they are answered."""
    body = b'{"name":"enemy","role":["worker"]}'
    head = f"POST /nodes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {enemy.portal}\r\nContent-Length: {len(body)}\r\n\r\n"
    await enemy.open(head.encode() + body)
    await enemy.again(head.encode() + body)


KINDS: Final[dict[str, Callable[[Enemy], Awaitable[None]]]] = {
    "heads that drip": slow_head,
    "bodies that drip": slow_body,
    "answers that nobody takes": deaf_reader,
    "a thousand requests at once": pipeline,
    "sockets without a token": silent,
    "tokens that are not ours": wrong_token,
    "frames that drip": slow_frame,
    "five frames nested 60,000 deep": deep_frames,
    "frames too large, compressed": large_frames,
    "2,000 pings, empty fragments": frames_of_nothing,
    "5 heartbeats, answers not taken": flood,
    "a sample sent before": resent,
    "a node created": creator,
}
