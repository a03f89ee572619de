"""The fleet now: /fleet/summary for people and portals, /fleet/prometheus for those who run Prometheus."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.response import Stream
from msgspec import UNSET, UnsetType

from app.clock import timestamp
from app.domain.fleet import MAX_STALE, Fleet, FleetSummary
from app.domain.fleet_history import FleetHistory
from app.domain.fleet_questions import parse_org_id
from app.errors import InvalidRequest
from app.model import Caller, NodeStatus
from app.rest import fleet_openapi as described
from app.rest.exposition import MEDIA_TYPE
from app.rest.fleet_metrics import exposition
from app.rest.fleet_openapi import FleetMetricsOperation, FleetOperation, text_answer
from app.rest.format import Format
from app.rest.history import HistoryAnswer, in_json, in_table
from app.rest.openapi import answer, error_responses
from app.rest.schemas import NodeId, Timestamp
from app.rest.tables import asked_format
from app.storage.fleet import GpusNow


class NodeCounts(msgspec.Struct, frozen=True, rename="camel"):
    """How many nodes there are, and how many of them have an open socket."""

    total: int
    connected: int
    by_status: dict[NodeStatus, int]


class ModelCount(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The GPUs of one model, and how many of them are on online nodes; no `model` where none was ever told."""

    count: int
    online: int
    model: str | UnsetType = UNSET


class GpuCounts(msgspec.Struct, frozen=True, rename="camel"):
    """How many GPUs there are, and how many of them are on online nodes."""

    total: int
    online: int
    by_model: list[ModelCount]


class Measured(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the GPUs of online nodes measure: %, °C, W, GB. What none of them tells is left out."""

    utilization_avg: float | UnsetType = UNSET
    temperature_avg: float | UnsetType = UNSET
    temperature_max: float | UnsetType = UNSET
    power_usage_sum: float | UnsetType = UNSET
    memory_total_sum: float | UnsetType = UNSET
    memory_used_sum: float | UnsetType = UNSET
    memory_free_sum: float | UnsetType = UNSET

    @classmethod
    def of(cls, now: GpusNow) -> "Measured":
        """Present values as the API shows them."""
        return cls(**{name: value for name, value in msgspec.structs.asdict(now).items() if value is not None})


class StaleNodeAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """A node that should be heard and is not."""

    id: NodeId = msgspec.field(name="_id")
    name: str
    last_heartbeat: Timestamp


class StaleNodes(msgspec.Struct, frozen=True):
    """How many there are, and the longest silent of them."""

    count: int
    nodes: list[StaleNodeAnswer]


class FleetSummaryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet in numbers at `time`."""

    time: Timestamp
    nodes: NodeCounts
    gpus: GpuCounts
    now: Measured
    stale: StaleNodes

    @classmethod
    def of(cls, summary: FleetSummary) -> "FleetSummaryAnswer":
        """A summary as the API shows it."""
        models = summary.models
        stale = [StaleNodeAnswer(node.id, node.name, timestamp(node.last_heartbeat)) for node in summary.stale]
        return cls(
            time=timestamp(summary.time),
            nodes=NodeCounts(sum(summary.by_status.values()), summary.connected, summary.by_status),
            gpus=GpuCounts(
                sum(each.count for each in models),
                sum(each.online for each in models),
                [ModelCount(each.count, each.online, UNSET if each.model is None else each.model) for each in models],
            ),
            now=Measured.of(summary.now),
            stale=StaleNodes(summary.stale_count, stale),
        )


_ERRORS: Final = error_responses(400, 401, 403, 503)


class FleetController(Controller):
    """Each handler: check what came, ask the service, show what it says."""

    path = "/fleet"
    tags: Sequence[str] | None = ("fleet",)

    @get(
        "/summary",
        operation_id="getFleetSummary",
        summary="The fleet now, in numbers",
        description=(
            "Over the nodes that the caller may see: how many there are of each status, their GPUs by model, what the "
            "GPUs of online nodes measure now, and the stale nodes: registered, not in maintenance, and not heard for "
            f"longer than the heartbeat timeout, the longest silent {MAX_STALE} first. What was not measured is left "
            "out, never 0."
        ),
        operation_class=FleetOperation,
        responses={200: answer(FleetSummaryAnswer, "The summary", described.SUMMARY), **_ERRORS},
    )
    async def summary(
        self, request: Request[Caller, None, Any], fleet: NamedDependency[Fleet], caller: NamedDependency[Caller]
    ) -> FleetSummaryAnswer:
        """GET /fleet/summary."""
        return FleetSummaryAnswer.of(await fleet.summary(caller, _org_asked(request)))

    @get(
        "/metrics",
        operation_id="getFleetMetrics",
        summary="Metrics of the fleet over time",
        description=described.METRICS_DESCRIPTION,
        operation_class=FleetMetricsOperation,
        responses={200: answer(HistoryAnswer, "Series of the groups asked for", described.METRICS), **_ERRORS},
    )
    async def metrics(
        self,
        request: Request[Caller, None, Any],
        fleet_history: NamedDependency[FleetHistory],
        caller: NamedDependency[Caller],
    ) -> Response[Any]:
        """GET /fleet/metrics."""
        format_, parameters = asked_format(request)
        if format_ is not Format.JSON:
            return await in_table(request, fleet_history.export(caller, parameters), format_)
        return await in_json(request, fleet_history.read(caller, parameters))

    @get(
        "/prometheus",
        operation_id="getFleetPrometheus",
        summary="The fleet now, for Prometheus",
        description=(
            "The present state of every node and GPU that the caller may see, in Prometheus' text format, base units. "
            "What a node measures is there while it is online (or in maintenance and heard within the heartbeat "
            "timeout); what was not measured has no line. The scrape needs a portal token (`authorization` in the "
            "scrape configuration); `viewer` suffices."
        ),
        operation_class=FleetOperation,
        responses={200: text_answer("The metrics", described.PROMETHEUS), **_ERRORS},
    )
    async def prometheus(
        self, request: Request[Caller, None, Any], fleet: NamedDependency[Fleet], caller: NamedDependency[Caller]
    ) -> Stream:
        """GET /fleet/prometheus."""
        present = await fleet.present(caller, _org_asked(request))
        # An iterator that is not asynchronous is worked off beside the event loop, which also answers heartbeats.
        return Stream(exposition(present), media_type=MEDIA_TYPE)


def _org_asked(request: Request[Caller, None, Any]) -> str | None:
    """The `orgId` of a query string that may have nothing else. Raises InvalidRequest."""
    org_id: str | None = None
    for name, text in request.query_params.multi_items():
        if name != "orgId":
            raise InvalidRequest.of(name, "is not a parameter here")
        if org_id is not None:
            raise InvalidRequest.of(name, "is given more than once")
        org_id = parse_org_id(text)
    return org_id
