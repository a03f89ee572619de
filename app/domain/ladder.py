"""Which tables serve a range: the coarsest that answers exactly, finer ones for the ends that it cannot.

A rollup is read up to its watermark; what was not rolled up yet comes from the next finer one. A bucket of
a rollup can be counted only as a whole. Where a range begins or ends within one, what lies in the range comes
from the next finer table, in the end from the samples. Where those are not kept any more, the finest bucket
that is counts as a whole.

The midnights of some time zones lie within an hour. Days of theirs are made of what is finer while that is kept, and
of hours before it: an hour that midnight cuts counts in the day in which it starts.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from app.domain.buckets import EPOCH, Buckets, ceiling, floor
from app.domain.ranges import TimeRange
from app.storage.sources import Rollup, Segment, Source

Kept = Mapping[str, timedelta | None]
"""For how long the rows of a table are kept, by its name; None is for ever, and so is a table that is not there."""
Rolled = Mapping[str, datetime]
"""Up to where a rollup may be read, by its name; there is nothing in one that is not there."""


_HOUR: Final = timedelta(hours=1)


class Reach(msgspec.Struct, frozen=True):
    """From when to when there is something in each table, as of `now`."""

    kept: Kept
    rolled: Rolled
    now: datetime

    def begins_by(self, table: str, moment: datetime) -> bool:
        """Whether a table's rows of a moment are kept."""
        begin = self.begin(table)
        return begin is None or moment >= begin

    def begin(self, table: str) -> datetime | None:
        """From when on a table's rows are kept; None where all are."""
        kept = self.kept.get(table)
        return None if kept is None else self.now - kept


class Ladder(msgspec.Struct, frozen=True):
    """The tables that can serve a question, finest first: samples, then rollups."""

    source: Source
    rollups: tuple[Rollup, ...]
    reach: Reach
    cut: Rollup | None = None
    """Serves where none of them is kept any more, though bounds of buckets cut its own."""

    def finest_at(self, moment: datetime) -> Rollup | None:
        """The finest rollup that reaches back to a moment; None where the samples do, or nothing does better."""
        if self.reach.begins_by(self.source.name, moment):
            return None
        rollups = self.rollups if self.cut is None else (*self.rollups, self.cut)
        kept = (rollup for rollup in rollups if self.reach.begins_by(str(rollup.table.name), moment))
        return next(kept, rollups[-1] if rollups else None)

    def fitting(self, buckets: Buckets, time_range: TimeRange) -> "Ladder":
        """The ladder without rollups whose buckets do not make up those that are asked for."""
        bounds = buckets.edges(time_range) if buckets.are_zoned else []
        narrow = tuple(each for each in self.rollups if buckets.width is not None and buckets.width >= each.width)
        fit = tuple(each for each in narrow if not any((bound - EPOCH) % each.width for bound in bounds))
        cut = next((each for each in narrow if each not in fit and each.width == _HOUR), None)
        return msgspec.structs.replace(self, rollups=fit, cut=cut)

    def segments(self, time_range: TimeRange) -> list[Segment]:
        """What each table answers of a range, in the order of time."""
        start, end = time_range.start, time_range.end
        if self.cut is not None and self.finest_at(start) is self.cut:
            return self._cut_segments(time_range, self.cut)
        if finest := self.finest_at(start):
            start = floor(start, finest.width)
        if finest := self.finest_at(end):
            end = ceiling(end, finest.width)
        return list(self._cover(start, end, self.rollups[::-1]))

    def _cut_segments(self, time_range: TimeRange, cut: Rollup) -> list[Segment]:
        """The same where hours serve what nothing finer is kept of: those that start in it, whole."""
        names = (self.source.name, *(str(rollup.table.name) for rollup in self.rollups))
        finer = min(begin for name in names if (begin := self.reach.begin(name)) is not None)
        edge = ceiling(min(max(finer, time_range.start), time_range.end), cut.width)
        rest = TimeRange(edge, time_range.end)
        return [
            *self._cover(ceiling(time_range.start, cut.width), edge, (cut,)),
            *(msgspec.structs.replace(self, cut=None).segments(rest) if edge < time_range.end else ()),
        ]

    def _cover(self, start: datetime, end: datetime, coarsest_first: Sequence[Rollup]) -> Iterator[Segment]:
        if start >= end:
            return
        if not coarsest_first:
            yield Segment(self.source.table, start, end)
            return
        (table, width), *finer = coarsest_first
        first = ceiling(start, width)
        last = min(floor(end, width), self.reach.rolled.get(str(table.name), first))
        if first >= last:
            yield from self._cover(start, end, finer)
            return
        yield from self._cover(start, first, finer)
        yield Segment(table, first, last)
        yield from self._cover(last, end, finer)
