"""`aiwm db status`: what the storage engine is and holds."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from app.cli import cli
from app.clock import timestamp
from app.errors import StartupError
from app.model import Sample, SampleKind
from app.retention import Retention
from app.storage import relations, rolling, schema, status
from app.storage.arrivals import Arrival
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.status import DatabaseStatus, RollupStatus, TableStatus
from tests.fakes import FakeClock
from tests.integration.test_ingest import make_node
from tests.integration.test_rollups import DAY, NOW, Store, metrics

TABLES = [
    *("heartbeats", "gpu_heartbeats", "node_metrics", "gpu_metrics", "gpu_details"),
    *("node_metrics_5m", "gpu_metrics_5m", "gpu_metrics_5m_by_node"),
    *("node_metrics_1h", "gpu_metrics_1h", "gpu_metrics_1h_by_node"),
    *("node_metrics_1d", "gpu_metrics_1d"),
]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def store(database: Database, engine: StorageEngine, clock: FakeClock) -> Store:
    return Store(database, engine, clock)


async def read(store: Store) -> DatabaseStatus:
    revision = await status.revision(store.database)
    return await status.read(store.database, store.engine, revision, store.retention, store.clock.now())


def tables(found: DatabaseStatus) -> dict[str, TableStatus]:
    return {table.name: table for table in found.tables}


def rollups(found: DatabaseStatus) -> dict[str, RollupStatus]:
    return {rollup.name: rollup for rollup in found.rollups}


async def run(database: Database, *arguments: str) -> Result:
    """The command as a person runs it; it has an event loop of its own."""
    await database.close()  # a server with one backend has room for one connection
    environment = {"AIWM_DATABASE_URL": database.url, "AIWM_RETENTION_RAW": "20d", "AIWM_RETENTION_5M": "forever"}
    return await asyncio.to_thread(CliRunner().invoke, cli, ["db", "status", *arguments], env=environment)


async def test_a_fresh_database_holds_nothing(store: Store) -> None:
    """And says so of every table and rollup."""
    found = await read(store)
    assert (found.revision, found.head) == (schema.head(), schema.head())
    assert found.postgresql
    assert [table.name for table in found.tables] == TABLES
    assert [rollup.name for rollup in found.rollups] == TABLES[5:]
    assert {table.oldest for table in found.tables} == {None}
    assert {(rollup.rolled_until, rollup.lag_seconds) for rollup in found.rollups} == {(None, None)}
    assert {table.bytes for table in found.tables} == {0}
    assert found.jobs == []
    compressed = {(table.bytes_before_compression, table.bytes_after_compression) for table in found.tables}
    if store.engine.name == "TimescaleDB":
        assert (found.engine, found.edition, found.touched) == ("timescaledb", "community", None)
        assert found.timescaledb
        assert compressed == {(0, 0)}
    else:
        assert (found.engine, found.edition, found.touched, found.timescaledb) == ("postgresql", None, 0, None)
        assert compressed == {(None, None)}


async def test_samples_are_told_by_their_table(store: Store) -> None:
    """Two days of metrics, an hour of heartbeats; of each the oldest, whichever node's and GPU's it is."""
    late, early = await make_node(store.database), await make_node(store.database)
    oldest = NOW - DAY - timedelta(minutes=7)
    await store.put(metrics(late, NOW, gpus=(1, 2)), metrics(early, oldest, gpus=(1,)))
    await store.put(metrics(early, oldest - timedelta(minutes=1), gpus=()))
    heartbeat = Sample(SampleKind.HEARTBEAT, NOW, ("online", 1, 2, 3, 4), ())
    await store.put(Arrival(late, 1, NOW, SampleKind.HEARTBEAT, heartbeat, ()))
    found = tables(await read(store))
    assert found["node_metrics"].oldest == oldest - timedelta(minutes=1)
    assert found["gpu_metrics"].oldest == oldest
    assert found["heartbeats"].oldest == NOW
    assert found["gpu_heartbeats"].oldest is None
    assert found["node_metrics"].parts >= 2
    assert all(table.bytes == table.row_bytes for table in found.values())
    assert found["gpu_metrics"].bytes > 0


async def test_an_empty_part_is_passed_over(store: Store) -> None:
    """The oldest sample is in the first part that has rows."""
    node = await make_node(store.database)
    await store.put(metrics(node, NOW - 3 * DAY), metrics(node, NOW))
    async with store.database.transaction() as connection:
        await connection.execute(text("DELETE FROM gpu_metrics WHERE time < :time"), {"time": NOW})
    found = tables(await read(store))
    assert (found["gpu_metrics"].oldest, found["node_metrics"].oldest) == (NOW, NOW - 3 * DAY)


async def test_rollups_tell_how_far_they_are(store: Store) -> None:
    """The lag is from the end of the last whole bucket; a late sample waits to be rolled up."""
    node = await make_node(store.database)
    await store.put(*(metrics(node, NOW - timedelta(minutes=30 * tick)) for tick in range(200)))
    store.clock.advance(600)
    await store.roll()
    found = await read(store)
    for rollup in found.rollups:
        width = rollup.name.removesuffix("_by_node").rpartition("_")[2]
        length = relations.ROLLUP_WIDTHS[width]
        assert rollup.rolled_until is not None
        assert rollup.rolled_until == rolling.floor(rollup.rolled_until, length)
        assert rollup.lag_seconds == int((store.clock.now() - rollup.rolled_until).total_seconds())
        assert 0 < rollup.lag_seconds <= 2 * length.total_seconds() + 1800
    start = NOW - timedelta(minutes=30 * 199)
    held = tables(found)
    assert held["node_metrics_5m"].oldest == rolling.floor(start, relations.ROLLUP_WIDTHS["5m"])
    for width in ("5m", "1h"):
        assert held[f"gpu_metrics_{width}_by_node"].oldest == rolling.floor(start, relations.ROLLUP_WIDTHS[width])
    assert held["gpu_metrics_1d"].oldest == rolling.floor(start, DAY)
    await store.put(metrics(node, NOW - DAY - timedelta(seconds=1)))
    assert (await read(store)).touched == (None if store.engine.name == "TimescaleDB" else 1)


async def test_what_is_compressed_is_told_apart(store: Store) -> None:
    """Bytes before and after; the oldest sample is found in columns, and in rows that came later."""
    if store.engine.name != "TimescaleDB":
        return  # has no columnstore
    nodes = [await make_node(store.database) for _ in range(3)]
    midnight = NOW.replace(hour=0, minute=0, second=0) - 5 * DAY
    start = midnight + timedelta(hours=1)
    await store.put(
        *(
            metrics(node, start + timedelta(minutes=tick, seconds=place), gpus=(1, 2))
            for tick in range(700)
            for place, node in enumerate(nodes)
        ),
        metrics(nodes[2], start - timedelta(minutes=1), gpus=(2,)),
        metrics(nodes[0], NOW),
    )
    await store.roll()
    await store.run_jobs("policy_compression")
    found = tables(await read(store))["gpu_metrics"]
    assert found.parts == 2
    assert found.bytes_before_compression is not None
    assert found.bytes_after_compression is not None
    assert found.bytes_before_compression > found.bytes_after_compression > 0
    assert found.bytes >= found.bytes_after_compression
    assert found.row_bytes < found.bytes
    assert found.oldest == start - timedelta(minutes=1)
    await store.put(metrics(nodes[1], midnight, gpus=(1,)))
    assert tables(await read(store))["gpu_metrics"].oldest == midnight


async def test_jobs_are_those_of_the_policies(store: Store) -> None:
    """On TimescaleDB; elsewhere the service's own loop does it."""
    await store.maintain()
    found = await read(store)
    if store.engine.name != "TimescaleDB":
        assert found.jobs == []
        return
    assert {job.what for job in found.jobs} == {"refresh", "compress", "drop"}
    assert {job.table for job in found.jobs} == set(TABLES)
    assert not any(job.is_scheduled for job in found.jobs if job.what == "drop")  # until all was refreshed
    await store.run_jobs("policy_compression")
    assert {job.failures for job in (await read(store)).jobs} == {0}


