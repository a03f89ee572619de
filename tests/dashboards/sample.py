"""A small dashboard without a fault, for tests to break."""

from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, VariableOption, VariableRefresh
from msgspec import json

from dashboards.build.query import Format, Query
from tests.dashboards.boards import DATA_SOURCE, Json

SOURCE: Final = DataSourceRef(type_val=DATA_SOURCE["type"], uid=DATA_SOURCE["uid"])
CHOSEN: Final = "('__all__' IN (${node:sqlstring}) OR node_id IN (${node:sqlstring}))"
SERIES: Final = f"""
SELECT time, node_name AS metric, sum(power_usage_avg) AS watts FROM history.gpu_metrics_1h
WHERE $__timeFilter(time) AND {CHOSEN} GROUP BY time, node_name ORDER BY time
"""
ROWS: Final = (
    f'SELECT node_id, node_name AS "Node", status AS "Status" FROM history.nodes WHERE {CHOSEN} ORDER BY 2 LIMIT 10'
)
NUMBER: Final = f'SELECT count(*) AS "Nodes" FROM history.nodes WHERE {CHOSEN}'
EVENTS: Final = f"""
SELECT time, kind AS text FROM history.node_events
WHERE $__timeFilter(time) AND {CHOSEN} ORDER BY time DESC LIMIT 10
"""


def board() -> Json:
    """A fresh one each time, as its file would be."""
    link = dashboard.DashboardLink("Show it").url("/d/aiwm-fleet?var-node=${__data.fields.node_id}&${__url_time_range}")
    made = (
        dashboard.Dashboard("Sample")
        .uid("aiwm-fleet")
        .description("Without a fault.")
        .tags(["aiwm"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-24h", "now")
        .with_variable(
            dashboard.QueryVariable("node")
            .label("Node")
            .description("By name")
            .datasource(SOURCE)
            .query("SELECT node_name AS __text, node_id AS __value FROM history.nodes ORDER BY 1, 2 LIMIT 100")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value("'__all__'")
            .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
        )
        .annotation(
            dashboard.AnnotationQuery()
            .name("Events")
            .datasource(SOURCE)
            .enable(True)
            .icon_color("orange")
            .target(Query(EVENTS, Format.TABLE, "Anno"))
        )
        .with_panel(_with(timeseries.Panel().id(1), "Power", "watt", Query(SERIES, Format.TIME_SERIES)))
        .with_panel(
            _with(table.Panel().id(2), "Nodes", "string", Query(ROWS, Format.TABLE))
            .data_links([link])
            .override_by_name("Status", [])
        )
        .with_panel(_with(stat.Panel().id(3), "How many", "short", Query(NUMBER, Format.TABLE)))
    )
    decoded: Json = json.decode(JSONEncoder().encode(made.build()))
    return decoded


def _with(panel: Any, title: str, unit: str, query: Query) -> Any:
    return (
        panel.title(title).description(f"{title}.").unit(unit).datasource(SOURCE).with_target(query).span(8).height(8)
    )


def panel(board: Json, number: int) -> Json:
    """One of its panels."""
    found: Json = next(one for one in board["panels"] if one["id"] == number)
    return found


def target(board: Json, number: int) -> Json:
    """The query of one of its panels."""
    found: Json = panel(board, number)["targets"][0]
    return found
