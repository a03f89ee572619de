"""A long range read piece by piece, so that as much memory is needed as a piece takes, however long the range is.

Each piece ends where a bucket does, and is as long as the rows of the one before it let expect. None is a
transaction over the whole: that would keep the database from clearing up for as long as somebody downloads.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from app.domain.buckets import Buckets, ceiling
from app.domain.plans import NO_LIMITS, Limits, TooManyPoints
from app.domain.ranges import TimeRange
from app.domain.series import Series

WANTED_POINTS: Final = 250_000
MOST_POINTS: Final = 4 * WANTED_POINTS
_FIRST: Final = timedelta(minutes=15)
_GROWTH: Final = 8

Read = Callable[[TimeRange, Limits], Awaitable[list[Series]]]


async def slices(time_range: TimeRange, buckets: Buckets, read: Read) -> AsyncIterator[list[Series]]:
    """The series of each piece, in the order of time. `read` raises TooManyPoints beyond its limits."""
    edges = buckets.edges(time_range)[1:] if buckets.are_zoned else []
    start, length = time_range.start, _FIRST
    while start < time_range.end:
        end = min(_edge(start, length, buckets, edges), time_range.end)
        shortest = min(_edge(start, timedelta(milliseconds=1), buckets, edges), time_range.end)
        limits = Limits(MOST_POINTS, MOST_POINTS) if end > shortest else NO_LIMITS
        try:
            series = await read(TimeRange(start, end), limits)
        except TooManyPoints:
            length = (end - start) / _GROWTH
            continue
        yield series
        points = sum(len(each.times) for each in series)
        factor = min(WANTED_POINTS / points, _GROWTH) if points else _GROWTH
        start, length = end, (end - start) * factor


def _edge(start: datetime, length: timedelta, buckets: Buckets, edges: Sequence[datetime]) -> datetime:
    """The first end of a bucket that is not before the end of this length."""
    try:
        wanted = start + length
        if buckets.are_zoned:
            return next((edge for edge in edges if edge >= wanted), edges[-1])
        return wanted if buckets.width is None else ceiling(wanted, buckets.width)
    except OverflowError:
        return datetime.max.replace(tzinfo=start.tzinfo)
