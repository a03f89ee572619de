"""The dashboards keep the rules of this house; and each rule is seen to be broken by a dashboard that breaks it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.dashboards.boards import Json, read_boards
from tests.dashboards.house_rules import UIDS, broken
from tests.dashboards.sample import board, panel, target

BOARDS = read_boards()
Break = Callable[[Json], Any]


def test_every_dashboard_is_there() -> None:
    """Under the names and uids that others link to."""
    assert {name: one["uid"] for name, one in BOARDS.items()} == UIDS


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_keeps_every_rule(name: str) -> None:
    """Title, description, unit, data source, variables, links, raw rows."""
    assert list(broken(name, BOARDS[name], BOARDS)) == []


def test_the_sample_keeps_every_rule() -> None:
    """So whatever a test below sees was broken by that test."""
    assert list(broken("fleet", board(), {"fleet": board()})) == []


def sql(number: int, old: str, new: str) -> Break:
    """Change the query of a panel."""

    def change(board: Json) -> None:
        before = target(board, number)["rawSql"]
        assert old in before
        target(board, number)["rawSql"] = before.replace(old, new)

    return change


def variable(**values: Any) -> Break:
    return lambda board: board["templating"]["list"][0].update(values)


def annotation(**values: Any) -> Break:
    return lambda board: board["annotations"]["list"][0]["target"].update(values)


def defaults(board: Json, number: int) -> Json:
    found: Json = panel(board, number)["fieldConfig"]["defaults"]
    return found


FAULTS: dict[str, tuple[Break, str]] = {
    "uid": (lambda b: b.update(uid="other"), "has the uid 'other'"),
    "editable": (lambda b: b.update(editable=True), "can be edited"),
    "editable by default": (lambda b: b.pop("editable"), "can be edited"),
    "crosshair": (lambda b: b.update(graphTooltip=0), "does not share its crosshair"),
    "no description": (lambda b: b.pop("description"), "fleet.json has no description"),
    "same id": (lambda b: panel(b, 2).update(id=1), "the same id to several panels: 1"),
    "untitled panel": (lambda b: panel(b, 1).update(title=" "), "has no title"),
    "undescribed panel": (lambda b: panel(b, 1).pop("description"), "Panel 'Power' has no description"),
    "no unit": (lambda b: defaults(b, 1).pop("unit"), "Panel 'Power' has no unit"),
    "data source by name": (lambda b: panel(b, 1).update(datasource="AIWM"), "does not name the data source by uid"),
    "another data source": (lambda b: target(b, 1)["datasource"].update(uid="x"), "asks another data source"),
    "no target": (lambda b: panel(b, 1).update(targets=[]), "asks for nothing"),
    "no SQL": (lambda b: target(b, 1).update(rawSql=" "), "has no SQL"),
    "same refId": (lambda b: panel(b, 1)["targets"].append(target(b, 1)), "the same refId"),
    "too wide": (lambda b: panel(b, 3)["gridPos"].update(w=9), "'How many' is cut off"),
    "overlap": (lambda b: panel(b, 2)["gridPos"].update(x=0), "Panels 'Power' and 'Nodes' overlap"),
    "unlabelled variable": (variable(label=""), "Variable 'node' has no label"),
    "many without All": (variable(includeAll=False), "has no All"),
    "All spelt out": (variable(allValue=None), "would spell All out"),
    "All without quotes": (variable(allValue="__all__"), "would spell All out"),
    "stale variable": (variable(refresh=0), "never refreshes"),
    "variable of nowhere": (variable(datasource=None), "Variable 'node' does not name the data source"),
    "variable before its own": (variable(query="SELECT ${node:sqlstring}"), "depends on node"),
    "endless annotation": (annotation(rawSql="SELECT time FROM history.node_events"), "has no LIMIT"),
    "no status events": (annotation(rawSql="SELECT 1 LIMIT 1"), "shows nodes but no status events"),
    "unquoted variable": (sql(2, ":sqlstring}", "}"), "puts ${node} in without :sqlstring"),
    "bare variable": (sql(2, "${node:sqlstring}", "$node"), "puts $node in without :sqlstring"),
    "bracketed variable": (sql(2, "${node:sqlstring}", "[[node]]"), "puts [[node in without :sqlstring"),
    "another format": (sql(2, ":sqlstring", ":csv"), "puts ${node:csv} in without :sqlstring"),
    "unknown variable": (sql(2, "${node:", "${rack:"), "names the variable 'rack'"),
    "two statements": (sql(2, "LIMIT 10", "LIMIT 10;"), "more than one statement"),
    "no order": (sql(1, "ORDER BY time", ""), "without ORDER BY"),
    "raw rows": (sql(1, "gpu_metrics_1h", "gpu_metrics"), "reads history.gpu_metrics over any range"),
    "raw heartbeats": (sql(2, "history.nodes", "history.heartbeats"), "reads history.heartbeats over any range"),
    "link to nowhere": (lambda b: defaults(b, 2)["links"][0].update(url="/d/gone"), "leads to 'gone'"),
    "link with an unknown variable": (
        lambda b: defaults(b, 2)["links"][0].update(url="/d/aiwm-fleet?orgId=1&var-rack=a"),
        "sets the variable 'rack'",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_rule_is_seen(name: str) -> None:
    """One fault, and a sentence that names it."""
    make, sentence = FAULTS[name]
    faulty = board()
    make(faulty)
    found = list(broken("fleet", faulty, {"fleet": faulty} if faulty["uid"] == "aiwm-fleet" else {"fleet": board()}))
    assert any(sentence in one for one in found), found


@pytest.mark.parametrize(
    "bound",
    [
        "$__unixEpochTo() - $__unixEpochFrom() <= 10800 AND ",
        "time > now() - interval '15 minutes' AND ",
        "time >= $__timeTo()::timestamptz - interval '1 day' AND ",
    ],
)
def test_raw_rows_of_a_bounded_time_are_fine(bound: str) -> None:
    """By the range, or by the time itself."""
    good = board()
    sql(1, "gpu_metrics_1h", "gpu_metrics")(good)
    sql(1, "WHERE ", f"WHERE {bound}")(good)
    assert list(broken("fleet", good, {"fleet": good})) == []


def test_a_bound_counts_for_its_own_branch_alone() -> None:
    """The other side of a UNION needs its own."""
    faulty = board()
    target(faulty, 2)["rawSql"] = (
        "SELECT 1 FROM history.heartbeats UNION ALL "
        "SELECT 1 FROM history.gpu_heartbeats WHERE time > now() - interval '1 hour' LIMIT 1"
    )
    found = [one for one in broken("fleet", faulty, {"fleet": faulty}) if "over any range" in one]
    assert len(found) == 1
    assert "history.heartbeats" in found[0]
