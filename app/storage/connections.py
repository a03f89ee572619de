"""Who is connected where: ownership of connections by epoch, registrations, goodbyes.

Every statement that speaks for a connection names its epoch: once a newer connection has raised it,
the older one's words change nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.model import GpuDevice, Hardware, NodeStatus
from app.quantities import CELSIUS, PERCENT, VRAM, Quantity
from app.storage import registrations
from app.storage.gpus import KnownGpu, known_gpu, number_gpus
from app.storage.transitions import moves


class Admission(msgspec.Struct, frozen=True):
    """A connection that wants its node: who it says it is, and the generation of its token."""

    node_id: str
    generation: int


class Claim(msgspec.Struct, frozen=True):
    """A node as its new connection finds it; `epoch` is None where the token may not have it.

    `former` is the gateway that held the node, None where nobody did.
    """

    node_key: int
    epoch: int | None
    former: int | None
    disabled: bool
    is_registered: bool
    gpus: dict[str, KnownGpu]


_INSTALLS: Final = "NOT node.is_registered AND s.status IN ('pending', 'offline')"
# In the order of their keys, so that two gateways never wait for each other's rows in a circle. By a statement of its own:
# one that waited for a revocation to commit would go on to read what was so when it began.
_LOCK: Final = text("""
    SELECT node_key FROM node_state
    WHERE node_key IN (SELECT node_key FROM nodes WHERE id = ANY(CAST(:node_ids AS text[])))
    ORDER BY node_key FOR UPDATE
""")
_CLAIM: Final = text(f"""
    WITH node AS (
        SELECT n.node_key, n.id, n.disabled, n.token_generation <= asked.generation AS may,
               n.registered_at IS NOT NULL AS is_registered
        FROM unnest(CAST(:node_ids AS text[]), CAST(:generations AS integer[])) AS asked (node_id, generation)
        JOIN nodes n ON n.id = asked.node_id AND n.deleted_at IS NULL
    ), before AS MATERIALIZED (
        SELECT node_key, gateway_id FROM node_state WHERE node_key IN (SELECT node_key FROM node)
    ), claimed AS (
        UPDATE node_state s SET
            epoch = s.epoch + 1, gateway_id = :gateway_id,
            token_last_used = :now, last_seen_at = :now, updated_at = :now,
            {moves(_INSTALLS, NodeStatus.INSTALLING, "connected", ":now")}
        FROM node JOIN before USING (node_key)
        WHERE s.node_key = node.node_key AND NOT node.disabled AND node.may
        RETURNING s.node_key, s.epoch
    )
    SELECT node.id, node.node_key, node.disabled, node.is_registered, claimed.epoch, before.gateway_id AS former,
           g.devices, g.gpus, g.models
    FROM node JOIN before USING (node_key) LEFT JOIN claimed USING (node_key)
    CROSS JOIN LATERAL (
        SELECT array_agg(device_id ORDER BY last_seen, gpu) AS devices, array_agg(gpu ORDER BY last_seen, gpu) AS gpus,
               array_agg(model ORDER BY last_seen, gpu) AS models
        FROM gpus WHERE gpus.node_key = node.node_key
    ) AS g
""")


async def claim(
    connection: AsyncConnection, admissions: Sequence[Admission], gateway_id: int, now: datetime
) -> list[Claim | None]:
    """Make this gateway's new connections their nodes' owners, each node once; None for one that is not there."""
    node_ids = [admission.node_id for admission in admissions]
    await connection.execute(_LOCK, {"node_ids": node_ids})
    rows = await connection.execute(
        _CLAIM,
        {
            "node_ids": node_ids,
            "generations": [admission.generation for admission in admissions],
            "gateway_id": gateway_id,
            "now": now,
        },
    )
    found = {row.id: _claim(row) for row in rows}
    return [found.get(admission.node_id) for admission in admissions]


def _claim(row: Any) -> Claim:
    gpus = zip(row.devices or (), row.gpus or (), row.models or (), strict=True)
    return Claim(
        node_key=row.node_key,
        epoch=row.epoch,
        former=row.former,
        disabled=row.disabled,
        is_registered=row.is_registered,
        # A device that had several models has several rows: the one last seen is its present one.
        gpus={device: known_gpu(gpu, model) for device, gpu, model in gpus},
    )


_FALLS: Final = "gone.by_worker AND s.status IN ('online', 'installing')"
_DEPART: Final = text(f"""
    UPDATE node_state s SET
        gateway_id = NULL, updated_at = :now, {moves(_FALLS, NodeStatus.OFFLINE, "disconnected", ":now")}
    FROM unnest(CAST(:node_keys AS integer[]), CAST(:epochs AS integer[]), CAST(:by_worker AS boolean[]))
             AS gone (node_key, epoch, by_worker)
    WHERE s.node_key = gone.node_key AND s.epoch = gone.epoch
