"""Registrations without news, many at once: a fleet that comes back after a restart has the machines it had.

Whoever has news (a first registration, other hardware, other GPUs) is left to `connections.register`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.model import Hardware, NodeStatus
from app.quantities import CELSIUS, PERCENT, VRAM, Quantity
from app.storage.gpus import KnownGpu, known_gpu
from app.storage.registrations import FACTS
from app.storage.transitions import moves


class Registration(msgspec.Struct, frozen=True):
    """What a connection of this epoch says of its machine, and from where; None where that is not known."""

    node_key: int
    epoch: int
    hardware: Hardware
    address: str | None = None


_LOOK: Final = text(f"""
    SELECT s.node_key, n.registered_at, {", ".join(f"n.{name}" for name in FACTS)},
           ARRAY(SELECT ROW(device_id, gpu, model, memory_total, removed_at IS NULL) FROM gpus g
                 WHERE g.node_key = s.node_key ORDER BY last_seen, gpu) AS gpus
    FROM unnest(CAST(:node_keys AS integer[]), CAST(:epochs AS integer[])) AS asked (node_key, epoch)
    JOIN node_state s USING (node_key, epoch) JOIN nodes n USING (node_key)
    ORDER BY s.node_key FOR UPDATE OF s
""")
_COMES: Final = "s.status NOT IN ('online', 'maintenance')"
_RETURN: Final = text(f"""
    WITH back AS (
        SELECT * FROM unnest(
            CAST(:node_keys AS integer[]), CAST(:uptimes AS bigint[]),
            CAST(:utilizations AS text[]), CAST(:temperatures AS text[]), CAST(:memories AS text[])
        ) AS back (node_key, uptime_seconds, utilization, temperature, memory_free)
    ), seen AS (
        UPDATE gpus SET last_seen = :now FROM back WHERE gpus.node_key = back.node_key AND gpus.removed_at IS NULL
    ), registered AS (
        UPDATE nodes SET registered_at = :now, updated_at = :now FROM back WHERE nodes.node_key = back.node_key
    )
    UPDATE node_state s SET
        {moves(_COMES, NodeStatus.ONLINE, "registered", ":now")},
        alive_at = :now, last_seen_at = :now, updated_at = :now, uptime_seconds = back.uptime_seconds,
        gpu_time = NULL, gpu_utilization = back.utilization::smallint[],
        gpu_temperature = back.temperature::smallint[], gpu_memory_free = back.memory_free::integer[]
    FROM back WHERE s.node_key = back.node_key
""")


async def register_returning(
    connection: AsyncConnection, registrations: Sequence[Registration], now: datetime
) -> Mapping[int, dict[str, KnownGpu]]:
    """Store those without news, each node once; returns their GPUs by the nodes' keys."""
    asked = {registration.node_key: registration for registration in registrations}
    rows = await connection.execute(
        _LOOK, {"node_keys": list(asked), "epochs": [registration.epoch for registration in asked.values()]}
    )
    back = [row for row in rows if _is_as_before(row, asked[row.node_key].hardware)]
    if back:
        machines = [(asked[row.node_key].hardware, _numbers(row)) for row in back]
        await connection.execute(
            _RETURN,
            {
                "now": now,
                "node_keys": [row.node_key for row in back],
                "uptimes": [hardware.uptime_seconds for hardware, _ in machines],
                "utilizations": [_values(*machine, "utilization", PERCENT) for machine in machines],
                "temperatures": [_values(*machine, "temperature", CELSIUS) for machine in machines],
                "memories": [_values(*machine, "memory_free", VRAM) for machine in machines],
            },
        )
    return {row.node_key: {device: known_gpu(gpu, model) for device, gpu, model, _, _ in row.gpus} for row in back}


def _is_as_before(row: Row[Any], hardware: Hardware) -> bool:
    if row.registered_at is None or any(getattr(row, name) != getattr(hardware, name) for name in FACTS):
        return False
    present = {device: (model, memory) for device, _, model, memory, is_present in row.gpus if is_present}
    if len(present) != len(hardware.gpus):
        return False
    for gpu in hardware.gpus:
        if gpu.device_id not in present:
            return False
        model, memory = present[gpu.device_id]
        told = None if gpu.memory_total is None else VRAM.to_steps(gpu.memory_total)
        if gpu.model not in (None, model) or told not in (None, memory):
            return False
    return True


def _numbers(row: Row[Any]) -> dict[str, int]:
    return {device: gpu for device, gpu, _, _, is_present in row.gpus if is_present}


def _values(hardware: Hardware, numbers: Mapping[str, int], name: str, quantity: Quantity) -> str:
    """A value of each GPU in steps as an array literal, at the place of the GPU's number."""
    values = ["NULL"] * max(numbers.values(), default=0)
    for gpu in hardware.gpus:
        value = getattr(gpu, name)
        steps = None if value is None else quantity.to_steps(value)
        if steps is not None:
            values[numbers[gpu.device_id] - 1] = str(steps)
    return "{" + ",".join(values) + "}"
