"""What really differs between storage engines, and nothing else."""

from collections.abc import Collection, Iterable
from datetime import date, datetime
from typing import Protocol, TypeAlias

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from app.retention import Retention
from app.storage.holdings import Holdings

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Touched = tuple[int, datetime]
"""A node's key, and the time of one of its metrics."""


class StorageEngine(Protocol):
    """How samples are partitioned, rolled up and dropped. The first migration chose; see `installation`."""

    name: str

    async def make_room(self, connection: AsyncConnection, days: Collection[date]) -> None:
        """Make sure that samples of these days (UTC) have a partition to go to."""
        ...

    async def note(self, connection: Connection, touched: Iterable[Touched]) -> None:
        """Within the transaction that stores them: whose metrics of when rollups have to heed."""
        ...

    async def maintain(self, connection: Connection, retention: Retention, now: datetime) -> bool:
        """Make partitions, keep rollups up to date, drop what is too old; on a connection without a transaction.

        Only one process does it at a time. Returns whether there is more to do at once.
        """
        ...

    async def holdings(self, connection: Connection) -> Holdings:
        """What the database's catalog says of samples, rollups and jobs; no sample is read for it."""
        ...
