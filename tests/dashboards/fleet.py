"""A small simulated fleet in which everything happens that a dashboard shows; it ends now.

Two organisations. A node that is offline and flaps, one whose clock is off and whose frames come late, one in
maintenance, one that never registered, one that was deleted; GPUs that are hot, idle with their memory taken, free,
without a sensor, unlike others of their model, or gone. Names and metadata hold quotes, as names do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, insert, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import SystemClock
from app.domain.maintenance import Maintenance
from app.retention import Retention
from app.storage import tables
from app.storage.database import Database
from app.storage.engines.base import StorageEngine

DAYS: Final = 5
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Card:
    """A GPU: percent, GB, degrees, watts, each constant but for some minutes up and down."""

    model: str
    utilization: float | None
    used: float
    temperature: float
    power: float
    gone_since: timedelta | None = None
    total: float = 80


@dataclass(frozen=True)
class Machine:
    """A node; `statuses` are those that it came to have, how long ago each. The last is the present one."""

    name: str
    org: str
    cards: tuple[Card, ...] = ()
    metadata: dict[str, str] | None = None
    statuses: tuple[tuple[timedelta, str], ...] = ((DAYS * 24 * HOUR, "pending"), (DAYS * 24 * HOUR - HOUR, "online"))
    silent_since: timedelta = timedelta(seconds=20)
    disk: float = 40
    skew_ms: int = 40
    delay: timedelta = timedelta(seconds=1)
    deleted_since: timedelta | None = None
    beats_missing: tuple[timedelta, timedelta] | None = None

    @property
    def status(self) -> str:
        return self.statuses[-1][1]


WORKING: Final = Card("H100", 82, 61, 66, 540)
FREE: Final = Card("A100", 0, 0.5, 34, 58)
FLAPPING: Final = tuple(
    (minutes * MINUTE, status)
    for minutes, status in zip(range(170, 20, -10), ("offline", "online") * 7 + ("offline",), strict=True)
)
MACHINES: Final = (
    Machine("gpu-a1", "acme", (WORKING, WORKING, FREE), {"rack": "r1", "team": "vision"}),
    Machine("gpu-a2", "acme", (Card("A100", 0.4, 76, 41, 70), FREE), {"rack": "r1", "team": "d'Arc"}),
    Machine("o'hare", "acme", (Card("H100", 85, 70, 92, 560), WORKING, WORKING), {"rack": "r2"}, disk=97),
    Machine("gpu-u1", "umbrella", (WORKING, Card("H100", 84, 70, 71, 180), Card("H100", 50, 40, 60, 400, 5 * HOUR))),
    Machine(
        *("gpu-u2", "umbrella", (Card("A100", 55, 30, 58, 260),), {"rack": "r9"}),
        statuses=((DAYS * 24 * HOUR, "pending"), (DAYS * 24 * HOUR - HOUR, "online"), *FLAPPING),
        silent_since=30 * MINUTE,
    ),
    Machine(
        *("gpu-u3", "umbrella", (Card("A100", None, 20, 50, 200), WORKING), {"rack": "r9", "--": "/* no */ $1"}),
        skew_ms=-95_000,
        delay=11 * MINUTE,
        beats_missing=(50 * MINUTE, 40 * MINUTE),
    ),
    Machine("gpu-u4", "umbrella", statuses=((4 * HOUR, "pending"),), silent_since=4 * HOUR),
    Machine(
        *("gpu-a3", "acme", (FREE,)),
        statuses=((DAYS * 24 * HOUR, "pending"), (4 * 24 * HOUR, "online"), (2 * HOUR, "maintenance")),
    ),
    Machine("gpu-old", "acme", (WORKING,), silent_since=30 * HOUR, deleted_since=30 * HOUR),
    Machine("stale", "acme", (WORKING,), silent_since=3 * MINUTE),
)
NODE: Final = f"{1:024x}"
"""The id of the first of them."""


async def seed(database: Database, engine: StorageEngine, now: datetime) -> None:
    """Put the fleet into a migrated database, rolled up as far as maintenance would be."""
    async with database.transaction() as connection:
        await engine.make_room(connection, [(now - timedelta(days=day)).date() for day in range(-1, DAYS + 1)])
    machines = [await _machine(database, number, machine, now) for number, machine in enumerate(MACHINES, 1)]
    rows: dict[Table, list[tuple[Any, ...]]] = {
        tables.node_metrics: [row for key, machine in machines for row in _node_metrics(key, machine, now)],
        tables.gpu_metrics: [row for key, machine in machines for row in _gpu_metrics(key, machine, now)],
        tables.heartbeats: [row for key, machine in machines for row in _heartbeats(key, machine, now)],
        tables.gpu_heartbeats: [row for key, machine in machines for row in _gpu_heartbeats(key, machine, now)],
        tables.ingest_minutes: list(_ingest(now)),
    }
    async with database.driver_transaction() as driver:
        for table, records in rows.items():
            await driver.copy_records_to_table(table.name, records=records, columns=[one.name for one in table.c])
    maintenance = Maintenance(database, engine, Retention(), SystemClock())
    while await maintenance.once():
        pass
    async with database.transaction() as connection:
        await connection.execute(text("ANALYZE"))


async def _machine(database: Database, number: int, machine: Machine, now: datetime) -> tuple[int, Machine]:
    start, heard = now - machine.statuses[0][0], now - machine.silent_since
    async with database.transaction() as connection:
        key = await _node(connection, number, machine, start)
        for ago, status in machine.statuses[1:]:
            moved = {"status": status, "status_changed_at": now - ago, "status_reason": f"It is {status}"}
            await _update(connection, tables.node_state, key, moved)
        for index, card in enumerate(machine.cards, 1):
            gone = None if card.gone_since is None else now - card.gone_since
            device: dict[str, Any] = {"node_key": key, "gpu": index, "device_id": f"GPU-{number}-{index}"}
            device |= {"model": card.model, "memory_total": round(card.total * 1000)}
            device |= {"first_seen": start, "last_seen": gone or heard, "removed_at": gone}
            await connection.execute(insert(tables.gpus).values(device))
        if machine.status != "pending":
            await _update(connection, tables.node_state, key, _present(machine, heard))
        if machine.deleted_since is not None:
            gone = now - machine.deleted_since
            await _update(connection, tables.nodes, key, {"deleted_at": gone})
            await _update(
                connection, tables.status_periods, key, {"ended_at": gone}, tables.status_periods.c.ended_at.is_(None)
            )
    return key, machine


async def _node(connection: AsyncConnection, number: int, machine: Machine, start: datetime) -> int:
    """As it was when it was created."""
    about: dict[str, Any] = {"id": f"{number:024x}", "name": machine.name, "org_id": machine.org, "role": ["worker"]}
    about |= {"is_local": False, "created_by": "ada", "created_at": start, "updated_at": start}
    about |= {"metadata": machine.metadata, "ram_total": 512.0, "disk_total": 2048.0, "cpu_cores": 64}
    if machine.status != "pending":
        about |= {"registered_at": start, "hostname": machine.name, "os": "Ubuntu 24.04 LTS", "daemon_version": "1.0.0"}
    made = await connection.execute(insert(tables.nodes).values(about).returning(tables.nodes.c.node_key))
    key: int = made.scalar_one()
    state: dict[str, Any] = {"node_key": key, "status": machine.statuses[0][1], "status_changed_at": start}
    state |= {"last_heartbeat": start, "updated_at": start, "clock_skew_ms": machine.skew_ms}
    await connection.execute(insert(tables.node_state).values(state))
    event: dict[str, Any] = {"node_key": key, "time": start, "kind": "created", "actor": "ada"}
    await connection.execute(insert(tables.node_events).values(event))
    return key


async def _update(
    connection: AsyncConnection, table: Table, key: int, values: dict[str, Any], *more: ColumnElement[bool]
) -> None:
    await connection.execute(update(table).where(table.c.node_key == key, *more).values(values))


def _present(machine: Machine, heard: datetime) -> dict[str, Any]:
    """What `node_state` knows: steps of tenths, and of thousandths of a GB."""
    sampled = heard - machine.delay
    return {
        **dict.fromkeys(("last_heartbeat", "last_seen_at", "last_metrics_at", "alive_at"), heard),
        **dict.fromkeys(("heartbeat_time", "metrics_time", "gpu_time"), sampled),
        "cpu_usage": 412,
        "ram_usage": 300,
        "ram_free": 358_000,
        "uptime_seconds": 86_400,
        "gpu_utilization": [
            None if card.utilization is None else round(card.utilization * 10) for card in machine.cards
        ],
        "gpu_temperature": [round(card.temperature * 10) for card in machine.cards],
        "gpu_memory_free": [round((card.total - card.used) * 1000) for card in machine.cards],
        "gpu_power_usage": [round(card.power * 10) for card in machine.cards],
    }


def _times(machine: Machine, now: datetime) -> Iterator[tuple[int, datetime]]:
    """A sample a minute of the last hours, one of ten of the last day, before that one an hour; none while away."""
    if machine.status == "pending":
        return
    last = now - machine.silent_since - machine.delay
    hour = 60
    steps = [*range(4 * hour), *range(4 * hour, 24 * hour, 10), *range(24 * hour, DAYS * 24 * hour, hour)]
    for minutes in reversed(steps):
        if (time := last - minutes * MINUTE) > now - machine.statuses[0][0]:
            yield minutes, time


def _node_metrics(key: int, machine: Machine, now: datetime) -> Iterator[tuple[Any, ...]]:
    for minutes, time in _times(machine, now):
        disk = round(machine.disk * 10)
        sent = (DAYS * 24 * 60 - minutes) * 6_000_000
        yield (
            *(key, time, 412 + minutes % 50, 64, 550),
            *(512_000, 153_600, 358_400, 300),
            *(2_048_000, disk * 2_048, 2_048_000 - disk * 2_048, disk, sent, sent // 3),
        )


def _gpu_metrics(key: int, machine: Machine, now: datetime) -> Iterator[tuple[Any, ...]]:
    for minutes, time in _times(machine, now):
        for index, card in enumerate(machine.cards, 1):
            if card.gone_since is not None and time > now - card.gone_since:
                continue
            busy = (
                None
                if card.utilization is None
                else round(card.utilization * 10) + (minutes % 7 if card.utilization > 5 else 0)
            )
            yield (
                *(key, index, time, busy, round(card.total * 1000)),
                *(round(card.used * 1000), round((card.total - card.used) * 1000)),
                *(round(card.temperature * 10) + minutes % 5, round(card.power * 10) + minutes % 9),
            )


def _beats(machine: Machine, now: datetime) -> Iterator[datetime]:
    """Every half minute of the last hours, but for a gap."""
    if machine.status == "pending":
        return
    for half_minutes in range(2 * 60 * 5, 0, -1):
        time = now - machine.silent_since - half_minutes * MINUTE / 2
        missing = machine.beats_missing
        if missing is None or not now - missing[0] < time < now - missing[1]:
            yield time


def _heartbeats(key: int, machine: Machine, now: datetime) -> Iterator[tuple[Any, ...]]:
    for time in _beats(machine, now):
        yield key, time, "online", 412, 300, 2, 86_400


def _gpu_heartbeats(key: int, machine: Machine, now: datetime) -> Iterator[tuple[Any, ...]]:
    for time in _beats(machine, now):
        for index, card in enumerate(machine.cards, 1):
            busy = None if card.utilization is None else round(card.utilization * 10)
            yield key, index, time, busy, round(card.temperature * 10)


def _ingest(now: datetime) -> Iterator[tuple[Any, ...]]:
    """What two writers stored: some frames late, some twice."""
    minute = now.replace(second=0, microsecond=0)
    for minutes in range(26 * 60):
        for writer in (1, 2):
            late = minutes % 11 == 0
            yield (
                minute - minutes * MINUTE,
                writer,
                30,
                110,
                int(late),
                int(minutes % 17 == 0),
                31_000,
                660_000 if late else 1_900,
            )
