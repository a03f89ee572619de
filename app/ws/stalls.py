"""Peers that do not take what is written to them, and hold its memory and a file for as long as they like."""

import asyncio
from typing import Final

STALL_SECONDS: Final = 30.0
STALL_BYTES: Final = 30 * 1024
"""So much must be taken in that time while more is waiting: a kilobyte a second."""


class Stall:
    """A watch over one transport's buffer, from `begin` to `end`; a peer that stands still meanwhile is cut off."""

    __slots__ = ("_left", "_loop", "_timer", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0

    def begin(self) -> None:
        """Something is waiting for the peer to take it."""
        if self._timer is None:
            self._left = self._transport.get_write_buffer_size()
            self._timer = self._loop.call_later(STALL_SECONDS, self._look)

    def end(self) -> None:
        """It was taken, or the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._left - self._transport.get_write_buffer_size() < STALL_BYTES:
            self._transport.abort()
        else:
            self.begin()
