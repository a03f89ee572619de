"""The fleet as it is now: counts and sums for the summary, and each node and GPU by itself.

Everything is read from `nodes`, `node_state` and `gpus`, nothing from the samples. A deleted node is not
there, nor is a GPU that its node no longer has. What a node last measured is true now only while it is
heard, so that an offline node's last watts are nobody's. Steps become units here.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.model import NodeStatus
from app.quantities import CELSIUS, GIGABYTE, PERCENT, VRAM, WATT, Quantity

AVERAGE_DECIMALS: Final = 4
ROWS_A_PORTION: Final = 2000
"""A fleet of 160,000 GPUs fetched at once would hold up the event loop for a second."""


class StatusCount(msgspec.Struct, frozen=True):
    """How many nodes have a status, and how many of them have an open socket."""

    status: NodeStatus
    nodes: int
    connected: int


class GpuModel(msgspec.Struct, frozen=True):
    """The GPUs of one model (None: they never told it), and how many of them are on online nodes."""

    model: str | None
    count: int
    online: int


class GpusNow(msgspec.Struct, frozen=True):
    """What the GPUs of online nodes measure, in units; None where none of them tells it.

    `memory_used` is over the GPUs that tell both their memory and how much of it is free.
    """

    utilization_avg: float | None
    temperature_avg: float | None
    temperature_max: float | None
    power_usage_sum: float | None
    memory_total_sum: float | None
    memory_used_sum: float | None
    memory_free_sum: float | None


class StaleNode(msgspec.Struct, frozen=True):
    """A node that should be heard and is not."""

    id: str
    name: str
    last_heartbeat: datetime


class PresentGpu(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A GPU now: memory in GB, utilization in percent, temperature in °C, power in W."""

    node_id: str
    node_name: str
    org_id: str | None
    device_id: str
    gpu_model: str | None
    utilization: float | None
    memory_total: float | None
    memory_used: float | None
    memory_free: float | None
    temperature: float | None
    power_usage: float | None


