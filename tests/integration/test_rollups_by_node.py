"""The GPUs of a node together, over 5 minutes: made for a database that has been in use."""

import asyncio
from datetime import timedelta

import pytest
from alembic import command
from sqlalchemy import text

from app.retention import Retention
from app.storage import schema
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.engines.timescale import RETENTION
from tests.fakes import FakeClock
from tests.integration.test_ingest import make_node
from tests.integration.test_rollups import DAY, NOW, Store, metrics

BEFORE = "0019"
MADE = "0020"
ROLLED = "gpu_metrics_5m_by_node_rolled"


@pytest.fixture
def store(database: Database, engine: StorageEngine) -> Store:
    return Store(database, engine, FakeClock(NOW))


async def test_what_was_rolled_up_before_is_in_it(store: Store) -> None:
    """At once, or where aggregates are continuous with the first pass; of samples that are gone, too."""
    node = await make_node(store.database)
    await store.put(*(metrics(node, NOW - 10 * DAY + timedelta(minutes=tick), tick) for tick in range(90)))
    await store.put(*(metrics(node, NOW - timedelta(hours=tick), tick) for tick in range(1, 80)))
    await store.roll()
    store.retention = Retention(raw=3 * DAY)
    await store.maintain()
    await store.run_jobs(RETENTION)
    rolled = await store.rollup(ROLLED)
    assert min(time for _, _, time in rolled) < NOW - 9 * DAY
    await schema.downgrade(store.database, BEFORE)
    await schema.upgrade(store.database)
    if store.engine.name == "TimescaleDB":
        await store.maintain()
    assert await store.rollup(ROLLED) == rolled
    await store.roll()
    await store.check()


async def test_what_was_there_before_comes_back(database: Database) -> None:
    """Each view and each function of ours, to the letter."""

    async def definitions() -> dict[str, str]:
        async with database.transaction() as connection:
            rows = await connection.execute(
                text("""
                    SELECT oid::regclass::text, pg_get_viewdef(oid) FROM pg_class
                    WHERE relnamespace IN ('aiwm'::regnamespace, 'history'::regnamespace) AND relkind = 'v'
                    UNION ALL
                    SELECT oid::regprocedure::text, pg_get_functiondef(oid) FROM pg_proc
                    WHERE pronamespace = 'aiwm'::regnamespace AND prokind = 'f'
                """)
            )
            return {row[0]: row[1] for row in rows}

    await schema.downgrade(database, BEFORE)
    before = await definitions()
    await schema.upgrade(database)
    assert (await definitions()).keys() > before.keys()
    await schema.downgrade(database, BEFORE)
    assert await definitions() == before


async def test_while_it_is_made_samples_come_and_nobody_rolls_up(store: Store) -> None:
    """A pass that has begun waits, and then rolls up what it would have missed."""
    if store.engine.name == "TimescaleDB":
        return  # does it by itself
    node = await make_node(store.database)
    await store.put(*(metrics(node, NOW - timedelta(minutes=10 * tick), tick) for tick in range(40)))
    await store.roll()
    await schema.downgrade(store.database, BEFORE)
    store.clock.advance(600)
    async with store.database.transaction() as migrating:
        await schema.prepare(migrating)
        await migrating.run_sync(lambda sync: command.upgrade(schema._config(sync), MADE))
        async with asyncio.timeout(10):
            await store.put(metrics(node, NOW - timedelta(minutes=15)), metrics(node, NOW + timedelta(minutes=2)))
        rolling_up = asyncio.create_task(store.maintain())
        async with asyncio.timeout(10):
            while not await migrating.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                await asyncio.sleep(0.01)
        assert not rolling_up.done()
    async with asyncio.timeout(10):
        await rolling_up
    assert await store.is_rolled_up()
    await store.check()
