"""Lengths of time: how Grafana reads them, and how it finds a panel's interval."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dashboards.intervals import (
    IntervalError,
    format_in_browser,
    format_on_server,
    go_float,
    interval_of,
    parse_interval,
)

NOW = datetime(2026, 1, 31, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("20ms", timedelta(milliseconds=20)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("-5m", timedelta(minutes=-5)),
        ("0", timedelta(0)),
        ("2d", timedelta(days=2)),
        ("1w", timedelta(days=7)),
        ("1M", timedelta(days=31)),  # there is no 31 February: it runs over to 3 March
        ("1y", timedelta(days=365)),
    ],
)
def test_go_durations_and_calendar_units_are_read(text: str, length: timedelta) -> None:
    """Months and years are those that come next."""
    assert parse_interval(text, NOW) == length


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "1h2d", "1d12h", "5x", "١m"])
def test_what_has_no_unit_is_no_interval(text: str) -> None:
    """A bare number, or units that do not go together."""
    with pytest.raises(IntervalError):
        parse_interval(text, NOW)


@pytest.mark.parametrize(
    ("length", "points", "expected"),
    [
        (timedelta(hours=6), 1000, timedelta(seconds=20)),
        (timedelta(hours=24), 1000, timedelta(minutes=1)),  # 86.4 s are rounded down
        (timedelta(hours=24), 500, timedelta(minutes=2)),
        (timedelta(days=30), 1000, timedelta(minutes=30)),
        (timedelta(days=7), 7, timedelta(days=1)),
        (timedelta(days=3650), 10, timedelta(days=365)),
    ],
)
def test_the_interval_is_the_range_by_the_points_rounded(length: timedelta, points: int, expected: timedelta) -> None:
    """Where nothing sets a least one."""
    assert interval_of(length, points, timedelta(milliseconds=1)) == expected


@given(st.timedeltas(timedelta(seconds=1), timedelta(days=2000)), st.integers(1, 4000), st.integers(0, 120))
def test_the_interval_is_never_less_than_its_least(length: timedelta, points: int, least: int) -> None:
    """And otherwise within a factor of its exact value."""
    found = interval_of(length, points, least * MINUTE)
    assert found >= least * MINUTE
    exact = max(length / points, timedelta(milliseconds=1))
    assert found == least * MINUTE or found / exact < 9


@given(st.lists(st.timedeltas(timedelta(0), timedelta(days=4000)), min_size=2, max_size=20))
def test_a_longer_range_never_has_a_shorter_interval(lengths: list[timedelta]) -> None:
    """So zooming out never adds points."""
    found = [interval_of(length, 100, timedelta(milliseconds=1)) for length in sorted(lengths)]
    assert all(one <= other for one, other in pairwise(found))


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(minutes=5), "5m"),
        (timedelta(minutes=90), "1h"),
        (timedelta(days=400), "1y"),
        (timedelta(milliseconds=20), "20ms"),
    ],
)
def test_an_interval_is_written_in_its_largest_unit(length: timedelta, text: str) -> None:
    """What is left over is cut off."""
    assert format_in_browser(length) == format_on_server(length) == text


def test_less_than_a_millisecond_is_written_differently() -> None:
    """The one place where browser and server disagree."""
    assert format_in_browser(timedelta(0)) == "less than a millisecond"
    assert format_on_server(timedelta(0)) == "1ms"


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_go_writes_the_same_number(number: float) -> None:
    """In another way."""
    assert float(go_float(number)) == number


@pytest.mark.parametrize(("number", "text"), [(300.0, "300"), (0.02, "0.02"), (1e6, "1e+06"), (0.00001, "1e-05")])
def test_go_writes_an_exponent_from_a_million_on(number: float, text: str) -> None:
    """As %v does."""
    assert go_float(number) == text
