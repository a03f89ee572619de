"""Which table serves which part of a range."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from app.domain.buckets import Buckets, floor
from app.domain.ladder import Kept, Ladder, Reach, Rolled
from app.domain.ranges import Interval, TimeRange
from app.storage.sources import GPU_METRICS, Segment

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
KEPT: Kept = {"gpu_metrics": 30 * DAY, "gpu_metrics_5m": 180 * DAY, "gpu_metrics_1h": 730 * DAY}
ALL: Rolled = {str(rollup.table.name): NOW + DAY for rollup in GPU_METRICS.rollups}
WIDTHS = {str(rollup.table.name): rollup.width for rollup in GPU_METRICS.rollups}


def ladder(kept: Kept | None = None, interval: Interval | None = None, rolled: Rolled = ALL) -> Ladder:
    made = Ladder(GPU_METRICS, GPU_METRICS.rollups, Reach(kept or {}, rolled, NOW))
    return made if interval is None else made.fitting(Buckets(interval), TimeRange(NOW - DAY, NOW))


def shown(segments: list[Segment]) -> list[tuple[str, str, str]]:
    return [(str(each.table.name), f"{each.start:%d %H:%M}", f"{each.end:%d %H:%M}") for each in segments]


def test_whole_days_come_from_days_and_ragged_ends_from_ever_finer_tables() -> None:
    """As coarse as it may be, as fine as it must be."""
    found = ladder().segments(
        TimeRange(datetime(2026, 11, 20, 21, 58, tzinfo=UTC), datetime(2026, 11, 23, 1, 7, tzinfo=UTC))
    )
    assert shown(found) == [
        ("gpu_metrics", "20 21:58", "20 22:00"),
        ("gpu_metrics_1h", "20 22:00", "21 00:00"),
        ("gpu_metrics_1d", "21 00:00", "23 00:00"),
        ("gpu_metrics_1h", "23 00:00", "23 01:00"),
        ("gpu_metrics_5m", "23 01:00", "23 01:05"),
        ("gpu_metrics", "23 01:05", "23 01:07"),
    ]


def test_buckets_are_not_made_of_wider_ones() -> None:
    """An hour can't tell its minutes."""
    assert [str(rollup.table.name) for rollup in ladder(interval=Interval.QUARTER_HOUR).rollups] == ["gpu_metrics_5m"]
    assert ladder(interval=Interval.MINUTE).rollups == ladder(interval=Interval.RAW).rollups == ()


def test_what_was_not_rolled_up_yet_comes_from_the_next_finer_table() -> None:
    """Each rollup ends at its watermark; one in which there is nothing yet serves nothing."""
    today = NOW.replace(hour=0)
    rolled = {
        "gpu_metrics_5m": NOW - timedelta(minutes=10),
        "gpu_metrics_1h": NOW - 2 * HOUR,
        "gpu_metrics_1d": today - DAY,
    }
    assert shown(ladder(rolled=rolled).segments(TimeRange(today - 3 * DAY, NOW))) == [
        ("gpu_metrics_1d", "21 00:00", "23 00:00"),
        ("gpu_metrics_1h", "23 00:00", "24 10:00"),
        ("gpu_metrics_5m", "24 10:00", "24 11:50"),
        ("gpu_metrics", "24 11:50", "24 12:00"),
    ]
    assert shown(ladder(rolled={}).segments(TimeRange(today, NOW))) == [("gpu_metrics", "24 00:00", "24 12:00")]


def test_where_samples_are_gone_the_finest_bucket_that_is_kept_counts_as_a_whole() -> None:
    """Rather than not at all."""
    start = NOW - 40 * DAY + timedelta(minutes=7)
    found = ladder(KEPT).segments(TimeRange(start, start + timedelta(minutes=20)))
    assert shown(found) == [("gpu_metrics_5m", f"{start:%d} 12:05", f"{start:%d} 12:30")]
    long_ago = NOW - 800 * DAY
    assert [str(each.table.name) for each in ladder(KEPT).segments(TimeRange(long_ago, long_ago + HOUR))] == [
        "gpu_metrics_1d"
    ]


def test_days_that_cut_hours_are_made_of_hours_where_nothing_finer_is_kept() -> None:
    """An hour that Kolkata's midnight cuts counts in the day in which it starts; no hour is left out or counts twice."""
    zone = Buckets(Interval.DAY, ZoneInfo("Asia/Kolkata"))

    def served(start: datetime, end: datetime) -> list[tuple[str, str, str]]:
        asked = TimeRange(start, end)
        made = Ladder(GPU_METRICS, GPU_METRICS.rollups, Reach(KEPT, ALL, NOW))
        return shown(made.fitting(zone, asked).segments(asked))

    midnight = datetime(2026, 5, 26, 18, 30, tzinfo=UTC)  # five minutes are kept from the 28th at 12:00 on
    assert served(midnight, midnight + DAY) == [("gpu_metrics_1h", "26 19:00", "27 19:00")]
    assert served(midnight + DAY, midnight + 3 * DAY) == [
        ("gpu_metrics_1h", "27 19:00", "28 12:00"),
        ("gpu_metrics_5m", "28 12:00", "29 18:30"),
    ]
    assert served(midnight + 3 * DAY, midnight + 4 * DAY) == [("gpu_metrics_5m", "29 18:30", "30 18:30")]


@given(
    start=st.datetimes(datetime(2026, 10, 30), datetime(2026, 11, 23)),  # noqa: DTZ001 – the zone comes below
    length=st.timedeltas(timedelta(milliseconds=1), 10 * DAY),
    lags=st.fixed_dictionaries({}, optional={name: st.integers(0, 12) for name in WIDTHS}),
)
def test_segments_cover_the_range_once_and_rollups_whole_buckets(
    start: datetime, length: timedelta, lags: dict[str, int]
) -> None:
    """Nothing is left out, nothing counts twice, no bucket is cut, and no rollup is read beyond its watermark."""
    begin = start.replace(tzinfo=UTC)
    rolled = {name: floor(NOW, WIDTHS[name]) - lag * WIDTHS[name] for name, lag in lags.items()}
    found = ladder(KEPT, rolled=rolled).segments(TimeRange(begin, begin + length))
    assert (found[0].start, found[-1].end) == (begin, begin + length)
    for before, after in pairwise(found):
        assert before.end == after.start
    for segment in found:
        width = WIDTHS.get(str(segment.table.name), timedelta(microseconds=1))
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        assert not (segment.start - epoch) % width
        assert not (segment.end - epoch) % width
        assert segment.table is GPU_METRICS.table or segment.end <= rolled[str(segment.table.name)]
