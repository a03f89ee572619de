"""What has happened to the fleet: its nodes with their GPUs, their statuses one after the other, and events.

Statuses are moved as the service moves them, so that the database itself writes periods and events.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import insert, update

from app.model import EventKind
from app.storage import tables
from app.storage.database import Database
from app.storage.events import Happening, record
from dashboards.pictures.cast import GPUS, Part
from dashboards.pictures.machines import CORES, DISK_GB, MEMORY_GB, Machine

AGE: Final = timedelta(days=40)
"""How long ago the first node was made."""
SILENT: Final = "no heartbeat for 90 seconds"
BROKEN: Final = "closed by the worker"


class Move(msgspec.Struct, frozen=True):
    """A node's status from then on."""

    time: datetime
    key: int
    status: str
    reason: str | None = None
    actor: str | None = None


async def write(database: Database, machines: Sequence[Machine], now: datetime) -> None:
    """All of it; samples come after."""
    made = {machine.key: now - AGE + timedelta(hours=machine.key * 5) for machine in machines}
    async with database.transaction() as connection:
        for machine in machines:
            await connection.execute(insert(tables.nodes).values(_node(machine, made[machine.key])))
            await connection.execute(insert(tables.node_state).values(_beginning(machine.key, made[machine.key])))
            await connection.execute(insert(tables.gpus), list(_gpus(machine, made[machine.key], now)))
        moves = [move for machine in machines for move in _moves(machine, made[machine.key], now)]
        for move in sorted(moves, key=lambda move: move.time):
            await connection.execute(_moved(move))
        for machine in machines:
            for time, happening in _happenings(machine, made[machine.key], now):
                await record(connection, machine.key, time, happening)


def arrival(part: Part, time: datetime, now: datetime) -> datetime | None:
    """When what was measured then was heard; None where it never was.

    A worker that comes back sends what it has kept meanwhile, a minute of it in 2 s.
    """
    hours = (now - time) / timedelta(hours=1)
    outage = next((it for it in part.outages if it.end <= hours < it.start), None)
    if outage is None:
        return time
    if not outage.late:
        return None
    kept = timedelta(hours=outage.start - hours)
    return now - timedelta(hours=outage.end) + kept / 30


def _node(machine: Machine, made: datetime) -> dict[str, Any]:
    part = machine.part
    registered = {} if part.status == "installing" else {"registered_at": made + timedelta(minutes=9)}
    return registered | {
        "id": f"{0x6566 << 80 | machine.key:024x}",
        "name": part.name,
        "role": ["worker"],
        "is_local": False,
        "metadata": {"zone": part.zone, "rack": f"r{machine.key % 4 + 1}"},
        "hostname": part.name,
        "os": "Ubuntu 24.04 LTS",
        "cpu_cores": CORES,
        "cpu_model": "AMD EPYC 9554",
        "ram_total": MEMORY_GB,
        "disk_total": DISK_GB,
        "ip_address": f"10.20.{machine.key // 8}.{machine.key + 10}",
        "daemon_version": "1.0.0",
        "container_runtime": "containerd",
        "org_id": part.org,
        "created_by": "lan",
        "created_at": made,
        "updated_at": made,
    }


def _beginning(key: int, made: datetime) -> dict[str, Any]:
    return {
        "node_key": key,
        "status": "pending",
        "status_changed_at": made,
        "last_heartbeat": made,
        "updated_at": made,
    }


def _gpus(machine: Machine, made: datetime, now: datetime) -> Iterator[dict[str, Any]]:
    lost = machine.part.lost_gpu
    for number, gpu in enumerate(machine.cards, 1):
        is_lost = number == GPUS and lost is not None
        gone = now - timedelta(hours=lost) if is_lost and lost is not None else None
        yield {
            "node_key": machine.key,
            "gpu": number,
            "device_id": gpu.device_id,
            "model": gpu.card.model,
            "memory_total": int(gpu.card.memory * 1000),
            "first_seen": made,
            "last_seen": gone or now,
            "removed_at": gone,
        }


def _moves(machine: Machine, made: datetime, now: datetime) -> Iterator[Move]:
    part, key = machine.part, machine.key
    yield Move(made + timedelta(minutes=4), key, "installing")
    if part.status == "installing":
        return
    yield Move(made + timedelta(minutes=9), key, "online")
    for outage in part.outages:
        if part.status == "maintenance" and outage.end == 0:
            yield Move(now - timedelta(hours=outage.start), key, "maintenance", "PSU replacement", "minh")
            continue
        reason = BROKEN if outage.start - outage.end < 0.1 else SILENT
        yield Move(now - timedelta(hours=outage.start), key, "offline", reason)
        if outage.end:
            yield Move(now - timedelta(hours=outage.end), key, "online")


def _moved(move: Move) -> Any:
    state = tables.node_state
    values = {"status": move.status, "status_reason": move.reason, "status_changed_by": move.actor}
    times = {"status_changed_at": move.time, "updated_at": move.time}
    return update(state).where(state.c.node_key == move.key).values(values | times)


def _happenings(machine: Machine, made: datetime, now: datetime) -> Iterator[tuple[datetime, Happening]]:
    part = machine.part
    yield made, Happening(EventKind.CREATED, "lan", {"name": part.name, "role": ["worker"]})
    yield made + timedelta(minutes=1), Happening(EventKind.TOKEN_MADE, "lan", {})
    if part.status != "installing":
        yield made + timedelta(minutes=9), Happening(EventKind.REGISTERED, None, {"hostname": part.name})
    if part.lost_gpu is not None:
        card = machine.cards[-1]
        detail = {"deviceId": card.device_id, "model": card.card.model}
        yield now - timedelta(hours=part.lost_gpu), Happening(EventKind.GPU_VANISHED, None, detail)
