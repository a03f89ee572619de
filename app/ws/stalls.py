"""Peers that do not take what is written to them, and hold its memory and a file for as long as they like."""

import asyncio
from collections.abc import Callable
from typing import Final

STALL_SECONDS: Final = 30.0
STALL_BYTES: Final = 30 * 1024
"""So much must be taken in that time while more is waiting: a kilobyte a second."""


class Stall:
    """A watch over one transport's buffer, from `begin` to `end`; a peer that stands still meanwhile is cut off.

    `cut_off` is called then, by itself the transport's `abort`; `write` tells of what is added to the buffer meanwhile.
    """

    __slots__ = ("_cut_off", "_left", "_loop", "_timer", "_transport")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, cut_off: Callable[[], None] | None = None
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._cut_off = cut_off or transport.abort
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0

    def begin(self) -> None:
        """Something is waiting for the peer to take it."""
        if self._timer is None:
            self._left = self._transport.get_write_buffer_size()
            self._timer = self._loop.call_later(STALL_SECONDS, self._look)

    def write(self, size: int) -> None:
        """So much more is waiting."""
        self._left += size

    def end(self) -> None:
        """It was taken, or the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._left - self._transport.get_write_buffer_size() < STALL_BYTES:
            self._cut_off()
        else:
            self.begin()
