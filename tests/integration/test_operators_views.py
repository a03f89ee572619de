"""What operators see in SQL beside history: the present of nodes and GPUs, and the platform itself."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.domain.maintenance import Maintenance
from app.model import SampleKind
from app.retention import Retention
from app.storage import intake, status
from app.storage.arrivals import Arrival
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from tests.fakes import START, FakeClock
from tests.integration import test_rollups
from tests.integration.test_ingest import heartbeat, make_node, metrics
from tests.integration.test_rollups import NOW, Store

HOUR = timedelta(hours=1)


async def rows(database: Database, query: str) -> list[dict[str, Any]]:
    async with database.transaction() as connection:
        return [dict(row) for row in (await connection.execute(text(query))).mappings()]


async def test_minutes_tell_what_came_in_and_how_late(database: Database, engine: StorageEngine) -> None:
    """Frames, rows of nodes and GPUs, the late ones, those stored before, and the delay; signs of life are no samples."""
    key = await make_node(database)
    beat = heartbeat(key)
    received = beat.received_at
    late = metrics(key, seconds=-600)
    store = Store(database, engine, FakeClock())
    await store.put(beat, metrics(key, seconds=-1), late)
    await store.put(beat, Arrival(key, 1, received, SampleKind.HEARTBEAT, None, ()))
    (minute,) = await rows(database, "SELECT * FROM history.platform_ingest")
    assert minute["time"] == received.replace(second=0, microsecond=0)
    assert (minute["frames"], minute["rows"], minute["late_frames"], minute["duplicates"]) == (4, 12, 1, 1)
    assert minute["delay_max"] == 600
    assert minute["delay_avg"] == pytest.approx(601 / 4)


async def test_minutes_are_forgotten_after_a_month(database: Database, engine: StorageEngine, clock: FakeClock) -> None:
    """By the maintenance, which keeps the younger ones."""
    key = await make_node(database)
    await Store(database, engine, clock).put(heartbeat(key))
    maintenance = Maintenance(database, engine, Retention(), clock)
    clock.advance(intake.KEPT.total_seconds())
    await maintenance.once()
    assert len(await rows(database, "SELECT * FROM history.platform_ingest")) == 1
    clock.advance(60)
    await maintenance.once()
    assert await rows(database, "SELECT * FROM history.platform_ingest") == []


async def test_views_of_the_platform_tell_what_db_status_tells(database: Database, engine: StorageEngine) -> None:
    """The same tables, parts, bytes and rollups, on each engine."""
    store = Store(database, engine, FakeClock(NOW))
    key = await make_node(database)
    await store.put(*(test_rollups.metrics(key, NOW - HOUR * hours) for hours in (2, 3)))
    await store.roll()
    found = await status.read(database, engine, await status.revision(database), store.retention, NOW)
    tables = {row["name"]: row for row in await rows(database, "SELECT * FROM history.platform_tables")}
    assert {name: row["parts"] for name, row in tables.items()} == {
        table.name: table.parts for table in found.tables if table.parts or table.name in tables
    }
    assert tables["gpu_metrics"]["bytes"] > 0
    rollups = {
        row["name"]: row["rolled_until"] for row in await rows(database, "SELECT * FROM history.platform_rollups")
    }
    assert rollups == {rollup.name: rollup.rolled_until for rollup in found.rollups if rollup.rolled_until}
    jobs = await rows(database, "SELECT * FROM history.platform_jobs")
    assert {(job["what"], job["table_name"]) for job in jobs} == {(job.what, job.table) for job in found.jobs}


async def test_nodes_and_gpus_show_what_was_last_heard(database: Database, engine: StorageEngine) -> None:
    """In units; and a card without a sensor shows nothing."""
    key = await make_node(database)
    await Store(database, engine, FakeClock()).put(metrics(key), heartbeat(key, seconds=1))
    (node,) = await rows(database, "SELECT * FROM history.nodes")
    assert (node["cpu_usage"], node["ram_usage"], node["ram_free"], node["uptime_seconds"]) == (45.2, 62.8, 96.0, 3630)
    assert node["last_sample_at"] == START
    cards = await rows(database, "SELECT * FROM history.gpus ORDER BY device_id")
    assert [(c["utilization"], c["temperature"], c["memory_free"], c["power_usage"]) for c in cards] == [
        (85.0, 72.0, 60.0, 250.0),
        (None, 65.0, 60.0, 250.0),
    ]


async def test_an_hour_of_a_node_adds_up_its_gpus(database: Database, engine: StorageEngine) -> None:
    """Watts of the node are those of its GPUs together; its utilisation is their mean."""
    store = Store(database, engine, FakeClock(NOW))
    key = await make_node(database)
    await store.put(test_rollups.metrics(key, NOW - 2 * HOUR))
    await store.roll()
    (hour,) = await rows(database, "SELECT * FROM history.gpu_metrics_1h_by_node")
    assert (hour["samples"], hour["utilization_avg"], hour["power_usage_sum"]) == (2, 50.0, 100.0)
