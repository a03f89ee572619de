"""When samples are taken: on whole seconds, in a phase that is the node's own and never changes.

A fleet does not march in step then, and times that lie evenly cost half as much on the controller's disk.
"""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256
from typing import Callable, Final

_LONGEST_NAP_SECONDS: Final = 10.0
"""The wall clock may be set meanwhile, and a sleeper does not hear of it."""


def now_ms() -> int:
    """The wall clock: milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Schedule:
    """The moments of one kind of sample, in milliseconds since 1970. It survives a wall clock that is set.

    Set forward, what was skipped is skipped. Set back by less than two intervals it waits, so that no
    moment comes twice; by more it starts over from the new time.
    """

    def __init__(self, node_id: str, interval_ms: int) -> None:
        self.interval_ms = interval_ms
        # The phase of a 30 s and of a 60 s schedule are the same second: the machine wakes up once for both.
        phase = int.from_bytes(sha256(node_id.encode()).digest()[:8], "big") % interval_ms
        self._phase = phase // 1000 * 1000 if interval_ms >= 1000 else phase
        self._due: int | None = None

    def wait_ms(self, now: int) -> int:
        """How long until the next moment; 0 where it has come."""
        if self._due is None or self._due - now > 2 * self.interval_ms:
            self._due = self._before(now) + self.interval_ms
        return max(0, self._due - now)

    def take(self, now: int) -> int:
        """The moment that has come, and the next one is waited for from here on."""
        moment = self._before(now)
        self._due = moment + self.interval_ms
        return moment

    def _before(self, now: int) -> int:
        return now - (now - self._phase) % self.interval_ms


class Ticker:
    """Waits for the moments of a schedule whose interval may change."""

    def __init__(self, node_id: str, interval_ms: int, clock: Callable[[], int] = now_ms) -> None:
        self._node_id = node_id
        self._schedule = Schedule(node_id, interval_ms)
        self._clock = clock
        self._changed = asyncio.Event()

    @property
    def interval_ms(self) -> int:
        """From one moment to the next."""
        return self._schedule.interval_ms

    def change(self, interval_ms: int) -> None:
        """Another interval from now on."""
        if interval_ms != self.interval_ms:
            self._schedule = Schedule(self._node_id, interval_ms)
            self._changed.set()

    async def next(self) -> int:
        """Wait for the next moment."""
        while True:
            self._changed.clear()
            wait = self._schedule.wait_ms(self._clock()) / 1000
            if not wait:
                return self._schedule.take(self._clock())
            try:
                await asyncio.wait_for(self._changed.wait(), min(wait, _LONGEST_NAP_SECONDS))
            except asyncio.TimeoutError:
                continue
