"""What this house asks of a dashboard beyond its shape; each rule yields sentences about what is broken."""

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from typing import Final

from tests.dashboards.boards import DATA_SOURCE, Json, Query, panels, queries, variables
from tests.dashboards.expander import without_comments

UIDS: Final = {
    "fleet": "aiwm-fleet",
    "gpu-utilisation": "aiwm-gpu-utilisation",
    "node": "aiwm-node",
    "health": "aiwm-health",
    "platform": "aiwm-platform",
}
"""By file; the portal links to them."""

ALL: Final = "'__all__'"
COLUMNS: Final = 24
SHARED_CROSSHAIR: Final = 1
WITHOUT_UNIT: Final = {"text"}
"""Panels that show no query."""


def broken(file: str, board: Json, boards: Mapping[str, Json]) -> Iterator[str]:
    """A sentence for each rule that a dashboard breaks; `boards` are all that a link may lead to."""
    yield from _of_board(file, board)
    for panel in panels(board):
        name = f"Panel {panel.get('title')!r}"
        yield from (f"{name} {sentence}" for sentence in _of_panel(panel))
    yield from _overlaps(board)
    yield from _of_variables(board)
    yield from _of_annotations(board)
    names = {variable["name"] for variable in variables(board)}
    for query in queries(board):
        yield from (f"The query of {query.place} {sentence}" for sentence in of_sql(query, names))
    yield from _of_links(board, {other["uid"]: other for other in boards.values()})


def _of_board(file: str, board: Json) -> Iterator[str]:
    if board.get("uid") != UIDS.get(file):
        yield f"{file}.json has the uid {board.get('uid')!r}; links name it {UIDS.get(file)!r}."
    if board.get("editable") is not False:
        yield f"{file}.json can be edited in the browser: set editable to false."
    if board.get("graphTooltip") != SHARED_CROSSHAIR:
        yield f"{file}.json does not share its crosshair: set graphTooltip to {SHARED_CROSSHAIR}."
    for field in ("title", "description", "time", "tags"):
        if not board.get(field):
            yield f"{file}.json has no {field}."
    ids = [str(panel.get("id")) for panel in panels(board)]
    if len(ids) != len(set(ids)):
        yield f"{file}.json gives the same id to several panels: {', '.join({one for one in ids if ids.count(one) > 1})}."


def _of_panel(panel: Json) -> Iterator[str]:
    for field in ("title", "description"):
        if not str(panel.get(field) or "").strip():
            yield f"has no {field}."
    if panel.get("type") in WITHOUT_UNIT:
        return
    if not panel.get("fieldConfig", {}).get("defaults", {}).get("unit"):
        yield "has no unit."
    if panel.get("datasource") != DATA_SOURCE:
        yield f"does not name the data source by uid: {panel.get('datasource')!r}."
    targets = panel.get("targets", [])
    if not targets:
        yield "asks for nothing: it has no target."
    ids = [target.get("refId") for target in targets]
    if len(ids) != len(set(ids)):
        yield f"has several targets with the same refId: {ids}."
    for target in targets:
        yield from _of_target(target)


def _of_target(target: Json) -> Iterator[str]:
    if target.get("datasource") != DATA_SOURCE:
        yield f"asks another data source in target {target.get('refId')!r}: {target.get('datasource')!r}."
    if not str(target.get("rawSql") or "").strip():
        yield f"has no SQL in target {target.get('refId')!r}."


def _overlaps(board: Json) -> Iterator[str]:
    for panel in board.get("panels", []):
        place = panel["gridPos"]
        if place["x"] + place["w"] > COLUMNS:
            yield f"Panel {panel.get('title')!r} is cut off: it ends behind column {COLUMNS}."
    for one, other in combinations(board.get("panels", []), 2):
        a, b = one["gridPos"], other["gridPos"]
        if (
            a["x"] < b["x"] + b["w"]
            and b["x"] < a["x"] + a["w"]
            and a["y"] < b["y"] + b["h"]
            and b["y"] < a["y"] + a["h"]
        ):
            yield f"Panels {one.get('title')!r} and {other.get('title')!r} overlap."


