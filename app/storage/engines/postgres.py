"""PostgreSQL alone: declarative range partitions, made before they are needed, dropped when they are too old."""

import logging
from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, timedelta

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.retention import Retention
from app.storage import dropped, rolling
from app.storage.engines.base import Connection, Touched
from app.storage.holdings import Holdings, by_table

MADE_AHEAD = timedelta(days=2)

_MAKE_PARTITIONS = text("SELECT make_partitions(:first_day, :last_day)")
_PARTITIONS = """
    SELECT parent.relname AS parent, child.relname AS partition,
           to_date(right(child.relname, 8), 'YYYYMMDD') AS first_day,
           (to_date(right(child.relname, 8), 'YYYYMMDD')
            + CASE WHEN parent.relname LIKE '%\\_rolled' THEN interval '1 month' ELSE interval '1 day' END)::date AS end_day
    FROM pg_inherits
    JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class child ON child.oid = inhrelid
    WHERE parent.relnamespace = 'aiwm'::regnamespace AND parent.relkind = 'p'
"""
_SIZES = """
    SELECT parent.relname AS name, child.oid::regclass::text AS relation, false AS in_columns, bytes, bytes AS row_bytes
    FROM pg_inherits
    JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class child ON child.oid = inhrelid
    CROSS JOIN LATERAL coalesce(pg_total_relation_size(child.oid), 0) AS bytes
    WHERE parent.relnamespace = 'aiwm'::regnamespace AND parent.relkind = 'p'
    ORDER BY right(child.relname, 8)
"""
# Locks out whoever uses the parent: for a moment, or not at all.
_DROP = "SELECT set_config('lock_timeout', '1s', true), drop_partition($1)"

_log = logging.getLogger(__name__)


class Postgres:
    """Range partitions, of a day for samples, of a month for rollups; `make_partitions` attaches what is missing."""

    name = "PostgreSQL"

    async def make_room(self, connection: AsyncConnection, days: Collection[date]) -> None:
        """Attach a partition for each of these days that has none."""
        for day in sorted(days):
            await connection.execute(_MAKE_PARTITIONS, {"first_day": day, "last_day": day})

    async def note(self, connection: Connection, touched: Iterable[Touched]) -> None:
        """Late metrics are noted for the next pass."""
        await rolling.note(connection, touched)

    async def maintain(self, connection: Connection, retention: Retention, now: datetime) -> bool:
        """One stretch of rolling up; then partitions, when there is nothing left to roll up."""
        if await rolling.roll(connection, now, retention):
            return True
        today = now.astimezone(UTC).date()
        await connection.execute("SELECT make_partitions($1, $2)", today, today + MADE_AHEAD)
        for parent, partition, first_day, end_day in await connection.fetch(_PARTITIONS):
            table = parent.removesuffix("_rolled")
            kept, end = retention.by_table.get(table), _midnight(end_day)
            if kept is None or end > now - kept:
                continue
            if (
                "metrics" in parent
                and table == parent
                and await rolling.is_pending(connection, _midnight(first_day), end)
            ):
                continue
            await _drop(connection, partition, table, end)
        return False

    async def holdings(self, connection: Connection) -> Holdings:
        """Partitions, and what the maintenance loop knows; jobs there are none."""
        return await rolling.holdings(connection, by_table(await connection.fetch(_SIZES)))


async def _drop(connection: Connection, partition: str, table: str, end: datetime) -> None:
    try:
        async with connection.transaction():
            await dropped.note(connection, {table: end})
            await connection.execute(_DROP, partition)
    except asyncpg.LockNotAvailableError:
        _log.warning("Partition %s is too old but in use; it is dropped by a later pass.", partition)
    else:
        _log.info("Partition %s was too old and is dropped.", partition)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
