"""Fill a migrated database with the benchmark fleet: a day of samples, a month of rollups."""

from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from app.clock import Clock
from app.domain.maintenance import Maintenance
from app.retention import Retention
from app.storage import tables
from app.storage.database import Database
from app.storage.engines.base import Connection, StorageEngine
from app.storage.engines.timescale import COMPRESSED_AFTER
from bench.fleet import INTERVAL, Machine

ORG: Final = "bench"
DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
DAYS: Final = {"5m": 7, "1h": 30}
"""For how many days each rollup is filled; a month of five minutes would take longer than all the rest."""

SOURCES: Final = ("node_metrics", "gpu_metrics")

_NODES: Final = """
    INSERT INTO nodes (id, name, role, is_local, org_id, created_by, created_at, updated_at, registered_at)
    SELECT lpad(to_hex($1::integer + n), 24, '0'), 'node-' || n, '{worker}', false, $3, 'bench', $4, $4, $4
    FROM generate_series(1, $2::integer) n ON CONFLICT DO NOTHING RETURNING node_key
"""
_STATES: Final = """
    INSERT INTO node_state (node_key, status, status_changed_at, last_heartbeat, last_seen_at, alive_at, updated_at,
        gateway_id, heartbeat_time, metrics_time, gpu_time, cpu_usage, ram_usage, uptime_seconds, ram_free,
        gpu_utilization, gpu_temperature, gpu_memory_free, gpu_power_usage)
    SELECT node_key, 'online', $2, $2, $2, $2, $2, 1, $2, $2, $2, 450, 620, 3600, 96000,
        array_fill(500::smallint, ARRAY[$3::integer]), array_fill(600::smallint, ARRAY[$3::integer]),
        array_fill(20000, ARRAY[$3::integer]), array_fill(2500, ARRAY[$3::integer])
    FROM unnest($1::integer[]) node_key
"""
_GPUS: Final = """
    INSERT INTO gpus (node_key, gpu, device_id, model, memory_total, first_seen, last_seen)
    SELECT node_key, gpu, 'GPU-' || node_key || '-' || gpu, CASE node_key % 3 WHEN 0 THEN 'H100' ELSE 'A100' END,
        80000, $3, $3
    FROM unnest($1::integer[]) node_key, generate_series(1, $2::smallint) gpu
"""
# As `wire.register` tells it, so that these machines come back rather than register for the first time.
_FACTS: Final = """
    UPDATE nodes SET hostname = 'gpu-' || n, os = 'Ubuntu 24.04 LTS', cpu_cores = 128, cpu_model = 'AMD EPYC 9654',
        ram_total = 1024, disk_total = 7680, ip_address = '10.0.0.1', daemon_version = '1.0.0',
        container_runtime = 'docker'
    FROM generate_series(1, $1::integer) n WHERE id = lpad(to_hex(n), 24, '0')
"""
_CARDS: Final = """
    INSERT INTO gpus (node_key, gpu, device_id, model, memory_total, first_seen, last_seen)
    SELECT node_key, gpu + 1, format('GPU-%s-%s-4c1d-9b7f-0123456789ab', lpad(n::text, 6, '0'), gpu),
        'NVIDIA H100 80GB HBM3', 80000, $2, $2
    FROM generate_series(1, $1::integer) n JOIN nodes ON id = lpad(to_hex(n), 24, '0'), generate_series(0, 7) gpu
"""
_REFRESH: Final = "CALL refresh_continuous_aggregate($1::text::regclass, $2::timestamptz, $3::timestamptz)"
_MATERIALIZED: Final = """
    SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
    FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'aiwm' AND view_name = $1
"""


async def make_nodes(
    database: Database, nodes: int, gpus: int, now: datetime, *, first: int = 0, org: str = ORG
) -> list[int]:
    """Nodes that are online, with their GPUs; returns their keys."""
    async with database.driver_transaction() as connection:
        keys = [row[0] for row in await connection.fetch(_NODES, first, nodes, org, now)]
        await connection.execute(_STATES, keys, now, gpus, timeout=300)
        if gpus:
            await connection.execute(_GPUS, keys, gpus, now)
    return keys


