"""The dashboards have the shape that Grafana reads; and what has not is seen."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.dashboards.boards import Json, read_boards
from tests.dashboards.sample import board, panel, target
from tests.dashboards.shape import mistakes

BOARDS = read_boards()


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_has_the_shape_that_grafana_reads(name: str) -> None:
    """All of it: panels, options, queries, variables."""
    assert list(mistakes(BOARDS[name])) == []


def test_the_sample_is_well_formed() -> None:
    """So whatever a test below sees was broken by that test."""
    assert list(mistakes(board())) == []


FAULTS: dict[str, tuple[Callable[[Json], Any], str]] = {
    "no schema version": (lambda b: b.pop("schemaVersion"), "schema_version is missing"),
    "no variables": (lambda b: b.pop("templating"), "templating is missing"),
    "no annotations": (lambda b: b.pop("annotations"), "annotations is missing"),
    "misspelt field": (lambda b: b.update(editible=False), "editible is nothing that Grafana knows"),
    "wrong type": (lambda b: b.update(editable="false"), "editable is 'false', and not of type bool"),
    "no such crosshair": (lambda b: b.update(graphTooltip=7), "graphTooltip is 7, and not one of 0, 1, 2"),
    "no list": (lambda b: b.update(tags="aiwm"), "tags is no list"),
    "no object": (lambda b: b.update(time="now"), "time is 'now', and not an object"),
    "no such panel": (lambda b: panel(b, 1).update(type="graphs"), "no panel of type 'graphs'"),
    "no kind of panel": (lambda b: panel(b, 1).pop("type"), "type is missing"),
    "misspelt option": (lambda b: panel(b, 3)["options"].update(graphmode1=1), "options.graphmode1 is nothing"),
    "no such option": (lambda b: panel(b, 3)["options"].update(graphMode="x"), "options.graphMode is 'x', and not one"),
    "missing option": (lambda b: panel(b, 3)["options"].pop("reduceOptions"), "options.reduce_options is missing"),
    "no such setting": (
        lambda b: panel(b, 1)["fieldConfig"]["defaults"].update(custom={"drawStyle": "crayon"}),
        "custom.drawStyle is 'crayon'",
    ),
    "place without width": (lambda b: panel(b, 1)["gridPos"].pop("w"), "gridPos.w is missing"),
    "no such format": (lambda b: target(b, 1).update(format="series"), "is no query in SQL"),
    "query by a builder": (lambda b: target(b, 1).update(editorMode="builder"), "is no query in SQL"),
    "query with more": (lambda b: target(b, 1).update(sql={}), "unknown field `sql`"),
    "query without its id": (lambda b: target(b, 1).pop("refId"), "missing required field `refId`"),
    "annotation's query": (
        lambda b: b["annotations"]["list"][0]["target"].pop("format"),
        "missing required field `format`",
    ),
    "no such variable": (lambda b: b["templating"]["list"][0].update(type="sql"), "type is 'sql', and not one of"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_shape_is_seen(name: str) -> None:
    """One fault, and a sentence that names it."""
    make, sentence = FAULTS[name]
    faulty = board()
    make(faulty)
    found = list(mistakes(faulty))
    assert any(sentence in one for one in found), found
