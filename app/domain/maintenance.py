"""What a database needs from time to time: partitions, rollups, an end of what is too old. One process does it."""

import logging
from typing import Final

from app.clock import Clock
from app.errors import StorageUnavailable
from app.retention import Retention
from app.storage import allowances, intake
from app.storage.database import Database
from app.storage.engines.base import StorageEngine

PASS_SECONDS: Final = 30.0
JOB: Final = "aiwm.maintain"

_log = logging.getLogger(__name__)


class Maintenance:
    """Owned by the composition root, which runs `run` as a task."""

    def __init__(self, database: Database, engine: StorageEngine, retention: Retention, clock: Clock) -> None:
        self._database = database
        self._engine = engine
        self._retention = retention
        self._clock = clock

    async def run(self) -> None:
        """A pass every half minute, at once where there was more to do than one pass does."""
        while True:
            try:
                has_more = await self.once()
            except StorageUnavailable:
                has_more = False  # others say so already
            except Exception:  # noqa: BLE001 – one failed pass must not be the last
                _log.exception("Rollups, partitions or retention could not be seen to; it is tried again.")
                has_more = False
            if not has_more:
                await self._clock.sleep(PASS_SECONDS)

    async def once(self) -> bool:
        """One pass, unless another process is at it. Returns whether there is more to do. Raises StorageUnavailable."""
        async with self._database.alone(JOB) as connection:
            if connection is None:
                return False
            now = self._clock.now()
            await intake.forget(connection, now)
            await allowances.forget(connection, now)
            return await self._engine.maintain(connection, self._retention, now)
