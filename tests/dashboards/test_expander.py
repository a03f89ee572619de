"""The stand-in for Grafana's way from a panel's query to SQL: every rule of it, by example and by many inputs."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dashboards.expander import (
    All,
    ExpansionError,
    Fill,
    TimeRange,
    expand,
    in_browser,
    on_server,
    sqlstring,
    without_comments,
)

FROM = datetime(2025, 11, 25, 12, 0, 0, tzinfo=UTC)
RANGE = TimeRange(FROM, FROM + timedelta(hours=6))
FIVE_MINUTES = timedelta(minutes=5)
PERIOD = "'2025-11-25T12:00:00Z' AND '2025-11-25T18:00:00Z'"


def server(sql: str, **more: Any) -> str:
    return on_server(sql, RANGE, FIVE_MINUTES, **more).sql


def browser(sql: str, **variables: Any) -> str:
    return in_browser(sql, variables, RANGE, FIVE_MINUTES)


@pytest.mark.parametrize(
    ("sql", "expanded"),
    [
        ("SELECT $__time(t)", 'SELECT t AS "time"'),
        ("SELECT $__timeEpoch(t)", 'SELECT extract(epoch from t) as "time"'),
        ("WHERE $__timeFilter(m.time)", f"WHERE m.time BETWEEN {PERIOD}"),
        ("$__timeFrom() $__timeTo()", "'2025-11-25T12:00:00Z' '2025-11-25T18:00:00Z'"),
        ("GROUP BY $__timeGroup(t,'5m')", "GROUP BY time_bucket('300.000s',t)"),
        ("GROUP BY $__timeGroup( t , '20ms' )", "GROUP BY time_bucket('0.020s',t)"),
        ("SELECT $__timeGroup(t,'5m'), x", "SELECT time_bucket('300.000s',t) AS \"time\", x"),
        ("SELECT $__timeGroup(t,'5m') , x", "SELECT time_bucket('300.000s',t) , x"),
        ("SELECT $__timeGroupAlias(t,'1d')", "SELECT time_bucket('86400.000s',t) AS \"time\""),
        ("WHERE $__unixEpochFilter(e)", "WHERE e >= 1764072000 AND e <= 1764093600"),
        ("$__unixEpochFrom() $__unixEpochTo()", "1764072000 1764093600"),
        ("$__unixEpochNanoFrom()", "1764072000000000000"),
        ("$__unixEpochNanoTo()", "1764093600000000000"),
        ("$__unixEpochNanoFilter(e)", "e >= 1764072000000000000 AND e <= 1764093600000000000"),
        ("$__unixEpochGroup(a+b,'1h30m')", "floor((a+b)/5400)*5400"),
        ("$__unixEpochGroupAlias(e,'12d')", 'floor((e)/1.0368e+06)*1.0368e+06 AS "time"'),
        ("'$__interval' $__interval_ms", "'5m' 300000"),
    ],
)
def test_each_macro_becomes_what_grafana_makes_of_it(sql: str, expanded: str) -> None:
    """With the TimescaleDB switch on, as ours is."""
    assert server(sql) == expanded


def test_without_the_timescaledb_switch_groups_are_divisions() -> None:
    """Seconds since 1970."""
    expected = "floor(extract(epoch from t)/300)*300"
    assert server("$__timeGroup(t,'5m')", timescaledb=False) == expected


def test_fractions_of_a_second_lose_their_zeros_and_other_zones_become_utc() -> None:
    """RFC 3339, as Go writes it."""
    zone = datetime.strptime("2025-11-25T13:00:00.500 +0100", "%Y-%m-%dT%H:%M:%S.%f %z")
    assert on_server("$__timeFrom()", TimeRange(zone, zone), FIVE_MINUTES).sql == "'2025-11-25T12:00:00.5Z'"


def test_arguments_end_at_the_first_parenthesis() -> None:
    """A nested one leaves its rest behind: dashboards must not nest."""
    assert server("$__timeFilter(least(a, b))") == f"least(a BETWEEN {PERIOD})"


def test_the_first_call_with_the_same_text_decides_about_the_alias() -> None:
    """As Grafana looks for the text rather than for the place."""
    sql = "SELECT $__timeGroup(t,'1m'), x GROUP BY $__timeGroup(t,'1m')"
    assert server(sql) == "SELECT time_bucket('60.000s',t) AS \"time\", x GROUP BY time_bucket('60.000s',t) AS \"time\""


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("$__timefilter(time)", 'unknown macro "__timefilter"'),
        ("$node()", 'unknown macro "node"'),
        ("$__timeGroup(time)", "needs time column and interval"),
        ("$__timeGroup(time,'5')", "error parsing interval"),
        ("$__timeGroup(time,'0s')", "must be positive"),
        ("$__timeGroup(time,'-5m')", "must be positive"),
        ("$__timeGroup(time,'5m',none)", "error parsing fill value none"),
        ("$__unixEpochGroup(time,'')", "error parsing interval"),
    ],
)
def test_what_grafana_refuses_is_refused(sql: str, sentence: str) -> None:
    """An error in the panel instead of rows."""
    with pytest.raises(ExpansionError, match=re.escape(sentence)):
        server(sql)


@pytest.mark.parametrize(("text", "value"), [("NULL", None), ("previous", "previous"), ("0", 0.0), ("-1.5", -1.5)])
def test_fill_is_remembered_and_leaves_no_trace_in_the_sql(text: str, value: float | str | None) -> None:
    """It is Grafana that fills."""
    expanded = on_server(f"$__timeGroup(t,'5m',{text})", RANGE, FIVE_MINUTES)
    assert (expanded.sql, expanded.fill) == ("time_bucket('300.000s',t)", Fill(FIVE_MINUTES, value))


def test_unknown_names_stay_in_the_browser_and_macros_with_them() -> None:
    """`$__timeFilter` is nothing to the browser."""
    sql = "SELECT $1, ${unknown:sqlstring}, [[other]] WHERE $__timeFilter(time)"
    assert browser(sql) == sql


def test_variables_are_put_in_before_comments_are_taken_out() -> None:
    """A value that looks like a comment is safe within its quotes; a commented variable is gone with its comment."""
    sql = "SELECT ${v:sqlstring} -- ${v:sqlstring}\nFROM t"
    assert expand(sql, {"v": "a--b"}, RANGE, FIVE_MINUTES).sql == "SELECT 'a--b' \nFROM t"


def test_a_custom_all_value_is_inserted_as_it_stands() -> None:
    """Whatever the format."""
    sql = "('__all__' IN (${node:sqlstring}) OR node_id IN ([[node:sqlstring]]))"
    assert browser(sql, node=All("'__all__'")) == "('__all__' IN ('__all__') OR node_id IN ('__all__'))"


@pytest.mark.parametrize("text", ["$node", "${node}", "[[node]]", "${node:csv}", "${node:singlequote}"])
def test_other_formats_are_refused(text: str) -> None:
    """What they give differs between versions of Grafana."""
    with pytest.raises(ExpansionError, match=r"\$\{node:sqlstring\}"):
        browser(text, node="a")


def test_nothing_chosen_is_no_text() -> None:
    """So `IN ()` fails, as it does in Grafana."""
    assert browser("IN (${v:sqlstring})", v=[]) == "IN ()"


def test_the_browser_knows_the_interval_and_the_range() -> None:
    """In milliseconds."""
    assert browser("$__interval $__interval_ms ${__from}") == f"5m 300000 {FROM.timestamp() * 1000:.0f}"


def test_alert_rules_have_no_browser_but_an_interval() -> None:
    """The server knows it too, after it took out comments."""
    assert server("$__interval_ms /* $__timefilter(x) */ $__interval") == "300000  5m"


TEXT = st.text(alphabet="ab'\"-/*$\n_1 ,()\\", max_size=12)


@given(st.lists(TEXT, max_size=4))
def test_postgresql_reads_back_what_was_chosen(values: list[str]) -> None:
    """Quotes, comments and parentheses in a value are part of it."""
    text = sqlstring(values)
    literals = re.findall(r"'((?:[^']|'')*)'(?:,|\Z)", text)
    assert [literal.replace("''", "'") for literal in literals] == values
    assert without_comments(text) == text


@given(TEXT)
def test_a_value_never_becomes_a_macro(value: str) -> None:
    """But for one that is written like one: then Grafana expands it within its quotes, and so do we."""
    if "(" in value and "$" in value:
        return
    assert expand("${v:sqlstring}", {"v": value}, RANGE, FIVE_MINUTES).sql == sqlstring(value)


SQL = st.text(alphabet="abc =(),\n", max_size=8)
INSIDE = st.text(alphabet="ab -/*$\n", max_size=8)
PIECES = st.one_of(
    SQL.map(lambda text: (text, True)),
    INSIDE.map(lambda text: (f"'{text}'' -- '", True)),
    INSIDE.map(lambda text: (f'"{text}""/*"', True)),
    INSIDE.map(lambda text: (f"$tag${text}$tag$", True)),
    INSIDE.map(lambda text: ("-- " + text.replace("\n", "'") + "", False)),
    INSIDE.map(lambda text: ("/*" + text.replace("/", "\n") + " */", False)),
)


@given(st.lists(PIECES, max_size=8))
def test_comments_go_and_everything_else_stays(pieces: list[tuple[str, bool]]) -> None:
    """Pieces of SQL that are comments or not, each on a line of its own."""
    sql = "\n".join(text for text, _ in pieces)
    assert without_comments(sql) == "\n".join(text if stays else "" for text, stays in pieces)


@given(st.timedeltas(timedelta(0), timedelta(days=9000)), st.timedeltas(timedelta(0), timedelta(days=900)))
def test_a_filter_holds_exactly_the_range(since: timedelta, length: timedelta) -> None:
    """Both ends of it, whatever their fractions, read back as RFC 3339."""
    at = TimeRange(FROM - since, FROM - since + length)
    sql = on_server("$__timeFilter(t)", at, FIVE_MINUTES).sql
    found = re.fullmatch(r"t BETWEEN '(.+)' AND '(.+)'", sql)
    assert found is not None
    assert tuple(datetime.fromisoformat(text) for text in found.groups()) == at
