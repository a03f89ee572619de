"""TimescaleDB: hypertables make their chunks themselves."""

from collections.abc import Collection
from datetime import date

from sqlalchemy.ext.asyncio import AsyncConnection


class Timescale:
    """Hypertables, on either edition of TimescaleDB."""

    name = "timescaledb"

    async def make_room(self, connection: AsyncConnection, days: Collection[date]) -> None:
        """Nothing to do: a chunk is made by the first row that needs it."""
