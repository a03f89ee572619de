"""TimescaleDB's Apache edition: hypertables, but neither continuous aggregates nor policies."""

from collections.abc import Collection, Iterable
from datetime import date, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from app.retention import Retention
from app.storage import dropped, rolling
from app.storage.engines.base import Connection, Touched
from app.storage.engines.chunks import chunks
from app.storage.holdings import Holdings

_OLDEST_CHUNK = """
    SELECT range_start, range_end FROM timescaledb_information.chunks
    WHERE hypertable_schema = 'aiwm' AND hypertable_name = $1 AND range_end <= $2 ORDER BY range_start
"""
_DROP_CHUNKS = "SELECT drop_chunks(format('aiwm.%I', $1::text)::regclass, older_than => $2::timestamptz)"


class TimescaleApache:
    """Hypertables make their chunks themselves; rollups and retention are as on PostgreSQL alone."""

    name = "TimescaleDB (Apache edition)"

    async def make_room(self, connection: AsyncConnection, days: Collection[date]) -> None:
        """Nothing to do: a chunk is made by the first row that needs it."""

    async def note(self, connection: Connection, touched: Iterable[Touched]) -> None:
        """Late metrics are noted for the next pass."""
        await rolling.note(connection, touched)

    async def maintain(self, connection: Connection, retention: Retention, now: datetime) -> bool:
        """One stretch of rolling up; then chunks, when there is nothing left to roll up."""
        if await rolling.roll(connection, now, retention):
            return True
        for table, kept in retention.by_table.items():
            is_rollup = "_metrics_" in table
            hypertable = f"{table}_rolled" if is_rollup else table
            if kept is not None:
                for start, end in await connection.fetch(_OLDEST_CHUNK, hypertable, now - kept):
                    if not is_rollup and "metrics" in table and await rolling.is_pending(connection, start, end):
                        break  # what is dropped is all that is older
                    await dropped.note(connection, {table: end})
                    await connection.fetch(_DROP_CHUNKS, hypertable, end)
        return False

    async def holdings(self, connection: Connection) -> Holdings:
        """Chunks, and what the maintenance loop knows; jobs there are none."""
        return await rolling.holdings(connection, await chunks(connection))
