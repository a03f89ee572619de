"""What all dashboards have: a fixed uid, a shared crosshair, links to one another, and what happened to nodes."""

from collections.abc import Iterable, Sequence
from typing import Final

from grafana_foundation_sdk.builders.dashboard import AnnotationQuery, Dashboard, DashboardLink, Row, TimePicker
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import Dashboard as Board
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
    RowPanel,
    VariableModel,
)

from dashboards.build.query import DATA_SOURCE, Format, Query
from dashboards.build.sql import chosen, nodes_chosen

TAG: Final = "aiwm"

Rows = Iterable[tuple[str, Sequence[Builder[Panel]]]]
"""Panels under a heading; without one they stand at the top."""


def board(
    uid: str,
    title: str,
    description: str,
    *,
    since: str,
    refresh: str,
    variables: Sequence[Builder[VariableModel]],
    annotations: Sequence[AnnotationQuery],
    rows: Rows,
) -> Board:
    """A whole dashboard, which nobody edits in the browser by accident."""
    made = (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh(refresh)
        .timepicker(TimePicker().refresh_intervals(["30s", "1m", "5m", "15m", "1h"]))
        .variables([*variables])
        .annotations([_alerts(), *annotations])
        .link(
            DashboardLink("Dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)
            .keep_time(True)
            .include_vars(True)
        )
    )
    for heading, panels in rows:
        if heading:
            made.with_row(Row(heading))
        for panel in panels:
            made.with_panel(panel)
    return _numbered(made.build())


def went_and_came_back() -> AnnotationQuery:
    """The chosen nodes going offline and coming back."""
    return _statuses(
        "Offline and back",
        "node_name || ' is ' || (detail ->> 'to') || coalesce(': ' || (detail ->> 'reason'), '')",
        f"detail ->> 'to' IN ('offline', 'online') AND detail ->> 'from' IN ('offline', 'online')\n  AND {nodes_chosen()}",
    )


def statuses_of_node() -> AnnotationQuery:
    """Every status that one node came to have."""
    return _statuses(
        "Status",
        "(detail ->> 'to') || coalesce(': ' || (detail ->> 'reason'), '')",
        chosen("node", "node_id"),
    )


def _statuses(name: str, text: str, where: str) -> AnnotationQuery:
    sql = f"""
SELECT time, {text} AS text, detail ->> 'to' AS tags
FROM history.node_events
WHERE kind = 'status' AND $__timeFilter(time)
  AND {where}
ORDER BY time DESC
LIMIT 100
"""
    query = Query(sql, Format.TABLE, "Anno")
    return AnnotationQuery().name(name).datasource(DATA_SOURCE).enable(True).icon_color("orange").target(query)


def _alerts() -> AnnotationQuery:
    """Grafana's own, which show when alerts fired."""
    return (
        AnnotationQuery()
        .name("Annotations & Alerts")
        .datasource(DataSourceRef(type_val="grafana", uid="-- Grafana --"))
        .enable(True)
        .hide(True)
        .built_in(1)
        .icon_color("rgba(0, 211, 255, 1)")
        .type("dashboard")
    )


def _numbered(board: Board) -> Board:
    """Panels have numbers, by which links name them."""
    for number, panel in enumerate(board.panels or (), 1):
        if isinstance(panel, Panel | RowPanel):
            panel.id_val = number
    return board
