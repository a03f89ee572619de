"""PostgreSQL alone: declarative range partitions, one a day, made before they are needed."""

from collections.abc import Collection
from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_MAKE_PARTITIONS = text("SELECT make_partitions(:first_day, :last_day)")


class Postgres:
    """Range partitions; `make_partitions` (a function of the first migration) attaches what is missing."""

    name = "postgresql"

    async def make_room(self, connection: AsyncConnection, days: Collection[date]) -> None:
        """Attach a partition for each of these days that has none."""
        for day in sorted(days):
            await connection.execute(_MAKE_PARTITIONS, {"first_day": day, "last_day": day})
