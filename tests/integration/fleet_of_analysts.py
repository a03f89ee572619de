"""A small fleet of two organisations and two days, the same whenever it is made."""

from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import insert

from app.storage import tables
from app.storage.database import Database
from app.storage.engines.base import StorageEngine

START: Final = datetime(2026, 11, 22, tzinfo=UTC)
DAYS: Final = [date(2026, 11, 22), date(2026, 11, 23)]
EVERY: Final = timedelta(minutes=15)
SAMPLES: Final = 180  # 45 hours
NODES: Final = (("gpu-01", "acme", "A100"), ("gpu-02", "acme", "H100"), ("gpu-03", "umbrella", "A100"))


class GpuSample(NamedTuple):
    """What one GPU measured, in units: %, GB, °C, W; None where it has no sensor."""

    node: int
    gpu: int
    time: datetime
    utilization: float | None
    memory_total: float
    memory_used: float
    memory_free: float
    temperature: float
    power_usage: float


def gpu_samples() -> Iterator[GpuSample]:
    """Two GPUs a node. The second node is silent for three hours; the third's second GPU has no utilization;
    the first one is too hot for an hour.
    """
    for node, gpu, number in ((n, g, i) for n in (1, 2, 3) for g in (1, 2) for i in range(SAMPLES)):
        if node == 2 and 40 <= number < 52:
            continue
        busy = None if (node, gpu) == (3, 2) else (number * 37 + node * 11 + gpu * 29) % 1011 / 10 % 100.1
        used = round(2 + (number * 13 + node) % 700 / 10, 3)
        temperature = round(30 + (number * 7 + node * 5 + gpu) % 750 / 10, 1)
        power = round(60 + (number * 17 + gpu) % 3400 / 10, 1)
        busy = busy if busy is None else round(busy, 1)
        if (node, gpu) == (1, 1) and 100 <= number < 104:  # too hot to work as it should
            busy, temperature, power = 99.0, 92.0, 110.0
        yield GpuSample(node, gpu, START + number * EVERY, busy, 80.0, used, round(80 - used, 3), temperature, power)


async def seed(database: Database, engine: StorageEngine, org_ids: Collection[str] = ("acme", "umbrella")) -> None:
    """Put the fleet, or these organisations' part of it, into a migrated database."""
    async with database.transaction() as connection:
        await engine.make_room(connection, DAYS)
        keys = {}
        for number, (name, org, model) in enumerate(NODES, start=1):
            if org not in org_ids:
                continue
            about: dict[str, Any] = {"id": f"{number:024x}", "name": name, "org_id": org, "role": ["worker"]}
            about |= {"is_local": False, "created_by": "ada", "created_at": START, "updated_at": START}
            about |= {"registered_at": START, "cpu_cores": 64}
            row = await connection.execute(insert(tables.nodes).values(about).returning(tables.nodes.c.node_key))
            key = keys[number] = row.scalar_one()
            state = {"node_key": key, "status": "online", "status_changed_at": START, "last_heartbeat": START}
            await connection.execute(insert(tables.node_state).values(state | {"updated_at": START}))
            event = {"node_key": key, "time": START, "kind": "created", "actor": "ada"}
            await connection.execute(insert(tables.node_events).values(event))
            for gpu in (1, 2):
                device = {"node_key": key, "gpu": gpu, "device_id": f"GPU-{number}-{gpu}", "model": model}
                seen = {"memory_total": 80_000, "first_seen": START, "last_seen": START}
                await connection.execute(insert(tables.gpus).values(device | seen))
                beat = {"node_key": key, "gpu": gpu, "time": START, "utilization": 5, "temperature": 400}
                await connection.execute(insert(tables.gpu_heartbeats).values(beat))
                told = {"node_key": key, "gpu": gpu, "time": START, "energy": 1_000, "throttle_reasons": "power_cap"}
                await connection.execute(insert(tables.gpu_details).values(told))
            beat = {"node_key": key, "time": START, "status": "ok", "cpu_usage": 100, "uptime_seconds": 60}
            await connection.execute(insert(tables.heartbeats).values(beat))
        await connection.execute(
            insert(tables.gpu_metrics),
            [
                {
                    "node_key": keys[s.node],
                    "gpu": s.gpu,
                    "time": s.time,
                    "utilization": None if s.utilization is None else round(s.utilization * 10),
                    "memory_total": round(s.memory_total * 1000),
                    "memory_used": round(s.memory_used * 1000),
                    "memory_free": round(s.memory_free * 1000),
                    "temperature": round(s.temperature * 10),
                    "power_usage": round(s.power_usage * 10),
                }
                for s in gpu_samples()
                if s.node in keys
            ],
        )
        await connection.execute(
            insert(tables.node_metrics),
            [
                {
                    "node_key": key,
                    "time": START + i * EVERY,
                    "cpu_usage": (i * 31 + number) % 1001,
                    "cpu_cores": 64,
                    "memory_total": 512_000,
                    "memory_used": 100_000 + i * 1000,
                    "memory_free": 412_000 - i * 1000,
                    # The machine started anew in the middle: the counter, too.
                    "network_bytes_in": (i if i < SAMPLES // 2 else i - SAMPLES // 2) * 1_000_000,
                    "network_bytes_out": i * 2_000,
                }
                for number, key in keys.items()
                for i in range(SAMPLES)
            ],
        )