""")


class Departure(msgspec.Struct, frozen=True):
    """A connection that ended, and at which end."""

    node_key: int
    epoch: int
    by_worker: bool


async def depart(connection: AsyncConnection, departures: Sequence[Departure], now: datetime) -> None:
    """Record ended connections: a worker's goodbye makes its node offline, a server's does not."""
    await connection.execute(
        _DEPART,
        {
            "node_keys": [departure.node_key for departure in departures],
            "epochs": [departure.epoch for departure in departures],
            "by_worker": [departure.by_worker for departure in departures],
            "now": now,
        },
    )


_RECLAIM: Final = text("""
    UPDATE node_state s SET gateway_id = :gateway_id, updated_at = :now
    FROM unnest(CAST(:node_keys AS integer[]), CAST(:epochs AS integer[])) AS held (node_key, epoch)
    WHERE s.node_key = held.node_key AND s.epoch = held.epoch AND s.gateway_id IS NULL
""")


async def reclaim(connection: AsyncConnection, held: Sequence[tuple[int, int]], gateway_id: int, now: datetime) -> None:
    """Connections (node, epoch) are this gateway's again, after it was taken for dead."""
    node_keys, epochs = zip(*held, strict=True) if held else ((), ())
    told = {"node_keys": list(node_keys), "epochs": list(epochs), "gateway_id": gateway_id, "now": now}
    await connection.execute(_RECLAIM, told)


_OWN: Final = text("SELECT 1 FROM node_state WHERE node_key = :node_key AND epoch = :epoch FOR UPDATE")
_REGISTER_NODE: Final = text("""
    UPDATE nodes SET
        hostname = :hostname, os = :os, cpu_cores = :cpu_cores, cpu_model = :cpu_model, ram_total = :ram_total,
        disk_total = :disk_total, ip_address = :ip_address, public_ip_address = :public_ip_address,
        daemon_version = :daemon_version, container_runtime = :container_runtime,
        registered_at = :now, updated_at = :now
    WHERE node_key = :node_key
""")
_COMES: Final = "s.status NOT IN ('online', 'maintenance')"
# No gpu_time: what the next sample says is newer, whatever the worker's clock says.
_REGISTER_STATE: Final = text(f"""
    UPDATE node_state s SET
        {moves(_COMES, NodeStatus.ONLINE, "registered", ":now")},
        alive_at = :now, last_seen_at = :now, updated_at = :now, uptime_seconds = :uptime_seconds,
        gpu_time = NULL, gpu_utilization = :utilization, gpu_temperature = :temperature, gpu_memory_free = :memory_free
    WHERE node_key = :node_key
""")
_REMOVE_GPUS: Final = text("""
    UPDATE gpus SET removed_at = CASE WHEN gpu = ANY(:present) THEN NULL ELSE coalesce(removed_at, :now) END
    WHERE node_key = :node_key
""")


async def register(
    connection: AsyncConnection, node_key: int, epoch: int, hardware: Hardware, now: datetime
) -> dict[str, KnownGpu] | None:
    """Store a node's hardware and make it online; None where a newer connection owns the node.

    Returns the node's GPUs as its samples will number them; of those that it told of, some may have no number.
    """
    owner = (await connection.execute(_OWN, {"node_key": node_key, "epoch": epoch})).one_or_none()
    if owner is None:
        return None
    before = await registrations.look(connection, node_key)
    facts = {name: getattr(hardware, name) for name in registrations.FACTS}
    gpus = await number_gpus(connection, node_key, hardware.gpus, now)
    numbered = tuple(device for device in hardware.gpus if device.device_id in gpus)
    hardware = msgspec.structs.replace(hardware, gpus=numbered)
    await connection.execute(_REGISTER_NODE, {"node_key": node_key, "now": now, **facts})
    present = [gpus[device.device_id].gpu for device in hardware.gpus]
    await connection.execute(_REMOVE_GPUS, {"node_key": node_key, "present": present, "now": now})
    values = {gpus[device.device_id].gpu: device for device in hardware.gpus}
    await connection.execute(
        _REGISTER_STATE,
        {
            "node_key": node_key,
            "now": now,
            "uptime_seconds": hardware.uptime_seconds,
            "utilization": _by_number(values, "utilization", PERCENT),
            "temperature": _by_number(values, "temperature", CELSIUS),
            "memory_free": _by_number(values, "memory_free", VRAM),
        },
    )
    await registrations.tell(connection, node_key, before, hardware, gpus, now)
    return gpus


def _by_number(devices: Mapping[int, GpuDevice], name: str, quantity: Quantity) -> list[int | None]:
    """A value of each GPU in steps, at the place of the GPU's number (arrays in SQL count from 1)."""
    values: list[int | None] = [None] * max(devices, default=0)
    for number, device in devices.items():
        value = getattr(device, name)
        values[number - 1] = None if value is None else quantity.to_steps(value)
    return values
