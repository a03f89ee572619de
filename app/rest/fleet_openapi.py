"""The OpenAPI description of the fleet: examples, and the one parameter, which is parsed by hand."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Example, OpenAPIType, Operation, Parameter, Schema

from app.domain.fleet_questions import MAX_ORG_ID, MAX_TOP, PARAMETERS, SOURCES
from app.domain.ranges import Interval
from app.rest.exposition import MEDIA_TYPE
from app.rest.history_openapi import DESCRIPTION as HISTORY
from app.rest.history_openapi import FORMAT, also_as_table, described
from app.rest.parameters import number, one_of, query, some_of, text
from app.storage.fleet_series import GroupBy
from app.storage.measures import Aggregate
from app.storage.sources import GPU_METRICS, NODE_METRICS

SUMMARY: Final = {
    "time": "2025-11-21T10:05:00.000Z",
    "nodes": {
        "total": 4,
        "connected": 3,
        "byStatus": {"pending": 0, "installing": 1, "online": 2, "offline": 1, "maintenance": 0},
    },
    "gpus": {"total": 24, "online": 16, "byModel": [{"count": 24, "online": 16, "model": "NVIDIA A100"}]},
    "now": {
        "utilizationAvg": 63.1875,
        "temperatureAvg": 58.4,
        "temperatureMax": 72.5,
        "powerUsageSum": 4312.7,
        "memoryTotalSum": 1280,
        "memoryUsedSum": 810.5,
        "memoryFreeSum": 469.5,
    },
    "stale": {
        "count": 1,
        "nodes": [
            {"_id": "673e7a1f5c9d8e001234abcd", "name": "GPU-Worker-01", "lastHeartbeat": "2025-11-21T09:12:30.000Z"}
        ],
    },
}
_LABELS: Final = 'node_id="673e7a1f5c9d8e001234abcd",node_name="GPU-Worker-01",org_id="68dd05b175d9e3c17bf97f60"'
PROMETHEUS: Final = (
    "# HELP aiwm_node_cpu_usage_ratio CPU in use, 0 to 1.\n"
    "# TYPE aiwm_node_cpu_usage_ratio gauge\n"
    f"aiwm_node_cpu_usage_ratio{{{_LABELS}}} 0.452\n"
    "# HELP aiwm_gpu_power_usage_watts Power that the GPU draws.\n"
    "# TYPE aiwm_gpu_power_usage_watts gauge\n"
    f'aiwm_gpu_power_usage_watts{{{_LABELS},device_id="GPU-0",gpu_model="NVIDIA A100"}} 250.0\n'
)


def text_answer(description: str, example: str) -> ResponseSpec:
    """A successful answer that is text for Prometheus."""
    return ResponseSpec(
        str,
        generate_examples=False,
        description=description,
        media_type=MEDIA_TYPE,
        examples=[Example(summary="an excerpt", value=example)],
    )


_ORG: Final = query("orgId", "Only nodes of this org; for admins", text(MAX_ORG_ID))


@dataclass
class FleetOperation(Operation):
    """GET /fleet/…: its parameter is parsed by hand, so that an unknown one is named."""

    def __post_init__(self) -> None:
        self.parameters = [_ORG]


METRICS: Final = {
    "from": "2025-11-14T10:00:00.000Z",
    "to": "2025-11-21T10:00:00.000Z",
    "interval": "1d",
    "source": "gpu_metrics_1d",
    "series": [
        {
            "nodeId": "673e7a1f5c9d8e001234abcd",
            "deviceId": "GPU-0",
            "field": "temperature",
            "agg": "avg",
            "points": [["2025-11-14T00:00:00.000Z", 78.4], ["2025-11-15T00:00:00.000Z", 81.2]],
        }
    ],
}
METRICS_DESCRIPTION: Final = (
    "Over all nodes that the caller may see, deleted ones in their time included: one series for each group, field "
    "and aggregate. avg, min, max, count, last and percentiles are over all samples of a group; sum adds up the "
    "averages of its nodes or GPUs, so that watts stay watts; rate and increase add up the nodes' counters. "
    "With `top` there are only the groups that come first by `orderBy` over the whole range, in that order. " + HISTORY
)


@dataclass
class FleetMetricsOperation(Operation):
    """GET /fleet/metrics."""

    def __post_init__(self) -> None:
        node, gpu = ([field.name for field in source.fields] for source in (NODE_METRICS, GPU_METRICS))
        known = {
            **described(dict.fromkeys([*gpu, *node]), [each for each in Interval if each is not Interval.RAW]),
            **{parameter.name: parameter for parameter in _of_fleet(node, gpu)},
        }
        self.parameters = [*(known[name] for name in PARAMETERS), FORMAT]
        also_as_table(self)


def _of_fleet(node: list[str], gpu: list[str]) -> Iterator[Parameter]:
    fields = dict.fromkeys([*gpu, *node])
    about = f"Comma list of {', '.join(gpu)} (of GPUs) and {', '.join(node)} (of nodes); default all of `of`"
    yield query("fields", about, some_of(fields), "utilization")
    yield query(
        "of", "node or gpu: whose fields are meant where both have the name; default gpu", one_of(SOURCES), "gpu"
    )
    yield query(
        "groupBy",
        f"One of {', '.join(GroupBy)}; default none. A node is in each of its roles",
        one_of(GroupBy, GroupBy.NONE),
        "gpu",
    )
    yield query("top", "Only the first groups by orderBy", number(MAX_TOP), 10)
    order = Schema(type=OpenAPIType.STRING, pattern=rf"^({'|'.join(fields)})(:({'|'.join(Aggregate)}))?(:(asc|desc))?$")
    yield query("orderBy", "What top goes by: field, field:agg or field:agg:asc; default the first", order)
    yield _ORG