async def make_fleet(database: Database, nodes: int, now: datetime) -> None:
    """Nodes 1 to `nodes` that registered before, offline, with the machines of `wire.register`."""
    await make_nodes(database, nodes, 0, now - timedelta(days=1), first=0)
    async with database.driver_transaction() as connection:
        await connection.execute(_FACTS, nodes, timeout=300)
        await connection.execute(_CARDS, nodes, now, timeout=300)
        await connection.execute("UPDATE node_state SET status = 'offline', gateway_id = NULL", timeout=300)
    async with database.alone("bench") as alone:
        if alone is not None:
            await alone.execute("VACUUM ANALYZE nodes, node_state, gpus", timeout=300)


async def fill_day(database: Database, engine: StorageEngine, keys: list[int], gpus: int, end: datetime) -> int:
    """A day of samples that ends then; returns how many rows of GPUs there are."""
    start = end - DAY
    async with database.transaction() as connection:
        await engine.make_room(connection, [(start - timedelta(days=day)).date() for day in range(-1, 31)])
    # An hour of all nodes after the other, since that is how samples come: on disk they lie in the order of time.
    machines = [Machine(key, gpus).samples(start, end) for key in keys]
    rows = 0
    for _ in range(DAY // HOUR):
        samples = [sample for machine in machines for sample in islice(machine, HOUR // INTERVAL)]
        samples.sort(key=lambda sample: sample[0][1])
        async with database.driver_transaction() as connection:
            for table, records in (
                (tables.node_metrics, [node for node, _ in samples]),
                (tables.gpu_metrics, [row for _, cards in samples for row in cards]),
            ):
                await connection.copy_records_to_table(
                    table.name, records=records, columns=[column.name for column in table.c]
                )
        rows += sum(len(cards) for _, cards in samples)
    return rows


async def roll_up(database: Database, engine: StorageEngine, clock: Clock) -> None:
    """Everything that maintenance would do by now; then the same day again and again, a month into the past."""
    if engine.name == "TimescaleDB":
        await _refresh_by_hours(database, clock.now())
    maintenance = Maintenance(database, engine, Retention(), clock)
    while await maintenance.once():
        pass
    for width, days in DAYS.items():
        for source in SOURCES:
            await _repeat(database, engine, f"{source}_{width}", days)
        if engine.name != "TimescaleDB":
            await _repeat(database, engine, f"gpu_metrics_{width}_by_node", days)
    await _made_of_others(database, engine, clock.now())
    async with database.alone("bench") as connection:
        if connection is not None:
            await connection.execute("VACUUM ANALYZE", timeout=600)


async def _refresh_by_hours(database: Database, now: datetime) -> None:
    """As jobs do it, and as rows lie on disk: maintenance, which finds a day and no jobs yet, would refresh all at once."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    async with database.alone("bench") as connection:
        if connection is None:
            return
        for start in (hour - hours * HOUR for hours in range(DAY // HOUR, 0, -1)):
            for name in (f"{source}_{width}" for width in DAYS for source in SOURCES):
                await connection.execute(_REFRESH, name, start, start + HOUR, timeout=600)


async def _made_of_others(database: Database, engine: StorageEngine, now: datetime) -> None:
    """The days of the month before, from its hours; and where jobs may do so at any moment, rollups of nodes from GPUs'."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    month = today - timedelta(days=DAYS["1h"])
    async with database.alone("bench") as connection:
        if connection is None:
            return
        if engine.name == "TimescaleDB":
            until = now - timedelta(hours=2)
            widths = {f"gpu_metrics_{width}_by_node": HOUR for width in DAYS} | {
                f"{source}_1d": DAY for source in SOURCES
            }
            for day in range(DAYS["1h"] + 1):  # one after the other, as on disk they lie
                start = month + day * DAY
                end = min(start + DAY, until)
                for name in (name for name, width in widths.items() if end - start >= width):
                    await connection.execute(_REFRESH, name, start, end, timeout=600)
        else:
            for source in SOURCES:
                roll = f"SELECT roll_{source}_1d(array_agg(node_key), array_agg($1::timestamptz), array_agg($2::timestamptz)) FROM nodes"
                for day in range(DAYS["1h"]):  # one after the other, as on disk they lie
                    await connection.execute(roll, month + day * DAY, month + (day + 1) * DAY, timeout=600)


async def _repeat(database: Database, engine: StorageEngine, rollup: str, days: int) -> None:
    async with database.driver_transaction() as connection:
        table, names = await _rows_of(connection, engine, rollup)
        shifted = ", ".join("time - make_interval(days => n)" if name == "time" else name for name in names)
        await connection.execute(
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {shifted} FROM {table}, generate_series(1, {days - 1}) n "
            f"ORDER BY {table}.time - make_interval(days => n) ON CONFLICT DO NOTHING",
            timeout=900,
        )


async def multiply(database: Database, engine: StorageEngine, nodes: int, times: int, gpus: int, now: datetime) -> None:
    """More nodes, which have measured what the first ones have: as much of it as hours of the fleet are read from."""
    await make_nodes(database, nodes * (times - 1), gpus, now, first=nodes)
    for name, since in {
        "gpu_metrics": now - timedelta(hours=2),
        "gpu_metrics_5m": now - timedelta(hours=2),
        "gpu_metrics_5m_by_node": now - timedelta(hours=2),
        "gpu_metrics_1h_by_node": now - timedelta(days=8),
    }.items():
        async with database.driver_transaction() as connection:
            table, names = await _rows_of(connection, engine, name)
            moved = ", ".join(f"node_key + {nodes} * n" if column == "node_key" else column for column in names)
            await connection.execute(
                f"INSERT INTO {table} ({', '.join(names)}) SELECT {moved} FROM {table}, generate_series(1, {times - 1}) n "
                f"WHERE time >= $1 AND node_key <= {nodes} ORDER BY time",
                since,
                timeout=900,
            )
    async with database.alone("bench") as alone:
        if alone is not None:
            await alone.execute("VACUUM ANALYZE", timeout=600)


async def _rows_of(connection: Connection, engine: StorageEngine, name: str) -> tuple[str, list[str]]:
    """The table in which the rows of samples or of a rollup are, and its columns."""
    table = name
    if name not in SOURCES:
        is_aggregate = engine.name == "TimescaleDB"
        table = await connection.fetchval(_MATERIALIZED, name) if is_aggregate else f"{name}_rolled"
    columns = "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped"
    return table, [row[0] for row in await connection.fetch(columns, table)]


async def compress(database: Database) -> dict[str, Any]:
    """On TimescaleDB: bytes of samples in rows and in columns; then put into columns what policies would, which is older."""
    async with database.alone("bench") as connection:
        if connection is None:
            return {}
        trial = connection.transaction()
        await trial.start()
        await _convert(connection, "hypertable_schema = 'aiwm'")
        sizes = await connection.fetchrow(
            "SELECT before_compression_total_bytes AS raw, after_compression_total_bytes AS compressed "
            "FROM hypertable_columnstore_stats('aiwm.gpu_metrics')"
        )
        await trial.rollback()
        await _convert(connection, f"range_end < now() - interval '{COMPRESSED_AFTER}'")
        return dict(sizes) if sizes else {}


async def _convert(connection: Connection, which: str) -> None:
    chunks = await connection.fetch(
        "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks "
        f"WHERE NOT is_compressed AND {which}"
    )
    for (chunk,) in chunks:
        await connection.execute("CALL convert_to_columnstore($1::text::regclass)", chunk, timeout=600)
