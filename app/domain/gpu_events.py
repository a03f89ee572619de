"""What workers tell of their GPUs as events: written down once, and told to be so only then."""

from operator import attrgetter
from typing import Final

from app.clock import Clock
from app.domain.batches import Batches
from app.errors import StorageUnavailable
from app.model import GpuEvent
from app.storage import gpu_events as storage
from app.storage.arrivals import Outcome
from app.storage.database import Database
from app.storage.gpu_events import Told

RETRY_SECONDS: Final = 1.0
BATCH: Final = 200
"""As many events as one transaction writes."""


class GpuEvents:
    """Owned by the composition root, which runs `run` as a task."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._told = Batches(self._record, attrgetter("node_key"), most=BATCH)

    async def record(self, node_key: int, event: GpuEvent) -> Outcome:
        """Write an event down, waiting out a database that is away."""
        while True:
            try:
                return await self._told.ask(Told(node_key, event))
            except StorageUnavailable:
                await self._clock.sleep(RETRY_SECONDS)

    async def run(self) -> None:
        """Work off what is told, many at once."""
        await self._told.run()

    async def _record(self, told: list[Told]) -> list[Outcome]:
        return await storage.record(self._database, told)
