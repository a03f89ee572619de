"""The points that an interval makes: where buckets start, how many there are, and between which bounds they lie."""

from collections.abc import Iterator
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from app.domain.ranges import WIDTHS, Interval, TimeRange
from app.errors import InvalidRequest

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""A midnight: every width divides a day, so that whatever starts here starts at midnights."""

MOST_DAYS: Final = 36_525
"""A century of a zone's days; to find where each begins takes 50 ms, and of ten millennia 4.5 s."""

_DAY: Final = timedelta(days=1)
_ENDS: Final = (MINYEAR, MAXYEAR)


def floor(moment: datetime, width: timedelta) -> datetime:
    """The start of the bucket that a moment lies in."""
    return moment - (moment - EPOCH) % width


def ceiling(moment: datetime, width: timedelta) -> datetime:
    """The first start of a bucket that is not before a moment."""
    return moment + (EPOCH - moment) % width


def parse_zone(text: str | None) -> ZoneInfo | None:
    """A time zone by its name, None for UTC. Raises InvalidRequest."""
    if text is None or text.upper() in ("UTC", "Z"):
        return None
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise InvalidRequest.of("tz", "is not a time zone: give a name such as Asia/Ho_Chi_Minh or UTC") from None


class Buckets(msgspec.Struct, frozen=True):
    """Buckets of an interval; those of a day start at the midnights of `zone` (None: UTC)."""

    interval: Interval
    zone: ZoneInfo | None = None

    @property
    def width(self) -> timedelta | None:
        """How long each is; None for `raw`. A day of a zone may be an hour longer or shorter."""
        return WIDTHS.get(self.interval)

    @property
    def are_zoned(self) -> bool:
        """Whether their bounds are a time zone's own."""
        return self.zone is not None and self.interval is Interval.DAY

    def check(self, time_range: TimeRange) -> None:
        """Raise InvalidRequest where so many midnights of a zone would take long to find, or the calendar has none."""
        if not self.are_zoned:
            return
        if time_range.buckets(_DAY) > MOST_DAYS:
            raise InvalidRequest.of(
                "from", f"lies too far before to: days of a time zone are told of {MOST_DAYS:,} at most"
            )
        for name, moment in (("from", time_range.start), ("to", time_range.end)):
            if moment.year in _ENDS:
                raise InvalidRequest.of(name, "is at the calendar's end, where a time zone has no midnight")

    def count(self, time_range: TimeRange) -> int:
        """How many of them a range touches. Raises ValueError for `raw`."""
        if self.width is None:
            raise ValueError("only samples make the points of raw")
        return len(self.edges(time_range)) - 1 if self.are_zoned else time_range.buckets(self.width)

    def starts(self, time_range: TimeRange) -> list[datetime]:
        """Where each of them starts that a range touches; the first may start before it. Nothing for `raw`."""
        if self.are_zoned:
            return self.edges(time_range)[:-1]
        return [] if self.width is None else list(_steps(floor(time_range.start, self.width), time_range, self.width))

    def edges(self, time_range: TimeRange) -> list[datetime]:
        """The midnights of the zone, from the last one that is not after the range to the first that is not before its end."""
        midnight = _midnight(time_range.start.astimezone(self.zone), self.zone)
        found = [midnight.astimezone(UTC)]
        while found[-1] < time_range.end:
            midnight = _midnight(midnight + 1.5 * _DAY, self.zone)
            if (moment := midnight.astimezone(UTC)) > found[-1]:  # a zone that crossed the date line skipped a day
                found.append(moment)
        return found


def _midnight(moment: datetime, zone: ZoneInfo | None) -> datetime:
    """The midnight before a moment on the wall, whatever the clocks did since."""
    return datetime(moment.year, moment.month, moment.day, tzinfo=zone or UTC)


def _steps(start: datetime, time_range: TimeRange, width: timedelta) -> Iterator[datetime]:
    while start < time_range.end:
        yield start
        start += width
