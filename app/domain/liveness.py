"""Heartbeats that stop: one sweep for all processes finds silent nodes and dead gateways. It reads every node there is.

Silence proves something only while it could have been broken. It counts from the latest of: last heard (in the
database), the service being ready, and the end of a time in which samples waited to be stored or the database was
away: of this gateway's, which does not judge while it is deaf, and of the one that holds the node, which writes down
since when it hears.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from app.clock import Clock
from app.errors import StorageUnavailable
from app.storage import gateways
from app.storage.database import Database

SWEEP_EVERY: Final = (timedelta(milliseconds=100), timedelta(seconds=1))
GATEWAY_DEAD_AFTER: Final = timedelta(seconds=15)
DEAF_AFTER_SECONDS: Final = 2.0
STOOD_STILL_AFTER: Final = timedelta(seconds=10)
"""So long without a sweep of its own: the process, or its machine, stood still, and what was sent to it is unread.

Of a short timeout it is a quarter beside the time between two sweeps, not counting how long they take: that leaves the third
that usually lies between two heartbeats.
"""

_log = logging.getLogger(__name__)


class Liveness:
    """Owned by the composition root, which runs `run` as a task."""

    def __init__(
        self,
        database: Database,
        gateway_id: int,
        clock: Clock,
        *,
        timeout: timedelta,
        oldest_wait: Callable[[], float],
        each_sweep: Callable[[], None],
        retake_seat: Callable[[], Awaitable[None]],
    ) -> None:
        """`oldest_wait` tells for how many seconds samples have been waiting; `each_sweep` is called once a sweep.

        `retake_seat` is called where this gateway was taken for dead.
        """
        self._database = database
        self._gateway_id = gateway_id
        self._clock = clock
        self._timeout = timeout
        shortest, longest = SWEEP_EVERY
        self._period = min(longest, max(shortest, timeout / 10))
        self._stood_still_after = min(STOOD_STILL_AFTER, self._period + timeout / 4)
        self._oldest_wait = oldest_wait
        self._each_sweep = each_sweep
        self._retake_seat = retake_seat
        self._hearing_since = self._sweep_began = self._sweep_ended = clock.now()

    async def run(self) -> None:
        """Sweep about ten times in a heartbeat timeout, at least once a second."""
        while True:
            await self._clock.sleep(self._period.total_seconds())
            self._each_sweep()
            try:
                await self.sweep()
            except StorageUnavailable:
                self._hearing_since = self._clock.now()
            except Exception:  # noqa: BLE001 – one failed sweep must not be the last
                self._hearing_since = self._clock.now()
                _log.exception("The sweep for silent nodes failed; it is tried again.")

    async def sweep(self) -> int:
        """Mark silent nodes offline; returns how many. Raises StorageUnavailable."""
        now = self._clock.now()
        stood_still = now - self._sweep_ended > self._stood_still_after or now - self._sweep_began > STOOD_STILL_AFTER
        if stood_still or self._oldest_wait() > DEAF_AFTER_SECONDS:
            self._hearing_since = now
        self._sweep_began = now
        try:
            return await self._beat_and_sweep(now)
        finally:
            self._sweep_ended = self._clock.now()

    async def _beat_and_sweep(self, now: datetime) -> int:
        async with self._database.driver() as connection:
            beat = await gateways.beat(connection, self._gateway_id, now, self._hearing_since, self._period)
        silent = await self._sweep(now) if beat.sweep_is_due else 0
        if not beat.is_seated:
            await self._retake_seat()
        if silent:
            _log.info("%d nodes went offline: no heartbeat for %.0f s.", silent, self._timeout.total_seconds())
        return silent

    async def _sweep(self, now: datetime) -> int:
        async with self._database.driver_transaction() as connection:
            return await gateways.sweep(
                connection,
                now,
                dead_before=self._limit(now, GATEWAY_DEAD_AFTER),
                silent_before=self._limit(now, self._timeout),
                every=self._period,
            )

    def _limit(self, now: datetime, timeout: timedelta) -> datetime | None:
        """Who was last heard before this is silent; None while we have not listened for long enough ourselves."""
        return None if now - self._hearing_since < timeout else now - timeout
