"""The writing side of one socket: frames leave in order, and nobody who posts one ever waits for the network."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from litestar import WebSocket

from app.protocol.session import Close
from app.ws.sockets import WIRE, WebSocketProtocol

GOODBYE_SECONDS: Final = 5.0


class Connection:
    """Owned by the endpoint.

    What was posted and not taken yet is bounded by `room`: a worker that does not read its answers is not read either.
    """

    __slots__ = ("_close", "_closing", "_is_closed", "_socket", "_wire")

    def __init__(self, socket: WebSocket[Any, Any, Any]) -> None:
        self._socket = socket
        # Frames go past ASGI, for which each would need a task: sending waits there.
        self._wire: WebSocketProtocol = socket.scope["state"].pop(WIRE)
        self._close: Close | None = None
        self._closing: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def is_hung_up(self) -> bool:
        """Whether this end has decided to close."""
        return self._close is not None

    @property
    def closed_by(self) -> str:
        """Who ends the connection: the worker, or the close code of this end."""
        return "worker" if self._close is None else str(self._close.code)

    def listen(self, ear: Callable[[str], bool]) -> None:
        """Let `ear` take what is said where it is parsed, as far as it can: it says whether it did."""
        self._wire.ear = ear

    def post(self, frame: bytes) -> None:
        """Send a frame. After the close it goes nowhere: nobody is there to read it."""
        if self._close is None:
            self._wire.post(frame)

    def hang_up(self, close: Close) -> None:
        """Close the socket behind everything posted before."""
        if self._close is None:
            self._close = close
            if not self._is_closed:
                self._closing = asyncio.get_running_loop().create_task(self._send_close(close))

    async def room(self) -> None:
        """Wait until the worker has read enough of what was sent to it."""
        if not self._wire.writable.is_set():
            await self._wire.writable.wait()

    async def finish(self) -> None:
        """Send the close frame, as far as the worker reads what is before it in time."""
        if self._closing is not None:
            await asyncio.wait({self._closing}, timeout=GOODBYE_SECONDS)

    def abandon(self) -> None:
        """The socket is gone: nothing is heard or closed any more."""
        self._wire.ear = None
        self._is_closed = True
        if self._closing is not None:
            self._closing.cancel()

    async def _send_close(self, close: Close) -> None:
        with suppress(OSError):  # the worker went away in the middle; the reading side learns it too
            await self._socket.send({"type": "websocket.close", "code": close.code, "reason": close.reason})
