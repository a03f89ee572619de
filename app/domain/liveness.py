"""Heartbeats that stop: one sweep for all processes finds silent nodes and dead gateways.

Silence proves something only while this service was able to hear. It counts from the latest of: last
heard (in the database), the service being ready, and the end of a time in which samples waited to be
stored or the database was away (both here).
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from app.clock import Clock
from app.errors import StorageUnavailable
from app.storage import gateways
from app.storage.database import Database

SWEEP_SECONDS: Final = (0.1, 1.0)
GATEWAY_DEAD_AFTER: Final = timedelta(seconds=15)
DEAF_AFTER_SECONDS: Final = 2.0

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
    ) -> None:
        """`oldest_wait` tells for how many seconds samples have been waiting; `each_sweep` is called once a sweep."""
        self._database = database
        self._gateway_id = gateway_id
        self._clock = clock
        self._timeout = timeout
        self._oldest_wait = oldest_wait
        self._each_sweep = each_sweep
        self._hearing_since = clock.now()

    async def run(self) -> None:
        """Sweep about ten times in a heartbeat timeout, at least once a second."""
        shortest, longest = SWEEP_SECONDS
        period = min(longest, max(shortest, self._timeout.total_seconds() / 10))
        while True:
            await self._clock.sleep(period)
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
        if self._oldest_wait() > DEAF_AFTER_SECONDS:
            self._hearing_since = now
        async with self._database.transaction() as connection:
            silent = await gateways.sweep(
                connection,
                self._gateway_id,
                now,
                dead_before=now - GATEWAY_DEAD_AFTER,
                silent_before=self._silent_before(now),
            )
        if silent:
            _log.info("%d nodes went offline: no heartbeat for %.0f s.", silent, self._timeout.total_seconds())
        return silent

    def _silent_before(self, now: datetime) -> datetime | None:
        """Who was last heard before this is offline; None while we have not listened for long enough ourselves."""
        return None if now - self._hearing_since < self._timeout else now - self._timeout
