"""The GPUs of a node: each device and model has a small number, which is what samples carry."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.model import GpuDevice
from app.quantities import VRAM

MOST_NUMBERS: Final = 1024
"""What a node's present state shows of GPUs are arrays as long as its highest number."""


class KnownGpu(msgspec.Struct, frozen=True, gc=False):
    """A GPU of a node: the small number that its samples carry, and its model where it is known."""

    gpu: int
    model: str | None


def known_gpu(gpu: int, model: str | None) -> KnownGpu:
    """One of many thousand; the models that they have are few."""
    return KnownGpu(gpu, None if model is None else sys.intern(model))


_LOCK_NODE: Final = text("SELECT 1 FROM node_state WHERE node_key = :node_key FOR UPDATE")
_GPUS: Final = text("SELECT gpu, device_id, model FROM gpus WHERE node_key = :node_key ORDER BY last_seen, gpu")
_INSERT_GPU: Final = text("""
    INSERT INTO gpus (node_key, gpu, device_id, model, memory_total, first_seen, last_seen)
    VALUES (:node_key, :gpu, :device_id, :model, :memory_total, :now, :now)
""")
_UPDATE_GPU: Final = text("""
    UPDATE gpus SET model = :model, memory_total = coalesce(:memory_total, memory_total), last_seen = :now
    WHERE node_key = :node_key AND gpu = :gpu
""")


async def number_gpus(
    connection: AsyncConnection, node_key: int, devices: Sequence[GpuDevice], now: datetime
) -> dict[str, KnownGpu]:
    """Give each device its number within the node, a new one where device or model is new.

    Returns all GPUs of the node by device, each with its latest number. Beyond MOST_NUMBERS none are given: what is new then
    is not among them.
    """
    await connection.execute(_LOCK_NODE, {"node_key": node_key})
    rows = (await connection.execute(_GPUS, {"node_key": node_key})).all()
    known = {row.device_id: known_gpu(row.gpu, row.model) for row in rows}
    by_identity = {(row.device_id, row.model): row.gpu for row in rows}
    highest = max((row.gpu for row in rows), default=0)
    inserts: list[dict[str, Any]] = []
    updates: list[dict[str, Any]] = []
    for device in devices:
        before = known.get(device.device_id)
        # Who tells no model means the device as it was; a row without a model gets the one that is told.
        model = device.model if device.model is not None or before is None else before.model
        gpu = by_identity.get((device.device_id, model)) or by_identity.get((device.device_id, None))
        if gpu is None and highest >= MOST_NUMBERS:
            continue
        if gpu is None:
            highest += 1
        number = gpu or highest
        row = {
            "node_key": node_key,
            "gpu": number,
            "model": model,
            "memory_total": None if device.memory_total is None else VRAM.to_steps(device.memory_total),
            "now": now,
        }
        if gpu is None:
            inserts.append(row | {"device_id": device.device_id})
        else:
            updates.append(row)
        known[device.device_id] = known_gpu(number, model)
    if inserts:
        await connection.execute(_INSERT_GPU, inserts)
    if updates:
        await connection.execute(_UPDATE_GPU, updates)
    return known
