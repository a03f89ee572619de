"""A worker of the tests: one real WebSocket, spoken by hand."""

import asyncio
import json
import ssl
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

SECONDS = 10.0


class Worker:
    """Connects with a node token, sends frames, waits (bounded) for answers."""

    def __init__(self, url: str, token: str | None, trust: ssl.SSLContext | None = None) -> None:
        self._url = url
        self._token = token
        self._trust = trust
        self._socket: ClientConnection

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token is not None else {}
        self._socket = await connect(
            self._url, additional_headers=headers, compression=None, proxy=None, ssl=self._trust
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._socket.close()

    async def send(self, frame: dict[str, Any] | str | bytes) -> None:
        """Send a frame."""
        await self._socket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    async def receive(self) -> dict[str, Any]:
        """The next frame."""
        async with asyncio.timeout(SECONDS):
            parsed: dict[str, Any] = json.loads(await self._socket.recv())
            return parsed

    async def ask(self, frame: dict[str, Any] | str | bytes) -> dict[str, Any]:
        """Send a frame and return the next one that comes."""
        await self.send(frame)
        return await self.receive()

    async def closed(self) -> int:
        """Wait for the close; its code."""
        try:
            async with asyncio.timeout(SECONDS):
                while True:
                    await self._socket.recv()
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd is not None else 1006

    def vanish(self) -> None:
        """Cut the wire without a goodbye."""
        self._socket.transport.abort()
