"""A dashboard with what its queries return, for the range that it opens with."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from dashboards.pictures.frames import Frame, frame
from tests.dashboards.expander import All, TimeRange, Value, expand
from tests.dashboards.intervals import interval_of, parse_interval

WIDTH: Final = 1600
"""Of a picture, in pixels."""
LEAST: Final = timedelta(minutes=1)
"""The data source's `timeInterval`."""


# Grafana asks while the fleet reports; filling a database takes minutes. For the queries of the panels, as they stand,
# time stops when it began: this `now` is found before PostgreSQL's own.
_STAND_STILL: Final = """
    CREATE SCHEMA IF NOT EXISTS pictures;
    CREATE TABLE pictures.present AS SELECT '{now}'::timestamptz AS now;
    CREATE FUNCTION pictures.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now FROM pictures.present';
    SET search_path = pictures, pg_catalog, public;
    SET timezone = 'UTC'
"""


async def stand_still(connection: "asyncpg.Connection[asyncpg.Record]", now: datetime) -> None:
    """Let `now()` be that moment for the queries of this connection."""
    await connection.execute(_STAND_STILL.format(now=now.isoformat()))


async def answered(
    connection: "asyncpg.Connection[asyncpg.Record]", dashboard: Mapping[str, Any], now: datetime, node: str
) -> dict[str, Any]:
    """The dashboard, its range and choices, and with each panel its `frames`. `node` is chosen where one must be."""
    start = now - parse_interval(dashboard["time"]["from"].removeprefix("now-"), now)
    time_range = TimeRange(start, now)
    listed = dashboard["templating"]["list"]
    chosen = {variable["name"]: _chosen(variable, node) for variable in listed}

    async def ask(target: Mapping[str, Any], interval: timedelta) -> Frame:
        sql = expand(target["rawSql"], chosen, time_range, interval).sql
        statement = await connection.prepare(sql)
        columns = [(column.name, column.type.name) for column in statement.get_attributes()]
        rows = [tuple(row) for row in await statement.fetch()]
        return frame(target["refId"], columns, rows, is_series=target["format"] == "time_series")

    panels = []
    for panel in dashboard["panels"]:
        interval = interval_of(now - start, WIDTH * panel["gridPos"]["w"] // 24, LEAST)
        panels.append(panel | {"frames": [await ask(target, interval) for target in panel.get("targets", ())]})
    annotations = [
        {"color": it["iconColor"], "frame": await ask(it["target"], LEAST)}
        for it in dashboard["annotations"]["list"]
        if not it.get("builtIn")
    ]
    return {
        "title": dashboard["title"],
        "from": int(start.timestamp() * 1000),
        "to": int(now.timestamp() * 1000),
        "variables": [{"label": it["label"], "text": await _shown(connection, it, node)} for it in listed],
        "annotations": annotations,
        "panels": panels,
    }


def _chosen(variable: Mapping[str, Any], node: str) -> Value:
    if variable["type"] == "textbox":
        return str(variable["current"]["value"])
    if variable.get("includeAll"):
        return All(variable["allValue"])
    return node


async def _shown(connection: "asyncpg.Connection[asyncpg.Record]", variable: Mapping[str, Any], node: str) -> str:
    """What stands in its box."""
    if variable["type"] == "textbox":
        return str(variable["current"]["text"])
    if variable.get("includeAll"):
        return "All"
    return str(await connection.fetchval("SELECT node_name FROM history.nodes WHERE node_id = $1", node))