class PresentNode(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A node now: memory and disk in GB, usage in percent. `last_heartbeat` is None before the first."""

    node_id: str
    node_name: str
    org_id: str | None
    status: NodeStatus
    websocket_connected: bool
    last_heartbeat: datetime | None
    last_metrics_at: datetime | None
    uptime_seconds: int | None
    clock_skew_ms: int | None
    cpu_cores: int | None
    cpu_usage: float | None
    ram_usage: float | None
    ram_total: float | None
    ram_free: float | None
    disk_total: float | None


async def count_by_status(connection: AsyncConnection, org_id: str | None) -> list[StatusCount]:
    """The statuses that any node has."""
    statement = f"""
        SELECT s.status, count(*) AS nodes, count(s.gateway_id) AS connected
        FROM nodes n JOIN node_state s USING (node_key)
        WHERE {_visible(org_id)} GROUP BY s.status
    """
    rows = await _rows(connection, statement, org_id)
    return [StatusCount(NodeStatus(row.status), row.nodes, row.connected) for row in rows]


async def sum_up_gpus(connection: AsyncConnection, org_id: str | None) -> tuple[list[GpuModel], GpusNow]:
    """The models, most frequent first, and what all GPUs together measure."""
    # One row a model, and one for all. `s` is there for online nodes alone: aggregates pass over the others.
    statement = f"""
        SELECT grouping(g.model) = 1 AS is_all, g.model, count(*) AS gpus, count(s.node_key) AS online,
               avg(s.gpu_utilization[g.gpu])::float8 AS utilization,
               avg(s.gpu_temperature[g.gpu])::float8 AS temperature, max(s.gpu_temperature[g.gpu]) AS hottest,
               sum(s.gpu_power_usage[g.gpu]) AS power_usage,
               sum(g.memory_total) FILTER (WHERE s.node_key IS NOT NULL) AS memory_total,
               sum(greatest(g.memory_total - s.gpu_memory_free[g.gpu], 0))
                   FILTER (WHERE g.memory_total IS NOT NULL AND s.gpu_memory_free[g.gpu] IS NOT NULL) AS memory_used,
               sum(s.gpu_memory_free[g.gpu]) AS memory_free
        FROM nodes n JOIN gpus g USING (node_key)
             LEFT JOIN node_state s ON s.node_key = n.node_key AND s.status = '{NodeStatus.ONLINE}'
        WHERE {_visible(org_id)} AND g.removed_at IS NULL
        GROUP BY GROUPING SETS ((g.model), ()) ORDER BY gpus DESC, g.model
    """
    rows = await _rows(connection, statement, org_id)
    models = [GpuModel(row.model, row.gpus, row.online) for row in rows if not row.is_all]
    return models, next(_gpus_now(row) for row in rows if row.is_all)


async def stale_nodes(
    connection: AsyncConnection, org_id: str | None, silent_before: datetime, limit: int
) -> tuple[int, list[StaleNode]]:
    """How many registered nodes, not in maintenance, were last heard before this; the longest silent of them."""
    # A node that registers has just been heard, though its first heartbeat is still to come.
    statement = f"""
        SELECT n.id, n.name, s.last_heartbeat, count(*) OVER () AS found
        FROM nodes n JOIN node_state s USING (node_key)
        WHERE {_visible(org_id)} AND s.status <> '{NodeStatus.MAINTENANCE}'
              AND greatest(s.last_heartbeat, n.registered_at) < :silent_before AND n.registered_at IS NOT NULL
        ORDER BY s.last_heartbeat, n.id LIMIT :limit
    """
    rows = await _rows(connection, statement, org_id, silent_before=silent_before, limit=limit)
    return (rows[0].found if rows else 0), [StaleNode(row.id, row.name, row.last_heartbeat) for row in rows]


async def present_nodes(connection: AsyncConnection, org_id: str | None, silent_before: datetime) -> list[PresentNode]:
    """Every node in the order of creation; who was last heard before this measures nothing now."""
    # `last_heartbeat` is the creation until the first one, which no heartbeat ever was.
    statement = f"""
        SELECT n.id, n.name, n.org_id, s.status, s.gateway_id IS NOT NULL AS websocket_connected,
               nullif(s.last_heartbeat, n.created_at) AS last_heartbeat, s.last_metrics_at,
               n.cpu_cores, n.ram_total, n.disk_total,
               m.uptime_seconds, s.clock_skew_ms, m.cpu_usage, m.ram_usage, m.ram_free
        FROM nodes n JOIN node_state s USING (node_key) {_MEASURED}
        WHERE {_visible(org_id)} ORDER BY n.node_key
    """
    rows = _each_row(connection, statement, org_id, silent_before=silent_before)
    return [
        PresentNode(
            node_id=row.id,
            node_name=row.name,
            org_id=row.org_id,
            status=NodeStatus(row.status),
            websocket_connected=row.websocket_connected,
            last_heartbeat=row.last_heartbeat,
            last_metrics_at=row.last_metrics_at,
            uptime_seconds=row.uptime_seconds,
            clock_skew_ms=row.clock_skew_ms,
            cpu_cores=row.cpu_cores,
            cpu_usage=_units(row.cpu_usage, PERCENT),
            ram_usage=_units(row.ram_usage, PERCENT),
            ram_total=row.ram_total,
            ram_free=_units(row.ram_free, GIGABYTE),
            disk_total=row.disk_total,
        )
        async for row in rows
    ]


async def present_gpus(connection: AsyncConnection, org_id: str | None, silent_before: datetime) -> list[PresentGpu]:
    """Every GPU, node by node; those of a node that was last heard before this measure nothing now."""
    statement = f"""
        SELECT n.id, n.name, n.org_id, g.device_id, g.model, g.memory_total,
               m.gpu_utilization[g.gpu] AS utilization, m.gpu_temperature[g.gpu] AS temperature,
               m.gpu_memory_free[g.gpu] AS memory_free, m.gpu_power_usage[g.gpu] AS power_usage
        FROM nodes n JOIN gpus g USING (node_key) {_MEASURED}
        WHERE {_visible(org_id)} AND g.removed_at IS NULL ORDER BY n.node_key, g.gpu
    """
    rows = _each_row(connection, statement, org_id, silent_before=silent_before)
    return [
        PresentGpu(
            node_id=row.id,
            node_name=row.name,
            org_id=row.org_id,
            device_id=row.device_id,
            gpu_model=row.model,
            utilization=_units(row.utilization, PERCENT),
            memory_total=_units(row.memory_total, VRAM),
            memory_used=_units(_used(row.memory_total, row.memory_free), VRAM),
            memory_free=_units(row.memory_free, VRAM),
            temperature=_units(row.temperature, CELSIUS),
            power_usage=_units(row.power_usage, WATT),
        )
        async for row in rows
    ]


# In maintenance nothing moves the status, so silence is told from the time.
_MEASURED: Final = f"""
    LEFT JOIN node_state m ON m.node_key = n.node_key AND (
        m.status = '{NodeStatus.ONLINE}'
        OR m.status = '{NodeStatus.MAINTENANCE}' AND greatest(m.last_heartbeat, m.alive_at) >= :silent_before
    )
"""


def _visible(org_id: str | None) -> str:
    return "n.deleted_at IS NULL" if org_id is None else "n.deleted_at IS NULL AND n.org_id = :org_id"


async def _rows(connection: AsyncConnection, statement: str, org_id: str | None, **values: Any) -> Sequence[Row[Any]]:
    return (await connection.execute(text(statement), _parameters(org_id, values))).all()


async def _each_row(
    connection: AsyncConnection, statement: str, org_id: str | None, **values: Any
) -> AsyncIterator[Row[Any]]:
    """The rows of a long answer, of which little is in memory and in the event loop's way at a time."""
    async with connection.stream(text(statement), _parameters(org_id, values)) as rows:
        async for portion in rows.partitions(ROWS_A_PORTION):
            for row in portion:
                yield row


def _parameters(org_id: str | None, values: dict[str, Any]) -> dict[str, Any]:
    return values if org_id is None else values | {"org_id": org_id}


def _gpus_now(row: Row[Any]) -> GpusNow:
    return GpusNow(
        utilization_avg=_average(row.utilization, PERCENT),
        temperature_avg=_average(row.temperature, CELSIUS),
        temperature_max=_units(row.hottest, CELSIUS),
        power_usage_sum=_units(row.power_usage, WATT),
        memory_total_sum=_units(row.memory_total, VRAM),
        memory_used_sum=_units(row.memory_used, VRAM),
        memory_free_sum=_units(row.memory_free, VRAM),
    )


def _used(total: int | None, free: int | None) -> int | None:
    """Never negative: the total is the registration's, the rest the driver's, and each was rounded."""
    return None if total is None or free is None else max(total - free, 0)


def _units(steps: int | None, quantity: Quantity) -> float | None:
    return None if steps is None else steps / quantity.steps_per_unit


def _average(steps: float | None, quantity: Quantity) -> float | None:
    return None if steps is None else round(steps / quantity.steps_per_unit, AVERAGE_DECIMALS)
