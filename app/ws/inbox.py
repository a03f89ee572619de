"""What a socket has said and its conversation has not heard yet."""

import asyncio
from collections import deque

from uvicorn._types import ASGIReceiveEvent


class Inbox:
    """Events in order, for one reader: an `asyncio.Queue` of as many sockets takes 3 KiB more of each.

    Bounded by its socket, which is not read on while nobody waits here.
    """

    __slots__ = ("_events", "_reader")

    def __init__(self) -> None:
        self._events: deque[ASGIReceiveEvent] | None = None  # an empty one takes 760 bytes
        self._reader: asyncio.Future[None] | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether the next event is heard at once."""
        return self._reader is not None and not self._reader.done()

    def empty(self) -> bool:
        """Whether everything was heard."""
        return not self._events

    def put_nowait(self, event: ASGIReceiveEvent) -> None:
        """It comes behind what is here."""
        if self._events is None:
            self._events = deque()
        self._events.append(event)
        if self._reader is not None and not self._reader.done():  # `is_awaited`, without a call for each frame
            self._reader.set_result(None)

    async def get(self) -> ASGIReceiveEvent:
        """The next event, when there is one."""
        while not self._events:
            self._events = None
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._events.popleft()
