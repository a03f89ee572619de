"""Ranges as people ask for them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.ranges import WIDTHS, Interval, TimeRange, fitting, parse_interval, parse_moment, parse_range
from app.errors import InvalidRequest
from tests.fakes import START

NOW = START  # 2026-11-23T12:00:00Z
MOMENTS = st.integers(0, 2**52).map(lambda microseconds: NOW - timedelta(microseconds=microseconds))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23T10:00:00Z", datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("2026-11-23T10:00:00.250Z", datetime(2026, 11, 23, 10, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-11-23T17:00:00+07:00", datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("2026-11-23T17:00:00 07:00", datetime(2026, 11, 23, 10, tzinfo=UTC)),  # + in a URL that nobody escaped
        ("2026-11-23T05:00-0500", datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("1795428000000", datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("0", datetime(1970, 1, 1, tzinfo=UTC)),
        ("now", NOW),
        ("now-90s", NOW - timedelta(seconds=90)),
        ("now-5m", NOW - timedelta(minutes=5)),
        ("now-6h", NOW - timedelta(hours=6)),
        ("now-30d", NOW - timedelta(days=30)),
        ("now-2w", NOW - timedelta(weeks=2)),
    ],
)
def test_moment_forms(text: str, moment: datetime) -> None:
    """ISO 8601 with an offset, epoch milliseconds, and times back from now."""
    assert parse_moment(text, NOW) == moment


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("yesterday", "is not a time"),
        ("", "is not a time"),
        ("now-6", "is not a time"),
        ("now-6y", "is not a time"),
        ("now+1h", "is not a time"),
        ("-5", "is not a time"),
        ("１２３", "is not a time"),
        ("2026-13-01T00:00:00Z", "is not a time"),
        ("2026-11-23T10:00:00", "has no offset"),
        ("2026-11-23", "has no offset"),
        ("2026-11-23 10:00", "has no offset"),
        ("999999999999999", "years 1 to 9999"),
        ("now-999999999w", "years 1 to 9999"),
        ("0001-01-01T00:00:00+01:00", "years 1 to 9999"),
        ("9999-12-31T23:59:59.9999Z", "years 1 to 9999"),
    ],
)
def test_moment_that_is_none(text: str, sentence: str) -> None:
    """What is no moment gets a sentence that says why."""
    with pytest.raises(ValueError, match=sentence):
        parse_moment(text, NOW)


@given(st.text(max_size=40))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    """Nothing but a ValueError comes out, and every moment has whole milliseconds of UTC."""
    try:
        moment = parse_moment(text, NOW)
    except ValueError:
        return
    assert moment.tzinfo is UTC
    assert moment.microsecond % 1000 == 0


@given(MOMENTS, MOMENTS)
def test_bounds_part_whole_milliseconds_as_written(bound: datetime, sample: datetime) -> None:
    """Rounding a bound to milliseconds changes for no sample whether it lies before."""
    sample = sample.replace(microsecond=sample.microsecond // 1000 * 1000)
    assert (sample < parse_moment(bound.isoformat(), NOW)) == (sample < bound)


def test_defaults_are_the_last_hour() -> None:
    """Without `to` a range ends now, without `from` it is an hour long."""
    hour = timedelta(hours=1)
    assert parse_range(None, None, NOW) == TimeRange(NOW - hour, NOW)
    assert parse_range("now-3h", None, NOW) == TimeRange(NOW - 3 * hour, NOW)
    assert parse_range(None, "now-3h", NOW) == TimeRange(NOW - 4 * hour, NOW - 3 * hour)


@pytest.mark.parametrize(
    ("start", "end"), [("now", "now"), ("now-1h", "now-2h"), ("now", None), (None, "0001-01-01T00:00:00Z")]
)
def test_empty_and_reversed_ranges_are_refused(start: str | None, end: str | None) -> None:
    """A range in which nothing can lie is a mistake."""
    with pytest.raises(InvalidRequest) as refused:
        parse_range(start, end, NOW)
    assert [problem.field for problem in refused.value.details] == ["from"]


def test_both_bounds_are_named() -> None:
    """Two wrong bounds are two details."""
    with pytest.raises(InvalidRequest) as refused:
        parse_range("x", "y", NOW)
    assert [problem.field for problem in refused.value.details] == ["from", "to"]


def test_intervals_by_name() -> None:
    """`auto` is the default; another name is refused with a list of the right ones."""
    assert parse_interval(None) is Interval.AUTO
    assert parse_interval("15m") is Interval.QUARTER_HOUR
    with pytest.raises(InvalidRequest, match="raw, 1m, 5m, 15m, 1h, 6h, 1d, auto"):
        parse_interval("2m")


@given(MOMENTS, st.timedeltas(timedelta(milliseconds=1), timedelta(days=3)), st.sampled_from(list(WIDTHS.values())))
def test_buckets_are_counted_exactly(start: datetime, length: timedelta, width: timedelta) -> None:
    """As many as walking through the range bucket by bucket touches."""
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = (midnight + place * width for place in range((length + timedelta(days=2)) // width))
    touched = sum(begin < start + length and begin + width > start for begin in starts)
    assert TimeRange(start, start + length).buckets(width) == touched


def test_fitting_intervals_come_finest_first() -> None:
    """The limit itself still fits."""
    day = TimeRange(NOW - timedelta(days=1), NOW)
    assert list(fitting(day, 288)) == [Interval("5m"), Interval("15m"), Interval("1h"), Interval("6h"), Interval("1d")]
    assert next(fitting(day, 287)) is Interval.QUARTER_HOUR
    assert not list(fitting(day, 1))
