"""The writing side of one socket: frames leave in order, and nobody who posts one ever waits for the network."""

import asyncio
from collections import deque
from typing import Any, Final

from litestar import WebSocket

from app.protocol.session import Close

OUTBOX_FRAMES: Final = 1000
GOODBYE_SECONDS: Final = 5.0


class Connection:
    """Owned by the endpoint. A writer task exists only while there is something to write.

    The outbox is bounded by `room`: a worker that does not read its answers is not read either.
    """

    __slots__ = ("_close", "_is_closed", "_outbox", "_room", "_socket", "_writer")

    def __init__(self, socket: WebSocket[Any, Any, Any]) -> None:
        self._socket = socket
        self._outbox: deque[bytes] | None = None  # an empty one takes 760 bytes
        self._close: Close | None = None
        self._is_closed = False
        self._writer: asyncio.Task[None] | None = None
        self._room: asyncio.Event | None = None

    @property
    def is_hung_up(self) -> bool:
        """Whether this end has decided to close."""
        return self._close is not None

    @property
    def closed_by(self) -> str:
        """Who ends the connection: the worker, or the close code of this end."""
        return "worker" if self._close is None else str(self._close.code)

    def post(self, frame: bytes) -> None:
        """Send a frame soon. After the close it goes nowhere: nobody is there to read it."""
        if self._close is None and not self._is_closed:
            if self._outbox is None:
                self._outbox = deque()
            self._outbox.append(frame)
            self._write()

    def hang_up(self, close: Close) -> None:
        """Close the socket once everything posted before has been sent."""
        if self._close is None:
            self._close = close
            self._write()

    async def room(self) -> None:
        """Wait until the worker has read enough of what was sent to it."""
        while self._outbox and len(self._outbox) >= OUTBOX_FRAMES and not self._is_closed:
            self._room = asyncio.Event()
            await self._room.wait()

    async def finish(self) -> None:
        """Send what is left, close frame included, as far as the worker reads it in time."""
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=GOODBYE_SECONDS)

    def abandon(self) -> None:
        """The socket is gone: forget what was to be sent."""
        self._is_closed = True
        self._outbox = None
        if self._writer is not None:
            self._writer.cancel()

    def _write(self) -> None:
        if self._writer is None and not self._is_closed:
            self._writer = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        try:
            outbox = self._outbox
            while outbox:
                text = outbox.popleft().decode()
                await self._socket.send({"type": "websocket.send", "bytes": None, "text": text})
                if self._room is not None and len(outbox) < OUTBOX_FRAMES // 2:
                    self._room.set()
            self._outbox = None
            if self._close is not None:
                self._is_closed = True
                await self._socket.send(
                    {"type": "websocket.close", "code": self._close.code, "reason": self._close.reason}
                )
        except OSError:
            self._is_closed = True  # the worker went away in the middle; the reading side learns it too
        finally:
            self._writer = None
            if self._room is not None:
                self._room.set()
