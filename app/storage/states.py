"""What a batch tells of each node's present state: its newest heartbeat, its newest metrics, when it was heard."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from app.model import NodeStatus, SampleKind
from app.storage.binary_copy import Row
from app.storage.engines.base import Connection
from app.storage.packing import CODECS, Packed
from app.storage.transitions import moves

# A row a node. Liveness goes by the server's clock, and only for the connection that owns the node; a
# shown value gives way only to one whose sample is not older.
_RETURNS: Final = "s.status = 'offline' AND s.gateway_id IS NOT NULL AND c.heard_at IS NOT NULL AND s.epoch = c.epoch"
_NEW_HEARTBEAT: Final = "c.heartbeat_time >= coalesce(s.heartbeat_time, '-infinity')"
_NEW_METRICS: Final = "c.metrics_time >= coalesce(s.metrics_time, '-infinity')"
_NEW_GPUS: Final = "c.gpu_time >= coalesce(s.gpu_time, '-infinity')"
_UPDATE: Final = f"""
    UPDATE node_state s SET
        {moves(_RETURNS, NodeStatus.ONLINE, "heartbeat", "c.heard_at")},
        alive_at = CASE WHEN s.epoch = c.epoch THEN greatest(s.alive_at, c.heard_at) ELSE s.alive_at END,
        last_heartbeat = greatest(s.last_heartbeat, c.heard_at),
        last_seen_at = greatest(s.last_seen_at, c.seen_at),
        last_metrics_at = greatest(s.last_metrics_at, c.metrics_at),
        updated_at = greatest(s.updated_at, c.seen_at),
        heartbeat_time = greatest(s.heartbeat_time, c.heartbeat_time),
        cpu_usage = CASE WHEN {_NEW_HEARTBEAT} THEN c.cpu_usage ELSE s.cpu_usage END,
        ram_usage = CASE WHEN {_NEW_HEARTBEAT} THEN c.ram_usage ELSE s.ram_usage END,
        uptime_seconds = CASE WHEN {_NEW_HEARTBEAT} THEN c.uptime_seconds ELSE s.uptime_seconds END,
        metrics_time = greatest(s.metrics_time, c.metrics_time),
        ram_free = CASE WHEN {_NEW_METRICS} THEN c.ram_free ELSE s.ram_free END,
        gpu_memory_free = CASE WHEN {_NEW_METRICS}
            THEN coalesce(c.gpu_memory_free::integer[], s.gpu_memory_free) ELSE s.gpu_memory_free END,
        gpu_power_usage = CASE WHEN {_NEW_METRICS}
            THEN coalesce(c.gpu_power_usage::integer[], s.gpu_power_usage) ELSE s.gpu_power_usage END,
        gpu_time = greatest(s.gpu_time, c.gpu_time),
        gpu_utilization = CASE WHEN {_NEW_GPUS} THEN c.gpu_utilization::smallint[] ELSE s.gpu_utilization END,
        gpu_temperature = CASE WHEN {_NEW_GPUS} THEN c.gpu_temperature::smallint[] ELSE s.gpu_temperature END,
        clock_skew_ms = CASE WHEN s.epoch = c.epoch
            THEN coalesce(c.clock_skew_ms, s.clock_skew_ms) ELSE s.clock_skew_ms END
    FROM unnest(
        $1::integer[], $2::integer[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[],
        $6::timestamptz[], $7::timestamptz[], $8::timestamptz[],
        $9::smallint[], $10::smallint[], $11::bigint[], $12::bigint[], $13::text[], $14::text[], $15::text[],
        $16::text[], $17::bigint[]
    ) AS c (node_key, epoch, seen_at, heard_at, metrics_at, heartbeat_time, metrics_time, gpu_time,
            cpu_usage, ram_usage, uptime_seconds, ram_free, gpu_utilization, gpu_temperature, gpu_memory_free,
            gpu_power_usage, clock_skew_ms)
    WHERE s.node_key = c.node_key
"""


async def update(connection: Connection, batch: Iterable[Packed]) -> None:
    """Within the transaction that stores a batch: bring its nodes' present state up to date."""
    news: dict[int, _News] = defaultdict(_News)
    for packed in batch:
        news[packed.node_key].add(packed)
    # In the order of their keys, so that two batches never wait for each other's rows in a circle.
    await connection.execute(_UPDATE, *zip(*(news[key].row(key) for key in sorted(news)), strict=True))


class _News:
    """What a batch tells about one node."""

    __slots__ = ("epoch", "heard_at", "heartbeat", "metrics", "metrics_at", "seen_at", "skew_ms")

    def __init__(self) -> None:
        self.epoch = -1
        self.seen_at: datetime | None = None
        self.heard_at: datetime | None = None
        self.metrics_at: datetime | None = None
        self.heartbeat: Packed | None = None
        self.metrics: Packed | None = None
        self.skew_ms: int | None = None

    def add(self, packed: Packed) -> None:
        self.epoch = max(self.epoch, packed.epoch)
        self.seen_at = packed.received_at
        if packed.skew_ms is not None:
            self.skew_ms = packed.skew_ms
        if packed.kind is SampleKind.HEARTBEAT:
            self.heard_at = packed.received_at
            self.heartbeat = _newer(self.heartbeat, packed)
        else:
            self.metrics_at = packed.received_at
            self.metrics = _newer(self.metrics, packed)

    def row(self, node_key: int) -> Row:
        """The parameters of `_UPDATE` for this node."""
        heartbeat, metrics = self.heartbeat, self.metrics
        newest = metrics if metrics and metrics.gpus else None
        utilization, memory_free, temperature, power_usage = _gpu_arrays(newest) if newest else _NO_GPUS
        if heartbeat and heartbeat.gpus and (newest is None or _time(heartbeat) >= _time(newest)):
            newest = heartbeat
            utilization, temperature = _gpu_arrays(newest)
        return (
            node_key,
            self.epoch,
            self.seen_at,
            self.heard_at,
            self.metrics_at,
            heartbeat and heartbeat.time,
            metrics and metrics.time,
            newest and newest.time,
            *(heartbeat.shown if heartbeat else _NO_HEARTBEAT),
            *(metrics.shown if metrics else _NO_METRICS),
            utilization,
            temperature,
            memory_free,
            power_usage,
            self.skew_ms,
        )


_NO_HEARTBEAT: Final = (None, None, None)
_NO_METRICS: Final = (None,)
_NO_GPUS: Final = (None, None, None, None)
_OF_GPUS: Final = {
    SampleKind.HEARTBEAT: CODECS[SampleKind.HEARTBEAT][1].picker("gpu", "utilization", "temperature"),
    SampleKind.METRICS: CODECS[SampleKind.METRICS][1].picker(
        "gpu", "utilization", "memory_free", "temperature", "power_usage"
    ),
}


def _newer(one: Packed | None, other: Packed) -> Packed | None:
    if other.time is None:
        return one
    return other if one is None or _time(other) >= _time(one) else one


def _time(packed: Packed) -> datetime:
    return packed.time or packed.received_at


def _gpu_arrays(packed: Packed) -> list[str | None]:
    """Of each of the GPUs' columns that are shown an array literal, with one value of each GPU at the place of its number."""
    numbers, *columns = _OF_GPUS[packed.kind](packed.gpu_rows)
    size = max(numbers)
    if numbers == tuple(range(1, size + 1)):  # as they are in nearly every sample
        return [_literal([*column]) for column in columns]
    of = [dict(zip(numbers, column, strict=True)) for column in columns]
    return [_literal([values.get(number) for number in range(1, size + 1)]) for values in of]


def _literal(values: list[int | None]) -> str:
    return "{" + str(values)[1:-1].replace("None", "NULL") + "}"
