"""Whether the rows of a query are what Grafana can show in its panel.

A time series needs a column that is called `time`, ascending and never NULL; text becomes labels, numbers values.
What a panel refers to (overrides, links, what it sorts by) has to be a column of its answer.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from tests.dashboards.boards import Json, Query

NUMBERS: Final = {"int2", "int4", "int8", "float4", "float8", "numeric"}
MOMENTS: Final = {"timestamptz", "timestamp", "date"}
UNREADABLE: Final = {"interval": "give seconds", "unknown": "cast it"}
"""Types that Grafana shows otherwise than one thinks."""

OF_SERIES: Final = {"timeseries", "heatmap"}
OF_NUMBERS: Final = {"stat", "gauge", "bargauge", "timeseries", "heatmap", "barchart", "piechart", "histogram"}


class Answer(NamedTuple):
    """Columns with PostgreSQL's names of their types, and rows."""

    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Any]]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.columns]

    @property
    def numbers(self) -> list[str]:
        return [name for name, type_ in self.columns if type_ in NUMBERS and name != "time"]


def unfit(query: Query, answer: Answer) -> Iterator[str]:
    """A sentence for each thing about the answer that its panel cannot show."""
    names = answer.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        yield f"{query.place} has several columns called {', '.join(twice)}."
    for name, type_ in answer.columns:
        if type_ in UNREADABLE:
            yield f"{query.place} has a column {name!r} of type {type_}: {UNREADABLE[type_]}."
    if query.format == "time_series" and query.kind == "panel":
        yield from _series(query, answer)
    if query.kind == "annotation" and not {"time", "text"} <= set(names):
        yield f"{query.place} needs the columns time and text, and has {', '.join(names)}."
    if query.kind == "variable":
        yield from _options(query, answer)
    if query.kind == "panel":
        yield from _panel(query, answer)


def _series(query: Query, answer: Answer) -> Iterator[str]:
    if "time" not in answer.names:
        yield f"{query.place} is a time series without a column called time: it has {', '.join(answer.names)}."
        return
    place = answer.names.index("time")
    if answer.columns[place][1] not in MOMENTS:
        yield f"{query.place} has a time of type {answer.columns[place][1]}."
    drawn = [name for name, type_ in answer.columns if type_ in {*MOMENTS, "bool"} and name != "time"]
    if drawn:
        yield f"{query.place} would draw {', '.join(drawn)} as a number: it is none."
    times = [row[place] for row in answer.rows]
    if any(time is None for time in times):
        yield f"{query.place} has a NULL as its time."
    elif any(later < earlier for earlier, later in pairwise(times)):
        yield f"{query.place} does not ascend by time."


def _options(query: Query, answer: Answer) -> Iterator[str]:
    if len(answer.columns) > 1 and set(answer.names) != {"__text", "__value"}:
        yield f"{query.place} needs one column, or __text and __value; it has {', '.join(answer.names)}."
    others = [type_ for _, type_ in answer.columns if type_ not in {"text", "varchar"}]
    if others:
        yield f"{query.place} gives values that are no text: {', '.join(others)}."
    if any(value is None for row in answer.rows for value in row):
        yield f"{query.place} offers NULL as a value."


def _panel(query: Query, answer: Answer) -> Iterator[str]:
    panel = query.owner
    kind = panel["type"]
    if kind in OF_SERIES and query.format != "time_series":
        yield f"{query.place} is a {kind} and asks for a {query.format}."
    if kind in OF_NUMBERS and not answer.numbers and not _shows_text(panel):
        yield f"{query.place} is a {kind} without a number: {', '.join(map(' '.join, answer.columns))}."
    if kind == "barchart" and panel["options"].get("xField") not in answer.names:
        yield f"{query.place} names its bars by {panel['options'].get('xField')!r}, which is no column."
    if kind == "state-timeline":
        yield from _timeline(query, answer)
    # Of series, labels become names; of rows, columns are the names.
    shown = set(answer.names) if query.format == "table" else {*answer.names, *_labels(answer)}
    if not answer.rows or panel.get("transformations"):
        return
    for name in _referred(panel):
        if name not in shown:
            yield f"{query.place} refers to {name!r}, which is no column: it has {', '.join(answer.names)}."


def _shows_text(panel: Json) -> bool:
    fields = panel.get("options", {}).get("reduceOptions", {}).get("fields")
    return panel["type"] == "stat" and bool(fields)


def _timeline(query: Query, answer: Answer) -> Iterator[str]:
    moments = [place for place, (_, type_) in enumerate(answer.columns) if type_ in MOMENTS]
    if not moments or len(answer.columns) < 2:
        yield f"{query.place} is a state timeline without a time or without a state."
    elif any(later < earlier for earlier, later in pairwise(row[moments[0]] for row in answer.rows)):
        yield f"{query.place} does not ascend by time."


def _labels(answer: Answer) -> set[str]:
    """Names of series: text in the rows, and of one value beside one label called `metric` that alone."""
    texts = [place for place, (_, type_) in enumerate(answer.columns) if type_ not in NUMBERS | MOMENTS]
    return {str(row[place]) for row in answer.rows for place in texts}


_FIELD: Final = re.compile(r"\$\{__data\.fields(?:\.(\w+)|\[\"?([^\]\"]+)\"?\])[^}]*\}")


def _referred(panel: Json) -> Iterator[str]:
    """Columns that overrides, links and the order of a table name."""
    source = panel.get("fieldConfig", {})
    for override in source.get("overrides", []):
        if override["matcher"]["id"] == "byName":
            yield override["matcher"]["options"]
        for property_ in override["properties"]:
            if property_["id"] == "links":
                yield from _in_links(property_["value"])
    yield from _in_links(source.get("defaults", {}).get("links") or [])
    for sort in panel.get("options", {}).get("sortBy") or []:
        yield sort["displayName"]


def _in_links(links: Sequence[Json]) -> Iterator[str]:
    for link in links:
        for match in _FIELD.finditer(link.get("url") or ""):
            yield match[1] or match[2]


def others(answer: Answer, column: str, allowed: Sequence[str]) -> set[str]:
    """Values of a column, where the answer has it, beyond those that were chosen."""
    if column not in answer.names:
        return set()
    place = answer.names.index(column)
    return {str(row[place]) for row in answer.rows} - set(allowed)
