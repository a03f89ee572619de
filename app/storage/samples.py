"""Samples in: one batch, one transaction, by COPY; where a batch met a duplicate, by INSERT … ON CONFLICT.

With its samples a batch brings each node's present state up to date, so that what is acknowledged
is also what every read shows.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from app.model import NodeStatus, SampleKind
from app.quantities import GPU_HEARTBEAT_FIELDS, GPU_METRIC_FIELDS, HEARTBEAT_FIELDS, NODE_METRIC_FIELDS, Field
from app.storage import binary_copy, intake, tables
from app.storage.arrivals import Arrival, Outcome
from app.storage.binary_copy import Encoder
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.transitions import moves

Row = tuple[Any, ...]


class _Target:
    """A raw table with what it takes to write to it."""

    def __init__(self, table: Table) -> None:
        self.name = table.name
        self.columns = [column.name for column in table.columns]
        self.encoder = Encoder(table)
        key = [column.name for column in table.primary_key.columns]
        types = [column.type.compile(postgresql.dialect()) for column in table.columns]  # type: ignore[no-untyped-call]
        arrays = ", ".join(f"${place}::{type_}[]" for place, type_ in enumerate(types, 1))
        self.insert = (
            f"INSERT INTO {self.name} ({', '.join(self.columns)}) SELECT * FROM unnest({arrays}) "
            f"ON CONFLICT DO NOTHING RETURNING {', '.join(key)}"
        )


_DETAILS: Final = _Target(tables.gpu_details)
_TARGETS: Final = {
    SampleKind.HEARTBEAT: (_Target(tables.heartbeats), _Target(tables.gpu_heartbeats)),
    SampleKind.METRICS: (_Target(tables.node_metrics), _Target(tables.gpu_metrics)),
}


async def copy(database: Database, engine: StorageEngine, batch: Sequence[Arrival]) -> None:
    """Store a batch of which nothing was stored before.

    Raises asyncpg.UniqueViolationError where a sample of it was; nothing of the batch is stored then.
    """
    async with database.driver_transaction() as connection:
        for target, rows in _rows(batch, binary_copy.moment):
            encoded: Any = target.encoder.encode(rows)  # the driver's stubs do not know that it takes buffers
            await connection.copy_to_table(target.name, source=encoded, columns=target.columns, format="binary")
        await engine.note(connection, _metrics(batch))
        await intake.count(connection, batch)
        await _update_states(connection, batch)


async def insert(database: Database, engine: StorageEngine, batch: Sequence[Arrival]) -> tuple[list[Outcome], set[int]]:
    """Store what is new of a batch; an outcome for each arrival, in their order, and the keys of nodes that sent what was there.

    A sample of which some rows are new is stored.
    """
    fresh: dict[str, Counter[Row]] = defaultdict(Counter)
    async with database.driver_transaction() as connection:
        for target, rows in _rows(batch, lambda time: time):
            stored = await connection.fetch(target.insert, *zip(*rows, strict=True))
            fresh[target.name] = Counter(tuple(record) for record in stored)
        claims = [_claims(arrival, fresh) for arrival in batch]
        outcomes = [Outcome.STORED if any(made) or not made else Outcome.DUPLICATE for made in claims]
        await engine.note(connection, _metrics(batch))
        await intake.count(connection, batch, duplicates=outcomes.count(Outcome.DUPLICATE))
        await _update_states(connection, batch)
    return outcomes, {arrival.node_key for arrival, made in zip(batch, claims, strict=True) if not all(made)}


def _metrics(batch: Iterable[Arrival]) -> Iterator[tuple[int, datetime]]:
    """Whose metrics of when there are."""
    for arrival in batch:
        if arrival.sample is not None and arrival.sample.kind is SampleKind.METRICS:
            yield arrival.node_key, arrival.sample.time


def _rows(batch: Sequence[Arrival], moment: Callable[[datetime], Any]) -> Iterator[tuple[_Target, list[Row]]]:
    """The rows of each table that gets any."""
    for kind, targets in _TARGETS.items():
        for target, rows in zip(targets, _rows_of(batch, kind, moment), strict=True):
            if rows:
                yield target, rows
    if details := _detail_rows(batch, moment):
        yield _DETAILS, details


def _rows_of(
    batch: Iterable[Arrival], kind: SampleKind, moment: Callable[[datetime], Any]
) -> tuple[list[Row], list[Row]]:
    """The rows of one kind of sample: for its node table and for its GPU table."""
    node_rows: list[Row] = []
    gpu_rows: list[Row] = []
    for arrival in batch:
        sample = arrival.sample
        if sample is not None and sample.kind is kind:
            time = moment(sample.time)
            node_rows.append((arrival.node_key, time, *sample.values))
            for gpu, reading in zip(arrival.gpus, sample.gpus, strict=True):
                gpu_rows.append((arrival.node_key, gpu, time, *reading.values))
    return node_rows, gpu_rows


def _detail_rows(batch: Iterable[Arrival], moment: Callable[[datetime], Any]) -> list[Row]:
    """Of few workers: what tells no details costs no more than this look at it."""
    return [
        (arrival.node_key, arrival.gpus[detail.gpu], moment(arrival.sample.time), *detail.values)
        for arrival in batch
        if arrival.sample is not None and arrival.sample.details
        for detail in arrival.sample.details
    ]


def _claims(arrival: Arrival, fresh: dict[str, Counter[Row]]) -> list[bool]:
    """Of each row whether it is new; a stored row speaks for the first arrival of the batch that carried it."""
    if arrival.sample is None:
        return []
    (node, gpu), time = _TARGETS[arrival.sample.kind], arrival.sample.time
    claims = [_take(fresh[node.name], (arrival.node_key, time))]
    claims += [_take(fresh[gpu.name], (arrival.node_key, number, time)) for number in arrival.gpus]
    for detail in arrival.sample.details:
        claims.append(_take(fresh[_DETAILS.name], (arrival.node_key, arrival.gpus[detail.gpu], time)))
    return claims


def _take(fresh: Counter[Row], key: Row) -> bool:
    if fresh[key] <= 0:
        return False
    fresh[key] -= 1
    return True


# A row a node. Liveness goes by the server's clock, and only for the connection that owns the node; a
# shown value gives way only to one whose sample is not older.
_RETURNS: Final = "s.status = 'offline' AND s.gateway_id IS NOT NULL AND c.heard_at IS NOT NULL AND s.epoch = c.epoch"
_NEW_HEARTBEAT: Final = "c.heartbeat_time >= coalesce(s.heartbeat_time, '-infinity')"
_NEW_METRICS: Final = "c.metrics_time >= coalesce(s.metrics_time, '-infinity')"
_NEW_GPUS: Final = "c.gpu_time >= coalesce(s.gpu_time, '-infinity')"
_UPDATE_STATES: Final = f"""
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