def _of_variables(board: Json) -> Iterator[str]:
    seen: set[str] = set()
    for variable in variables(board):
        name = f"Variable {variable['name']!r}"
        for field in ("label", "description"):
            if not variable.get(field):
                yield f"{name} has no {field}."
        if variable.get("multi") and not variable.get("includeAll"):
            yield f"{name} takes many values but has no All."
        if variable.get("includeAll") and variable.get("allValue") != ALL:
            yield f"{name} would spell All out: set allValue to {ALL}, not to {variable.get('allValue')!r}."
        if variable["type"] == "query":
            if variable.get("datasource") != DATA_SOURCE:
                yield f"{name} does not name the data source by uid: {variable.get('datasource')!r}."
            if not variable.get("refresh"):
                yield f"{name} never refreshes: it would keep the values that the file was written with."
            late = set(_NAMED.findall(str(variable.get("query")))) - seen
            if late:
                yield f"{name} depends on {', '.join(sorted(late))}, which come after it."
        seen.add(variable["name"])


def _of_annotations(board: Json) -> Iterator[str]:
    own = [one for one in board.get("annotations", {}).get("list", []) if not one.get("builtIn")]
    for annotation in own:
        name = f"Annotation {annotation.get('name')!r}"
        yield from (f"{name} {sentence}" for sentence in _of_target(annotation.get("target") or {}))
        sql = without_comments(str((annotation.get("target") or {}).get("rawSql")))
        if not re.search(r"\bLIMIT\s+\d+\s*$", sql, flags=re.IGNORECASE):
            yield f"{name} has no LIMIT: a bad day would draw a line for each event."
    has_nodes = any(variable["name"] == "node" for variable in variables(board))
    if has_nodes and not any("history.node_events" in str(one.get("target")) for one in own):
        yield "The dashboard shows nodes but no status events: it has no annotation from history.node_events."


_NAMED: Final = re.compile(r"\$\{(?!_)(\w+)[^}]*\}|\$(?!_)[a-z]\w*|\[\[\w+", flags=re.ASCII)
_WELL_NAMED: Final = re.compile(r"\$\{(\w+):sqlstring\}", flags=re.ASCII)
RAW_VIEWS: Final = ("gpu_metrics", "node_metrics", "heartbeats", "gpu_heartbeats")
RAW_SECONDS: Final = 172_800
"""As long as a range of raw rows may be, in seconds: a node has 2,880 heartbeats a day."""

_RAW: Final = re.compile(rf"\bhistory\.({'|'.join(RAW_VIEWS)})\b")
_BY_RANGE: Final = re.compile(r"\$__unixEpochTo\(\) - \$__unixEpochFrom\(\) <=? (\d+)")
_BY_TIME: Final = re.compile(r"\btime >=? [^<>=]*? - interval '(\d+) (second|minute|hour|day)s?'")
_UNIT_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}


def of_sql(query: Query, names: Collection[str]) -> Iterator[str]:
    """What is wrong with a query's text; `names` are the dashboard's variables."""
    sql = without_comments(query.sql)
    if ";" in sql:
        yield "holds more than one statement, or a semicolon at its end."
    for match in _NAMED.finditer(sql):
        well = _WELL_NAMED.fullmatch(match[0])
        if well is None:
            yield f"puts {match[0]} in without :sqlstring: quotes in a value would end the text."
        elif well[1] not in names:
            yield f"names the variable {well[1]!r}, which the dashboard does not have."
    if query.format == "time_series" and query.kind != "alert" and not re.search(r"\bORDER BY\b", sql):
        yield "is a time series without ORDER BY: Grafana refuses rows that do not ascend."
    for match in _RAW.finditer(sql):
        branch = re.split(r"\bUNION\b", sql[match.end() :])[0]
        if not any(seconds <= RAW_SECONDS for seconds in _bounds(branch)):
            yield f"reads history.{match[1]} over any range: bound its time to {RAW_SECONDS} s, or read a rollup."


def _bounds(branch: str) -> Iterator[int]:
    for match in _BY_RANGE.finditer(branch):
        yield int(match[1])
    for match in _BY_TIME.finditer(branch):
        yield int(match[1]) * _UNIT_SECONDS[match[2]]


_LINK: Final = re.compile(r'/d/([\w-]+)(?:/[\w-]+)?(?:\?([^\s"]*))?', flags=re.ASCII)


def _of_links(board: Json, by_uid: Mapping[str, Json]) -> Iterator[str]:
    for url in _texts(board):
        for match in _LINK.finditer(url):
            if match[1] not in by_uid:
                yield f"A link leads to {match[1]!r}, which is no dashboard: {url}."
                continue
            there = {variable["name"] for variable in variables(by_uid[match[1]])}
            for name in re.findall(r"\bvar-(\w+)=", match[2] or ""):
                if name not in there:
                    yield f"A link sets the variable {name!r}, which {match[1]} does not have: {url}."


def _texts(part: object) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict | list):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from _texts(inner)
