"""Rolling up to a moment, on every storage engine: what is older is in rollups, what is newer in the samples alone."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from app.domain.maintenance import Maintenance
from app.retention import Retention
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.engines.timescale import AGGREGATES
from tests.fakes import FakeClock

REFRESH = "CALL refresh_continuous_aggregate($1::text::regclass, NULL, $2::timestamptz)"
KEEP_ALL = Retention(raw=None, heartbeats=None, five_minutes=None, hour=None, day=None)


async def roll_up(
    database: Database, engine: StorageEngine, until: datetime, touched: Iterable[tuple[int, datetime]]
) -> None:
    """Roll up the whole buckets before a moment, and again those that are touched (a node's key and a time)."""
    if engine.name == "TimescaleDB":
        async with database.alone("test") as connection:
            assert connection is not None
            for aggregate in AGGREGATES:
                await connection.execute(REFRESH, aggregate, until)
        return
    async with database.driver_transaction() as connection:
        await engine.note(connection, touched)
    maintenance = Maintenance(database, engine, KEEP_ALL, FakeClock(until + timedelta(minutes=1)))
    while await maintenance.once():
        pass
