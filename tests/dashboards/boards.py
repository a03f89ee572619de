"""The files that Grafana is given, and every query in them."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from tests.dashboards.expander import All, Value
from tests.dashboards.intervals import interval_of

FOLDER: Final = Path(__file__).parents[2] / "dashboards" / "grafana"
RULES: Final = FOLDER / "provisioning" / "alerting" / "rules.yaml"
DATA_SOURCE: Final = {"type": "grafana-postgresql-datasource", "uid": "aiwm"}
LEAST_INTERVAL: Final = timedelta(minutes=1)
"""The data source's `timeInterval`."""

COLUMN_PIXELS: Final = 75
"""A dashboard has 24 columns; on a screen of 1,920 pixels with the menu open they are about so wide."""

Json = dict[str, Any]


class Query(NamedTuple):
    """A query and where it stands; `owner` is the panel, variable, annotation or alert rule as the file has it."""

    place: str
    kind: str
    sql: str
    format: str
    owner: Json


def read_boards() -> dict[str, Json]:
    """Each dashboard by its file's name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))}


def panels(board: Json) -> Iterator[Json]:
    """Every panel that shows something, those of closed rows too."""
    for panel in board.get("panels", []):
        if panel.get("type") == "row":
            yield from panel.get("panels") or []
        else:
            yield panel


def variables(board: Json) -> list[Json]:
    """In the order in which Grafana asks for their values."""
    found: list[Json] = board.get("templating", {}).get("list", [])
    return found


def queries(board: Json) -> Iterator[Query]:
    """Of its variables, annotations and panels."""
    for variable in variables(board):
        if variable["type"] == "query":
            yield Query(f"variable {variable['name']!r}", "variable", str(variable.get("query")), "table", variable)
    for annotation in board.get("annotations", {}).get("list", []):
        if target := annotation.get("target"):
            yield Query(f"annotation {annotation['name']!r}", "annotation", *_asked(target), annotation)
    for panel in panels(board):
        for target in panel.get("targets", []):
            yield Query(f"panel {panel.get('title')!r}", "panel", *_asked(target), panel)


def _asked(target: Json) -> tuple[str, str]:
    return str(target.get("rawSql", "")), str(target.get("format", "time_series"))


def alert_queries(rules: str) -> Iterator[tuple[Query, timedelta]]:
    """Those of alert rules, with how far back each looks."""
    for group in yaml.safe_load(rules)["groups"]:
        for rule in group["rules"]:
            for asked in rule["data"]:
                if asked["datasourceUid"] != "__expr__":
                    length = timedelta(seconds=asked["relativeTimeRange"]["from"] - asked["relativeTimeRange"]["to"])
                    yield Query(f"alert {rule['title']!r}", "alert", *_asked(asked["model"]), rule), length


def default_range(board: Json) -> timedelta:
    """How long the range is that the dashboard opens with. Raises ValueError where it is not now-… to now."""
    start, end = board["time"]["from"], board["time"]["to"]
    if not start.startswith("now-") or end != "now":
        raise ValueError(f"A dashboard opens with now-… to now, not with {start} to {end}.")
    unit = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}[start[-1]]
    return timedelta(**{unit: int(start[len("now-") : -1])})


def interval(panel: Json, length: timedelta) -> timedelta:
    """`$__interval` of a panel over a range of this length."""
    points = panel.get("maxDataPoints") or panel.get("gridPos", {}).get("w", 24) * COLUMN_PIXELS
    return interval_of(length, int(points), LEAST_INTERVAL)


def chosen_at_first(board: Json, one: dict[str, str]) -> dict[str, Value]:
    """What a dashboard opens with: All where a variable has it, else what `one` says, else what was typed in."""
    return {variable["name"]: _first(variable, one) for variable in variables(board)}


def _first(variable: Json, one: dict[str, str]) -> Value:
    if variable.get("includeAll"):
        return All(variable["allValue"])
    if variable["type"] == "query":
        return one.get(variable["name"], "")
    return str(variable["current"]["value"])
