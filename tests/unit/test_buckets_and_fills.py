"""Where buckets start, and what stands in those without a sample."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.buckets import Buckets
from app.domain.fills import Fill, filled
from app.domain.ranges import WIDTHS, Interval, TimeRange
from app.storage.measures import Value

START = datetime(2026, 11, 24, tzinfo=UTC)
STARTS = [START + timedelta(hours=n) for n in range(6)]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", datetime(2026, 3, 29, tzinfo=UTC), 23),
        ("Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC), 25),
        ("Asia/Ho_Chi_Minh", datetime(2026, 10, 25, tzinfo=UTC), 24),
        ("Australia/Lord_Howe", datetime(2026, 10, 3, 18, tzinfo=UTC), 23.5),
    ],
)
def test_a_day_of_a_zone_is_as_long_as_its_clocks_make_it(zone: str, day: datetime, hours: float) -> None:
    """Midnight to midnight on the wall."""
    buckets = Buckets(Interval.DAY, ZoneInfo(zone))
    first, second, *_ = buckets.edges(TimeRange(day + timedelta(hours=1), day + timedelta(hours=2)))
    assert second - first == timedelta(hours=hours)


@example(zone="Pacific/Apia", start=datetime(2011, 12, 28), length=timedelta(days=5))  # noqa: DTZ001 – there was no 30th
@given(
    zone=st.sampled_from(["UTC", "America/St_Johns", "Pacific/Apia", "Europe/Berlin", "Africa/Casablanca"]),
    start=st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 – the zone comes below
    length=st.timedeltas(timedelta(milliseconds=1), timedelta(days=800)),
)
def test_days_of_a_zone_follow_one_another_and_hold_the_range(zone: str, start: datetime, length: timedelta) -> None:
    """Whatever the clocks do there, a day that was skipped included."""
    time_range = TimeRange(start.replace(tzinfo=UTC), start.replace(tzinfo=UTC) + length)
    edges = Buckets(Interval.DAY, ZoneInfo(zone)).edges(time_range)
    assert edges[0] <= time_range.start
    assert edges[-2] < time_range.end <= edges[-1]
    assert all(before < after for before, after in pairwise(edges))


@given(
    interval=st.sampled_from(sorted(WIDTHS)),
    start=st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 – the zone comes below
    length=st.timedeltas(timedelta(milliseconds=1), timedelta(days=3)),
)
def test_as_many_buckets_start_as_are_counted(interval: Interval, start: datetime, length: timedelta) -> None:
    """The first may start before the range, the last before its end."""
    time_range = TimeRange(start.replace(tzinfo=UTC), start.replace(tzinfo=UTC) + length)
    buckets = Buckets(interval)
    starts = buckets.starts(time_range)
    assert len(starts) == buckets.count(time_range)
    assert starts[0] <= time_range.start < starts[0] + WIDTHS[interval]
    assert starts[-1] < time_range.end


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        (Fill.NULL, [None, 10.0, None, None, 40.0, None]),
        (Fill.LOCF, [None, 10.0, 10.0, 10.0, 40.0, 40.0]),
        (Fill.LINEAR, [None, 10.0, 20.0, 30.0, 40.0, None]),
    ],
)
def test_gaps_are_filled_as_asked_for(fill: Fill, expected: list[Value]) -> None:
    """Nothing is known before the first value, and no line leads beyond the last; 0 is never made up."""
    assert filled([STARTS[1], STARTS[4]], [10.0, 40.0], STARTS, fill) == expected


@pytest.mark.parametrize("fill", [Fill.NULL, Fill.LOCF, Fill.LINEAR])
def test_without_a_sample_all_are_null(fill: Fill) -> None:
    """Never 0."""
    assert filled([], [], STARTS, fill) == [None] * 6


def test_text_is_carried_on_and_never_interpolated() -> None:
    """Between online and offline there is nothing."""
    assert filled(STARTS[:1], ["online"], STARTS[:2], Fill.LOCF) == ["online", "online"]
    assert filled([STARTS[0], STARTS[2]], ["a", "b"], STARTS[:3], Fill.LINEAR) == ["a", None, "b"]
