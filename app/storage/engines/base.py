"""What really differs between storage engines, and nothing else."""

from collections.abc import Collection
from datetime import date
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection


class StorageEngine(Protocol):
    """How the sample tables are partitioned by time. The first migration chose; see `installation`."""

    name: str

    async def make_room(self, connection: AsyncConnection, days: Collection[date]) -> None:
        """Make sure that samples of these days (UTC) have a partition to go to."""
        ...