async def _update_states(connection: "asyncpg.Connection[asyncpg.Record]", batch: Sequence[Arrival]) -> None:
    news: dict[int, _News] = defaultdict(_News)
    for arrival in batch:
        news[arrival.node_key].add(arrival)
    # In the order of their keys, so that two batches never wait for each other's rows in a circle.
    await connection.execute(_UPDATE_STATES, *zip(*(news[key].row(key) for key in sorted(news)), strict=True))


class _News:
    """What a batch tells about one node: its newest heartbeat, its newest metrics, when it was heard."""

    __slots__ = ("epoch", "heard_at", "heartbeat", "metrics", "metrics_at", "seen_at", "skew_ms")

    def __init__(self) -> None:
        self.epoch = -1
        self.seen_at: datetime | None = None
        self.heard_at: datetime | None = None
        self.metrics_at: datetime | None = None
        self.heartbeat: Arrival | None = None
        self.metrics: Arrival | None = None
        self.skew_ms: int | None = None

    def add(self, arrival: Arrival) -> None:
        self.epoch = max(self.epoch, arrival.epoch)
        self.seen_at = arrival.received_at
        if arrival.skew_ms is not None:
            self.skew_ms = arrival.skew_ms
        if arrival.kind is SampleKind.HEARTBEAT:
            self.heard_at = arrival.received_at
            self.heartbeat = _newer(self.heartbeat, arrival)
        else:
            self.metrics_at = arrival.received_at
            self.metrics = _newer(self.metrics, arrival)

    def row(self, node_key: int) -> Row:
        """The parameters of `_UPDATE_STATES` for this node."""
        heartbeat, metrics = self.heartbeat, self.metrics
        gpus = max((arrival for arrival in (heartbeat, metrics) if arrival and arrival.gpus), key=_time, default=None)
        gpu_metrics = metrics if metrics and metrics.gpus else None
        return (
            node_key,
            self.epoch,
            self.seen_at,
            self.heard_at,
            self.metrics_at,
            heartbeat and _time(heartbeat),
            metrics and _time(metrics),
            gpus and _time(gpus),
            _value(heartbeat, "cpu_usage"),
            _value(heartbeat, "ram_usage"),
            _value(heartbeat, "uptime_seconds"),
            _value(metrics, "memory_free"),
            _gpu_values(gpus, "utilization"),
            _gpu_values(gpus, "temperature"),
            _gpu_values(gpu_metrics, "memory_free"),
            _gpu_values(gpu_metrics, "power_usage"),
            self.skew_ms,
        )


def _places(fields: tuple[Field, ...]) -> dict[str, int]:
    return {field.column: place for place, field in enumerate(fields)}


_PLACES: Final = {SampleKind.HEARTBEAT: _places(HEARTBEAT_FIELDS), SampleKind.METRICS: _places(NODE_METRIC_FIELDS)}
_GPU_PLACES: Final = {
    SampleKind.HEARTBEAT: _places(GPU_HEARTBEAT_FIELDS),
    SampleKind.METRICS: _places(GPU_METRIC_FIELDS),
}


def _time(arrival: Arrival) -> datetime:
    return arrival.sample.time if arrival.sample else arrival.received_at


def _newer(one: Arrival | None, other: Arrival) -> Arrival | None:
    if other.sample is None:
        return one
    return other if one is None or _time(other) >= _time(one) else one


def _value(arrival: Arrival | None, column: str) -> Any:
    if arrival is None or arrival.sample is None:
        return None
    return arrival.sample.values[_PLACES[arrival.kind][column]]


def _gpu_values(arrival: Arrival | None, column: str) -> str | None:
    """One value of each GPU as an array literal, at the place of the GPU's number."""
    if arrival is None or arrival.sample is None:
        return None
    place = _GPU_PLACES[arrival.kind][column]
    values: list[int | None] = [None] * max(arrival.gpus, default=0)
    for gpu, reading in zip(arrival.gpus, arrival.sample.gpus, strict=True):
        values[gpu - 1] = reading.values[place]
    return "{" + str(values)[1:-1].replace("None", "NULL") + "}"
