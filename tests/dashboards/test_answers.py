"""What a panel cannot show is seen, whatever made it; one fault at a time."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.dashboards.answers import Answer, others, unfit
from tests.dashboards.boards import Query, queries
from tests.dashboards.sample import board

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
QUERIES = {query.place: query for query in queries(board())}
POWER, NODES, COUNT = QUERIES["panel 'Power'"], QUERIES["panel 'Nodes'"], QUERIES["panel 'How many'"]
VARIABLE, ANNOTATION = QUERIES["variable 'node'"], QUERIES["annotation 'Events'"]
SERIES = (("time", "timestamptz"), ("metric", "text"), ("watts", "float8"))
ROWS = (("node_id", "text"), ("Node", "text"), ("Status", "text"))


def found(query: Query, columns: Sequence[tuple[str, str]], *rows: Sequence[Any]) -> list[str]:
    return list(unfit(query, Answer(columns, rows)))


def test_what_fits_is_not_complained_of() -> None:
    """So whatever a test below sees is its fault."""
    assert found(POWER, SERIES, (NOW, "a", 1.0), (NOW, "b", 1.0), (NOW + HOUR, "a", None)) == []
    assert found(NODES, ROWS, ("1", "a", "online")) == []
    assert found(COUNT, [("Nodes", "int8")], (3,)) == []
    assert found(VARIABLE, [("__text", "text"), ("__value", "text")], ("a", "1")) == []
    assert found(ANNOTATION, [("time", "timestamptz"), ("text", "text")], (NOW, "came back")) == []


def test_a_series_ascends_by_a_time_that_is_there() -> None:
    """Grafana refuses all of it otherwise."""
    assert "does not ascend" in found(POWER, SERIES, (NOW, "a", 1.0), (NOW - HOUR, "a", 1.0))[0]
    assert "has a NULL as its time" in found(POWER, SERIES, (None, "a", 1.0))[0]
    assert "without a column called time" in found(POWER, [("Time", "timestamptz"), ("watts", "float8")])[0]
    assert "has a time of type text" in found(POWER, [("time", "text"), ("watts", "float8")])[0]


@pytest.mark.parametrize("query", [POWER, COUNT])
def test_a_panel_of_numbers_needs_one(query: Query) -> None:
    """Text alone is labels without values; a time is none either."""
    assert "without a number" in " ".join(found(query, [("time", "timestamptz"), ("watts", "text")]))


@pytest.mark.parametrize("type_", ["bool", "timestamptz"])
def test_what_is_no_number_is_not_drawn_as_one(type_: str) -> None:
    """The data source turns both into numbers."""
    assert "would draw seen as a number" in found(POWER, [*SERIES, ("seen", type_)])[0]


def test_an_interval_is_given_in_seconds() -> None:
    """Grafana would show its text."""
    assert "of type interval: give seconds" in found(NODES, [*ROWS, ("silent", "interval")])[0]


def test_columns_differ_in_their_names() -> None:
    """One would hide the other."""
    assert "several columns called Node" in found(NODES, [*ROWS, ("Node", "text")])[0]


@pytest.mark.parametrize("missing", ["node_id", "Status"])
def test_what_links_and_overrides_name_is_there(missing: str) -> None:
    """Renaming a column would leave its link or its looks behind."""
    columns = [(f"{name}2" if name == missing else name, type_) for name, type_ in ROWS]
    assert f"refers to {missing!r}, which is no column" in found(NODES, columns, ("1", "a", "online"))[0]


def test_series_are_named_by_their_labels_too() -> None:
    """An override may name one of those."""
    owner = POWER.owner | {
        "fieldConfig": {"overrides": [{"matcher": {"id": "byName", "options": "b"}, "properties": []}]}
    }
    query = POWER._replace(owner=owner)
    assert found(query, SERIES, (NOW, "b", 1.0)) == []
    assert "refers to 'b'" in found(query, SERIES, (NOW, "a", 1.0))[0]


def test_a_variable_offers_text_that_is_there() -> None:
    """And values beside names only under Grafana's names for both."""
    assert "needs one column" in found(VARIABLE, [("node_name", "text"), ("node_id", "text")])[0]
    assert "values that are no text: int4" in found(VARIABLE, [("rack", "int4")])[0]
    assert "offers NULL" in found(VARIABLE, [("org", "text")], (None,))[0]


def test_an_annotation_has_a_time_and_a_text() -> None:
    """Without them it is a line that says nothing."""
    assert "needs the columns time and text" in found(ANNOTATION, [("time", "timestamptz"), ("kind", "text")])[0]


def test_a_kind_of_panel_gets_its_kind_of_rows() -> None:
    """Series for curves and heat maps, a column of names for bars, a time for a timeline."""
    table = POWER._replace(format="table")
    assert "is a timeseries and asks for a table" in found(table, SERIES)[0]
    bars = COUNT._replace(owner=COUNT.owner | {"type": "barchart", "options": {"xField": "model"}})
    assert "names its bars by 'model'" in found(bars, [("gpu_model", "text"), ("gpus", "int8")])[0]
    timeline = COUNT._replace(owner=COUNT.owner | {"type": "state-timeline"})
    assert "without a time" in found(timeline, [("Status", "text")])[0]
    states = [("time", "timestamptz"), ("Status", "text")]
    assert "does not ascend" in found(timeline, states, (NOW, "online"), (NOW - HOUR, "offline"))[0]


def test_a_stat_may_show_text_where_it_says_so() -> None:
    """By naming the fields that it shows."""
    owner = COUNT.owner | {"options": {"reduceOptions": {"fields": "/.*/"}}}
    assert found(COUNT._replace(owner=owner), [("Status", "text")], ("online",)) == []


def test_nodes_that_were_not_chosen_are_seen() -> None:
    """Where the answer tells them apart."""
    answer = Answer(ROWS, [("1", "a", "online"), ("2", "b", "online")])
    assert others(answer, "node_id", ["1"]) == {"2"}
    assert others(Answer([("Nodes", "int8")], [(2,)]), "node_id", ["1"]) == set()