async def test_retention_is_told_as_it_is_set(store: Store) -> None:
    """In seconds; None is for ever."""
    store.retention = Retention(raw=3 * DAY, five_minutes=None)
    kept = {name: table.kept_for_seconds for name, table in tables(await read(store)).items()}
    assert (kept["gpu_metrics"], kept["heartbeats"]) == (3 * 86_400, 14 * 86_400)
    assert (kept["gpu_metrics_5m"], kept["gpu_metrics_1h_by_node"]) == (None, 730 * 86_400)


async def test_the_command_prints_json(store: Store) -> None:
    """One object: camelCase, bytes as numbers, times with Z, no password."""
    node = await make_node(store.database)
    await store.put(metrics(node, datetime(2020, 1, 1, tzinfo=UTC)), metrics(node, NOW))
    result = await run(store.database, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert found.keys() == {
        *("url", "dataDir", "engine", "edition", "postgresql", "timescaledb", "revision", "head"),
        *("tables", "rollups", "touched", "jobs", "maintenanceEverySeconds"),
    }
    assert found["dataDir"] is None
    by_name = {table["name"]: table for table in found["tables"]}
    assert by_name["node_metrics"]["oldest"] == "2020-01-01T00:00:00.000Z"
    assert by_name["node_metrics"]["keptForSeconds"] == 20 * 86_400
    assert isinstance(by_name["node_metrics"]["rowBytes"], int)
    assert by_name["node_metrics_5m"]["keptForSeconds"] is None


async def test_the_command_prints_aligned_text(store: Store) -> None:
    """A line a table, and columns that stand below each other."""
    node = await make_node(store.database)
    oldest = NOW - 3 * DAY
    await store.put(metrics(node, oldest))
    await store.maintain()
    result = await run(store.database)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    head = next(line for line in lines if line.startswith("TABLE"))
    for name, kept in (("node_metrics ", "20 d"), ("gpu_metrics_5m ", "ever")):
        line = next(line for line in lines if line.startswith(name))
        assert line[head.index("KEPT FOR") :] == kept
    assert timestamp(oldest) in result.stdout
    if store.engine.name == "TimescaleDB":
        assert "held back" in result.stdout
    else:
        assert "every 30 s" in result.stdout


async def test_a_database_that_was_never_migrated_is_told_what_to_do(empty_database: Database) -> None:
    """One without rollups too."""
    with pytest.raises(StartupError, match="never migrated: run `aiwm db upgrade`"):
        await status.revision(empty_database)
    await schema.upgrade(empty_database, "0003")
    with pytest.raises(StartupError, match=r"revision 0003, .* run `aiwm db upgrade`"):
        await status.revision(empty_database)
