"""Stretches of time as people ask for them: from, to, and the interval that sums them up."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from app.clock import timestamp, to_milliseconds
from app.errors import InvalidRequest

DEFAULT_LENGTH: Final = timedelta(hours=1)
AUTO_POINTS: Final = 1_000
"""`auto` stays below this many points a series."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_RELATIVE: Final = re.compile(r"now(?:-(\d{1,9})([smhdw]))?", re.ASCII)
_UNITS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_MILLISECONDS: Final = re.compile(r"\d{1,15}", re.ASCII)
_BLANK_FOR_PLUS: Final = re.compile(r"(T\S*) (\d\d:?\d\d)", re.ASCII)
MOMENT_FORMS: Final = (
    "ISO 8601 with an offset (2025-11-21T10:00:00Z), epoch milliseconds, or now, now-6h (s, m, h, d, w)"
)


class Interval(StrEnum):
    """How much time one point sums up: nothing (`raw`), a bucket, or what `auto` finds fitting."""

    RAW = "raw"
    MINUTE = "1m"
    FIVE_MINUTES = "5m"
    QUARTER_HOUR = "15m"
    HOUR = "1h"
    SIX_HOURS = "6h"
    DAY = "1d"
    AUTO = "auto"


WIDTHS: Final = {
    Interval.MINUTE: timedelta(minutes=1),
    Interval.FIVE_MINUTES: timedelta(minutes=5),
    Interval.QUARTER_HOUR: timedelta(minutes=15),
    Interval.HOUR: timedelta(hours=1),
    Interval.SIX_HOURS: timedelta(hours=6),
    Interval.DAY: timedelta(days=1),
}
"""Bucket widths, finest first. Each divides a day, so that buckets start at midnight UTC whatever their origin."""


class TimeRange(msgspec.Struct, frozen=True):
    """From `start`, inclusive, to `end`, exclusive; UTC, whole milliseconds."""

    start: datetime
    end: datetime

    def buckets(self, width: timedelta) -> int:
        """How many buckets of this width the range touches."""
        first = (self.start - _EPOCH) // width
        last = (self.end - _MICROSECOND - _EPOCH) // width
        return last - first + 1


def parse_range(start: str | None, end: str | None, now: datetime) -> TimeRange:
    """The range of `from` and `to`; without `to` it ends now, without `from` it is an hour long.

    Raises InvalidRequest, with each of the two that is wrong.
    """
    problems: list[InvalidRequest] = []
    moments: dict[str, datetime | None] = {}
    for name, text in (("from", start), ("to", end)):
        try:
            moments[name] = None if text is None else parse_moment(text, now)
        except ValueError as error:
            problems.append(InvalidRequest.of(name, str(error)))
    if problems:
        raise InvalidRequest(*(detail for problem in problems for detail in problem.details))
    last = moments["to"] or _to_next_millisecond(now)
    return _checked(moments["from"] or _before(last), last)


def parse_moment(text: str, now: datetime) -> datetime:
    """A moment in one of the three forms, rounded up to a whole millisecond.

    Samples have whole milliseconds: rounded up, a bound parts them as the exact one would. Raises
    ValueError with a sentence.
    """
    try:
        moment = _moment(text, now)
        if moment.tzinfo is not None:
            return _to_next_millisecond(moment)
    except OverflowError:
        raise ValueError("lies outside the years 1 to 9999") from None
    except ValueError:
        raise ValueError(f"is not a time: give {MOMENT_FORMS}") from None
    raise ValueError("has no offset: end it with Z, or with one such as +07:00")


def parse_interval(text: str | None) -> Interval:
    """An interval by its name. Raises InvalidRequest that lists them."""
    try:
        return Interval.AUTO if text is None else Interval(text)
    except ValueError:
        raise InvalidRequest.of("interval", f"must be one of {', '.join(Interval)}") from None


def fitting(time_range: TimeRange, points: int) -> Iterator[Interval]:
    """The intervals, finest first, that keep a series of this range at `points` points at most."""
    return (interval for interval, width in WIDTHS.items() if time_range.buckets(width) <= points)


def _moment(text: str, now: datetime) -> datetime:
    if relative := _RELATIVE.fullmatch(text):
        count, unit = relative.groups()
        return now - int(count) * _UNITS[unit] if count else now
    if _MILLISECONDS.fullmatch(text):
        return _EPOCH + timedelta(milliseconds=int(text))
    # A plus sign that nobody escaped reaches us as a blank.
    blank = _BLANK_FOR_PLUS.search(text)
    return datetime.fromisoformat(f"{text[: blank.end(1)]}+{blank[2]}" if blank else text)


def _to_next_millisecond(moment: datetime) -> datetime:
    return to_milliseconds(moment + 999 * _MICROSECOND)


def _before(end: datetime) -> datetime:
    return max(end, datetime.min.replace(tzinfo=UTC) + DEFAULT_LENGTH) - DEFAULT_LENGTH


def _checked(start: datetime, end: datetime) -> TimeRange:
    if start >= end:
        raise InvalidRequest.of("from", f"{timestamp(start)} is not before to, {timestamp(end)}: the range is empty")
    return TimeRange(start, end)
