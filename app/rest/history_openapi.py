"""The OpenAPI description of a node's history: examples, and parameters that are parsed by hand."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Parameter, Schema

from app.domain.fills import Fill
from app.domain.plans import MAX_POINTS, MAX_POINTS_A_SERIES
from app.domain.questions import GPU_DETAIL_HISTORY, GPU_HISTORY, HEARTBEAT_HISTORY, NODE_HISTORY, Subject
from app.domain.ranges import AUTO_POINTS, MOMENT_FORMS, Interval
from app.quantities import THROTTLE_REASONS
from app.rest.format import MEDIA_TYPES, PARAMETER, Format
from app.rest.parameters import ANY_TEXT, MOMENT, one_of, query, some_of
from app.storage.measures import Aggregate

NODE_METRICS: Final = {
    "from": "2025-11-21T10:00:00.000Z",
    "to": "2025-11-21T11:00:00.000Z",
    "interval": "1m",
    "source": "node_metrics",
    "series": [
        {
            "field": "cpuUsage",
            "agg": "avg",
            "points": [["2025-11-21T10:00:00.000Z", 45.2], ["2025-11-21T10:01:00.000Z", 47.5]],
        }
    ],
}
GPU_METRICS: Final = NODE_METRICS | {
    "source": "gpu_metrics",
    "series": [
        {
            "deviceId": "GPU-0",
            "field": "utilization",
            "agg": "avg",
            "points": [["2025-11-21T10:00:00.000Z", 85.0], ["2025-11-21T10:01:00.000Z", 79.3]],
        }
    ],
}
GPU_DETAILS: Final = NODE_METRICS | {
    "source": "gpu_details",
    "series": [
        {
            "deviceId": "GPU-0",
            "field": "energy",
            "agg": "rate",
            "points": [["2025-11-21T10:00:00.000Z", 251.3], ["2025-11-21T10:01:00.000Z", 249.8]],
        },
        {
            "deviceId": "GPU-0",
            "field": "throttleReasons",
            "agg": "last",
            "points": [["2025-11-21T10:00:00.000Z", "power_cap,sw_thermal"], ["2025-11-21T10:01:00.000Z", ""]],
        },
    ],
}
HEARTBEATS: Final = NODE_METRICS | {
    "source": "heartbeats",
    "series": [
        {"field": "status", "agg": "last", "points": [["2025-11-21T10:00:00.000Z", "online"]]},
        {
            "deviceId": "GPU-0",
            "field": "temperature",
            "agg": "avg",
            "points": [["2025-11-21T10:00:00.000Z", 72.5]],
        },
    ],
}
DESCRIPTION: Final = (
    "Points are bucket starts (UTC) with a value, oldest first; what was not measured has no point. "
    f"At most {MAX_POINTS_A_SERIES:,} points a series and {MAX_POINTS:,} in all, else 400 says which interval would do. "
    "As csv, parquet or arrow the answer is a table in the columns of the SQL views (docs/sql.md): a row for each "
    "bucket and device, or of interval=raw for each sample, in the order of time, without limits of number or time. "
    "Units: % and °C to 0.1, W to 0.1, GB (2^30 bytes) to 0.001, bytes to 1; averages have up to four decimals."
)
DETAILS_DESCRIPTION: Final = (
    "For nodes whose workers use the extension `gpuDetails`; always from samples, kept as long as metrics are. "
    f"`throttleReasons` is text: of {', '.join(THROTTLE_REASONS)} those that hold, with commas between them, empty where "
    "none does. The rate of `energy`, in J, is the power in W, averaged over the time between samples. Units: MHz to 1, "
    "% to 0.1, bytes/s to 1, J to 1. Otherwise as the metrics of GPUs. " + DESCRIPTION
)

INTERVAL: Final = (
    "What one point sums up. `raw`: nothing, each point is a sample, whose every aggregate is its value. "
    f"`auto`, the default: the finest bucket that keeps a series under {AUTO_POINTS:,} points"
)


AGGREGATES: Final = (
    f"Comma list of {', '.join(Aggregate)}; default avg, and last for text, which only last and count fit; "
    "rate (a second) and increase are of counters, aware of restarts"
)

TZ: Final = (
    "The time zone whose midnights part the days of interval=1d; default UTC. Where nothing finer than hours is kept, an "
    "hour that a midnight cuts (in Asia/Kolkata, say) counts in the day in which it starts"
)
FORMAT: Final = query(
    PARAMETER,
    "What the answer is written in; without it, what `Accept` prefers of the same",
    one_of(Format, Format.JSON),
)


def described(fields: Iterable[str], intervals: Iterable[Interval] = Interval) -> Mapping[str, Parameter]:
    """The parameters that a question about these fields may have, whoever is asked, by their names."""
    parameters = (
        query("from", "First moment, inclusive; default one hour before `to`. " + MOMENT_FORMS, MOMENT, "now-6h"),
        query("to", "Last moment, exclusive; default now. The same forms", MOMENT, "now"),
        query("interval", INTERVAL, one_of(intervals, Interval.AUTO), "5m"),
        query("tz", TZ, ANY_TEXT, "Asia/Ho_Chi_Minh"),
        query("agg", AGGREGATES, some_of(Aggregate), "avg,max"),
        query("fields", "Comma list of " + ", ".join(fields), some_of(fields)),
        query("deviceId", "Only this GPU", ANY_TEXT, "GPU-0"),
        query(
            "fill",
            "Where nothing was measured: no point, null, the last value, or a line between neighbours; not of `raw`, "
            "and not of tables (`format`), which have rows only for what was measured",
            one_of(Fill, Fill.NONE),
            "null",
        ),
    )
    return {parameter.name: parameter for parameter in parameters}


def also_as_table(operation: Operation) -> None:
    """Describe the other forms of an answer; Litestar asks for one media type of a handler."""
    answered = (operation.responses or {}).get("200")
    if isinstance(answered, OpenAPIResponse) and answered.content is not None:
        for format_, media_type in MEDIA_TYPES.items():
            kind = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, description=f"format={format_}: a table"))
            answered.content.setdefault(media_type, kind)


@dataclass
class _HistoryOperation(Operation):
    """Its parameters are parsed by hand, since every wrong one is named at once; a subclass says whose they are."""

    subject: ClassVar[Subject]

    def __post_init__(self) -> None:
        known = described([field.name for field in self.subject.fields])
        self.parameters = [*(self.parameters or []), *(known[name] for name in self.subject.parameters), FORMAT]
        also_as_table(self)


@dataclass
class NodeHistoryOperation(_HistoryOperation):
    """GET /nodes/{id}/metrics."""

    subject = NODE_HISTORY


@dataclass
class GpuHistoryOperation(_HistoryOperation):
    """GET /nodes/{id}/gpus/metrics."""

    subject = GPU_HISTORY


@dataclass
class GpuDetailHistoryOperation(_HistoryOperation):
    """GET /nodes/{id}/gpus/details."""

    subject = GPU_DETAIL_HISTORY


@dataclass
class HeartbeatHistoryOperation(_HistoryOperation):
    """GET /nodes/{id}/heartbeats."""

    subject = HEARTBEAT_HISTORY
