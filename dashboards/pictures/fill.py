"""Fill a migrated database with the fleet of the pictures: a week of samples, and what happened in it."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

from sqlalchemy import Table, update

from app.clock import SystemClock
from app.domain.maintenance import Maintenance
from app.retention import Retention
from app.storage import tables
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from dashboards.pictures import jobs, past
from dashboards.pictures.cast import CAST
from dashboards.pictures.machines import SEED, Machine, Measured

DAYS: Final = 8
"""For how long there are samples: somewhat longer than the longest range that a dashboard opens with."""
HEARTBEATS: Final = timedelta(hours=25)
"""For how long there are some; the views of them are asked for shorter ranges."""
INTERVAL: Final = timedelta(seconds=30)
LATE: Final = timedelta(minutes=5)
GATEWAYS: Final = 2


class Arrivals:
    """What gateways counted in each minute."""

    def __init__(self) -> None:
        self.frames: Counter[datetime] = Counter()
        self.rows: Counter[datetime] = Counter()
        self.late: Counter[datetime] = Counter()
        self.delay: Counter[datetime] = Counter()
        self.longest: dict[datetime, int] = {}

    def note(self, measured: datetime, arrived: datetime, rows: int, delay_ms: int) -> None:
        """A frame that came in."""
        minute = arrived.replace(second=0, microsecond=0)
        delay_ms += int((arrived - measured) / timedelta(milliseconds=1))
        self.frames[minute] += 1
        self.rows[minute] += rows
        self.late[minute] += arrived - measured > LATE
        self.delay[minute] += delay_ms
        self.longest[minute] = max(self.longest.get(minute, 0), delay_ms)

    def records(self) -> Iterator[tuple[Any, ...]]:
        """Rows of `ingest_minutes`, as one gateway would have written them."""
        for minute, frames in self.frames.items():
            numbers = (frames, self.rows[minute], self.late[minute], 0, self.delay[minute], self.longest[minute])
            yield minute, 1, *numbers


async def fill(database: Database, engine: StorageEngine, now: datetime) -> None:
    """The whole fleet, rolled up."""
    if engine.name == "TimescaleDB":
        async with database.driver_transaction() as connection:
            await jobs.hold(connection)
    machines = [Machine(part, key) for key, part in enumerate(CAST, 1)]
    await past.write(database, machines, now)
    start = now - timedelta(days=DAYS)
    async with database.transaction() as connection:
        await engine.make_room(connection, [(start + timedelta(days=day)).date() for day in range(DAYS + 2)])
    arrivals = Arrivals()
    for machine in machines:
        if machine.part.status != "installing":
            await _machine(database, machine, start, now, arrivals)
    async with database.driver_transaction() as connection:
        await _copy(connection, tables.ingest_minutes, list(arrivals.records()))
    await _maintain(database, engine)


async def _machine(database: Database, machine: Machine, start: datetime, now: datetime, arrivals: Arrivals) -> None:
    random = Random(SEED + machine.key)
    heard: list[Measured] = []
    for sample in machine.samples(start, now):
        arrived = past.arrival(machine.part, sample.time, now)
        if arrived is None:
            continue
        heard.append(sample)
        if now - sample.time < HEARTBEATS:
            # With the metrics come two heartbeats, which nobody keeps for later.
            for _ in range(3 if arrived == sample.time else 1):
                arrivals.note(sample.time, arrived, 1 + len(sample.gpus), int(random.lognormvariate(4.4, 0.5)))
    async with database.driver_transaction() as connection:
        await _copy(connection, tables.node_metrics, [sample.node for sample in heard])
        await _copy(connection, tables.gpu_metrics, [row for sample in heard for row in sample.gpus])
        recent = [sample for sample in heard if now - sample.time < HEARTBEATS]
        beats = [beat for sample in recent for beat in _beats(sample, now)]
        await _copy(connection, tables.heartbeats, [node for node, _ in beats])
        await _copy(connection, tables.gpu_heartbeats, [row for _, gpus in beats for row in gpus])
    await _present(database, machine, heard[-1])


def _beats(sample: Measured, now: datetime) -> Iterator[tuple[tuple[Any, ...], list[tuple[Any, ...]]]]:
    """Two heartbeats a sample."""
    key, _, cpu, *_ = sample.node
    memory = sample.node[tables.node_metrics.c.keys().index("memory_usage")]
    for time in (sample.time, sample.time + INTERVAL):
        if time < now:
            uptime = int((time - now + past.AGE) / timedelta(seconds=1))
            busy = sum(row[3] > 50 for row in sample.gpus)
            yield (
                (key, time, "online", cpu, memory, busy, uptime),
                [(key, row[1], time, row[3], row[7]) for row in sample.gpus],
            )


async def _present(database: Database, machine: Machine, last: Measured) -> None:
    """What is true of it now."""
    node = dict(zip(tables.node_metrics.c.keys(), last.node, strict=True))
    gpus = [dict(zip(tables.gpu_metrics.c.keys(), row, strict=True)) for row in last.gpus]
    state, part = tables.node_state, machine.part
    times = ("last_heartbeat", "last_seen_at", "last_metrics_at", "alive_at", "updated_at")
    skewed = last.time - timedelta(milliseconds=part.skew_ms)
    values = {
        **dict.fromkeys(times, last.time),
        "heartbeat_time": skewed,
        **dict.fromkeys(("metrics_time", "gpu_time"), skewed - timedelta(minutes=part.behind)),
        "gateway_id": machine.key % GATEWAYS + 1 if part.status == "online" else None,
        "cpu_usage": node["cpu_usage"],
        "ram_usage": node["memory_usage"],
        "ram_free": node["memory_free"],
        "uptime_seconds": int(past.AGE / timedelta(seconds=1)) - machine.key * 18_000,
        "clock_skew_ms": part.skew_ms or Random(machine.key).randint(-40, 40),
        "gpu_utilization": [gpu["utilization"] for gpu in gpus],
        "gpu_temperature": [gpu["temperature"] for gpu in gpus],
        "gpu_memory_free": [gpu["memory_free"] for gpu in gpus],
        "gpu_power_usage": [gpu["power_usage"] for gpu in gpus],
    }
    async with database.transaction() as connection:
        await connection.execute(update(state).where(state.c.node_key == machine.key).values(values))


async def _copy(connection: Any, table: Table, records: list[tuple[Any, ...]]) -> None:
    await connection.copy_records_to_table(table.name, records=records, columns=table.c.keys(), timeout=300)


async def _maintain(database: Database, engine: StorageEngine) -> None:
    """What the service and the database would have done by now."""
    maintenance = Maintenance(database, engine, Retention(), SystemClock())
    while await maintenance.once():
        pass
    if engine.name == "TimescaleDB":
        # Nothing is dropped before everything was refreshed: the jobs that drop come with the second pass.
        await _run_jobs(database)
        await maintenance.once()
        await _run_jobs(database)
    async with database.alone("pictures") as connection:
        if connection is not None:
            await connection.execute("VACUUM ANALYZE", timeout=600)


async def _run_jobs(database: Database) -> None:
    async with database.alone("pictures") as connection:
        if connection is not None:
            await jobs.run(connection)
