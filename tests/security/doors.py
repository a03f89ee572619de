"""The service's HTTP server around an application that does as it is told: what stands before ours, by itself."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import uvicorn
from litestar import Litestar

from app.server import http_server
from app.settings import Settings
from app.strangers import welcome

SECONDS = 10.0
TOKEN = b"authorization: let me in\r\n"
CHUNK = b"x" * 65_536
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Doors:
    """A server on a port, and what its application was told."""

    def __init__(self, server: uvicorn.Server, port: int, app: "Application") -> None:
        self.server = server
        self.port = port
        self.app = app
        self.clients: list[Client] = []

    async def open(self, said: bytes = b"", *, window: int | None = None) -> "Client":
        """A connection on which this was said; `window`: how much its kernel takes that it does not read."""
        sock = socket.socket()
        if window is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        client = Client(*await asyncio.open_connection(sock=sock))
        self.clients.append(client)
        client.say(said)
        return client

    async def websocket(self, *, window: int | None = None, headers: bytes = b"") -> "Client":
        """A connection that is a WebSocket."""
        client = await self.open(UPGRADE + headers + b"\r\n", window=window)
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        return client

    @property
    def connections(self) -> set[Any]:
        """The protocols of what is open."""
        return self.server.server_state.connections

    async def are_left(self) -> None:
        """Wait until no connection is there."""
        await self.become(lambda: len(self.connections), 0)

    async def become(self, look: Callable[[], int], wanted: int) -> None:
        """Wait until there are so many."""
        async with asyncio.timeout(SECONDS):
            while look() != wanted:
                await asyncio.sleep(0.01)


class Client:
    """One end of a wire."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, data: bytes) -> None:
        """Without a wait for anybody."""
        self.writer.write(data)

    async def head(self) -> bytes:
        """Of the answer."""
        async with asyncio.timeout(SECONDS):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """All until the other end closes."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def drip(self, data: bytes, every: float = 0.05) -> bytes:
        """Say a byte at a time, again and again, until the other end closes; what it said."""
        reading = asyncio.create_task(self.rest())
        while not reading.done():
            for byte in data:
                self.say(bytes([byte]))
                await asyncio.wait({reading}, timeout=every)
        return await reading

    async def close_code(self) -> int:
        """The code of the close frame that ends what comes."""
        said = await self.rest()
        place = said.rfind(b"\x88")
        return int.from_bytes(said[place + 2 : place + 4], "big") if place >= 0 else 1006

    def close(self) -> None:
        """Cut the wire."""
        self.writer.transport.abort()


class Application:
    """By path: `/take` reads its body, `/early` does not, `/much` says more than any buffer takes; `/ws` echoes."""

    def __init__(self) -> None:
        self.clients: list[str] = []
        self.taken: list[int] = []
        self.heard: list[Any] = []
        self.ended: list[int] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.says_much = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As ASGI wants it. Whoever brings TOKEN is no stranger."""
        self.clients.append(scope["client"][0])
        if (b"authorization", b"let me in") in scope["headers"]:
            welcome(scope)
        if scope["type"] == "websocket":
            await self._converse(receive, send)
        elif scope["path"] == "/take":
            await self._take(receive, send)
        else:
            await self._answer(send, CHUNK * 1000 if scope["path"] == "/much" else b"early")

    async def _take(self, receive: Any, send: Any) -> None:
        size = 0
        await self.may_read.wait()
        while (event := await receive())["type"] == "http.request":
            size += len(event["body"])
            if not event["more_body"]:
                self.taken.append(size)
                await self._answer(send, b"taken")
                return

    async def _answer(self, send: Any, body: bytes) -> None:
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(body), len(CHUNK)):
            more = start + len(CHUNK) < len(body)
            await send({"type": "http.response.body", "body": body[start : start + len(CHUNK)], "more_body": more})

    async def _converse(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while self.says_much:
            await send({"type": "websocket.send", "text": "x" * 65_536})
        await self.may_read.wait()
        while (event := await receive())["type"] == "websocket.receive":
            self.heard.append(event.get("text") or event.get("bytes"))
            await send({"type": "websocket.send", "text": "heard"})
            await self.may_read.wait()
        self.ended.append(event["code"])


@asynccontextmanager
async def doors(**settings: Any) -> AsyncIterator[Doors]:
    """The server, stopped in the end."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        ready, app = asyncio.Event(), Application()
        server = http_server(cast(Litestar, app), Settings(**settings), ready.set)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await ready.wait()
        there = Doors(server, listener.getsockname()[1], app)
        try:
            yield there
        finally:
            app.says_much = False
            for client in there.clients:
                client.close()
            for each in list(server.server_state.connections):
                each.transport.abort()
            server.should_exit = True
            await serving


def frame(payload: bytes, *, kind: int = 1, fin: bool = True, rsv1: bool = False) -> bytes:
    """A client's frame, masked with zeros."""
    first = bytes([kind | (0x80 if fin else 0) | (0x40 if rsv1 else 0)])
    if len(payload) < 126:
        return first + bytes([0x80 | len(payload)]) + bytes(4) + payload
    if len(payload) < 65_536:
        return first + b"\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload
    return first + b"\xff" + len(payload).to_bytes(8, "big") + bytes(4) + payload
