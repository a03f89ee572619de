"""A node's history: /nodes/:id/metrics, /nodes/:id/gpus/metrics, /nodes/:id/gpus/details, /nodes/:id/heartbeats."""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import msgspec
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from msgspec import UNSET, UnsetType

from app.clock import timestamp
from app.domain.exports import Export
from app.domain.fills import Fill
from app.domain.history import History
from app.domain.questions import GPU_DETAIL_HISTORY, GPU_HISTORY, HEARTBEAT_HISTORY, NODE_HISTORY, Subject
from app.domain.ranges import Interval
from app.domain.series import Series, SeriesFound
from app.model import Caller
from app.rest import history_openapi as described
from app.rest.departures import unless_gone
from app.rest.format import Format
from app.rest.history_openapi import (
    GpuDetailHistoryOperation,
    GpuHistoryOperation,
    HeartbeatHistoryOperation,
    NodeHistoryOperation,
)
from app.rest.node_id import PathId, checked
from app.rest.openapi import answer, error_responses
from app.rest.schemas import Timestamp
from app.rest.tables import asked_format, table
from app.storage.measures import Aggregate

Point = tuple[Timestamp, float | int | str | None]


class SeriesAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One field by one aggregate, of a node, a device or a group; points in order, oldest first."""

    node_id: str | UnsetType = UNSET
    device_id: str | UnsetType = UNSET
    group: str | UnsetType = UNSET
    field: str
    agg: Aggregate
    points: list[Point]


class HistoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Series over a range. `interval` is the one that was picked, `source` the table that served the answer."""

    from_: Timestamp = msgspec.field(name="from")
    to: Timestamp
    interval: Interval
    source: str
    series: list[SeriesAnswer]

    @classmethod
    def of(cls, history: SeriesFound) -> "HistoryAnswer":
        """A history as the API shows it."""
        return cls(
            from_=timestamp(history.time_range.start),
            to=timestamp(history.time_range.end),
            interval=history.interval,
            source=history.source,
            series=list(_series_answers(history.series, with_nulls=history.fill is not Fill.NONE)),
        )


def _series_answers(series: Iterable[Series], *, with_nulls: bool) -> Iterator[SeriesAnswer]:
    """What has no value has no point, unless nulls are asked for. Each time is written once, however many series have it."""
    written: dict[datetime, str] = {}
    for times, sharing in groupby(series, key=attrgetter("times")):
        texts = [written.get(time) or written.setdefault(time, timestamp(time)) for time in times]
        for each in sharing:
            points = [
                (text, value) for text, value in zip(texts, each.values, strict=True) if with_nulls or value is not None
            ]
            yield SeriesAnswer(
                node_id=each.of.node_id or UNSET,
                device_id=UNSET if each.of.device_id is None else each.of.device_id,
                group=UNSET if each.of.group is None else each.of.group,
                field=each.measure.field.name,
                agg=each.measure.aggregate,
                points=points,
            )


_ERRORS: Final = error_responses(400, 401, 403, 404, 503)


class HistoryController(Controller):
    """Each handler: check what came, ask the service, show what it says."""

    path = "/nodes/{node_id:str}"
    tags: Sequence[str] | None = ("history",)

    @get(
        "/metrics",
        operation_id="getNodeMetrics",
        summary="Metrics of a node over time",
        description=described.DESCRIPTION,
        operation_class=NodeHistoryOperation,
        responses={200: answer(HistoryAnswer, "The node's metrics", described.NODE_METRICS), **_ERRORS},
    )
    async def node_metrics(
        self,
        request: Request[Caller, None, Any],
        history: NamedDependency[History],
        caller: NamedDependency[Caller],
        node_id: PathId,
    ) -> Response[Any]:
        """GET /nodes/:id/metrics."""
        return await _answered(history, NODE_HISTORY, caller, node_id, request)

    @get(
        "/gpus/metrics",
        operation_id="getGpuMetrics",
        summary="Metrics of a node's GPUs over time",
        description=described.DESCRIPTION,
        operation_class=GpuHistoryOperation,
        responses={200: answer(HistoryAnswer, "The metrics of each device", described.GPU_METRICS), **_ERRORS},
    )
    async def gpu_metrics(
        self,
        request: Request[Caller, None, Any],
        history: NamedDependency[History],
        caller: NamedDependency[Caller],
        node_id: PathId,
    ) -> Response[Any]:
        """GET /nodes/:id/gpus/metrics."""
        return await _answered(history, GPU_HISTORY, caller, node_id, request)

    @get(
        "/gpus/details",
        operation_id="getGpuDetails",
        summary="What workers tell of GPUs beside their metrics, over time",
        description=described.DETAILS_DESCRIPTION,
        operation_class=GpuDetailHistoryOperation,
        responses={200: answer(HistoryAnswer, "The details of each device", described.GPU_DETAILS), **_ERRORS},
    )
    async def gpu_details(
        self,
        request: Request[Caller, None, Any],
        history: NamedDependency[History],
        caller: NamedDependency[Caller],
        node_id: PathId,
    ) -> Response[Any]:
        """GET /nodes/:id/gpus/details."""
        return await _answered(history, GPU_DETAIL_HISTORY, caller, node_id, request)

    @get(
        "/heartbeats",
        operation_id="getNodeHeartbeats",
        summary="Heartbeats of a node over time",
        description=described.DESCRIPTION,
        operation_class=HeartbeatHistoryOperation,
        responses={
            200: answer(HistoryAnswer, "The node's heartbeats, and each device's", described.HEARTBEATS),
            **_ERRORS,
        },
    )
    async def heartbeats(
        self,
        request: Request[Caller, None, Any],
        history: NamedDependency[History],
        caller: NamedDependency[Caller],
        node_id: PathId,
    ) -> Response[Any]:
        """GET /nodes/:id/heartbeats."""
        return await _answered(history, HEARTBEAT_HISTORY, caller, node_id, request)


async def _answered(
    history: History, subject: Subject, caller: Caller, node_id: str, request: Request[Caller, None, Any]
) -> Response[Any]:
    format_, parameters = asked_format(request)
    if format_ is not Format.JSON:
        return await in_table(request, history.export(subject, caller, checked(node_id), parameters), format_)
    return await in_json(request, history.read(subject, caller, checked(node_id), parameters))


async def in_table(
    request: Request[Caller, None, Any], exporting: Coroutine[Any, Any, Export], format_: Format
) -> Response[Any]:
    """The answer of a history service as a table, unless the client goes away meanwhile."""
    return await unless_gone(request, table(await unless_gone(request, exporting), format_))


async def in_json(
    request: Request[Caller, None, Any], reading: Coroutine[Any, Any, SeriesFound]
) -> Response[HistoryAnswer]:
    """The answer of a history service in JSON, unless the client goes away meanwhile."""
    found = await unless_gone(request, reading)
    # Up to a million points: beside the event loop, which also answers heartbeats.
    return Response(await asyncio.to_thread(HistoryAnswer.of, found), headers={"Vary": "Accept"})
