"""How a question is answered: in which buckets, from which tables, and whether that is too much.

How many points there would be is told from the range, before anything is read; with `raw` by reading one
row more than there may be.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final, NamedTuple

import msgspec

from app.domain.buckets import Buckets
from app.domain.ladder import Ladder, Reach
from app.domain.questions import Part, Question
from app.domain.ranges import AUTO_POINTS, WIDTHS, Interval, TimeRange, fitting
from app.errors import InvalidRequest
from app.storage.history import KnownNode, Points
from app.storage.sources import coarsest

MAX_POINTS_A_SERIES: Final = 10_000
MAX_POINTS: Final = 1_000_000
_ENDLESS: Final = 2**31
HISTOGRAMS_FROM: Final = timedelta(hours=1)
"""Percentiles of buckets from here up come from histograms, of shorter ones from samples."""


class Limits(NamedTuple):
    """How many points there may be, in each series and in all."""

    a_series: int = MAX_POINTS_A_SERIES
    in_all: int = MAX_POINTS


ANSWER: Final = Limits()
"""Of an answer that is made at once."""

NO_LIMITS: Final = Limits(_ENDLESS, _ENDLESS)


class TooManyPoints(InvalidRequest):
    """More points than there may be."""


class PlannedPart(msgspec.Struct, frozen=True):
    """What is read of one source, and from where."""

    part: Part
    ladder: Ladder
    time_range: TimeRange

    @property
    def source(self) -> str:
        """The coarsest table that serves it."""
        return coarsest(self.ladder.segments(self.time_range))


class Plan(msgspec.Struct, frozen=True):
    """The buckets that answer, with how many series there are at most and how many points each may have."""

    buckets: Buckets
    parts: tuple[PlannedPart, ...]
    series: int
    points: int
    limits: Limits

    @classmethod
    def of(cls, question: Question, node: KnownNode, reach: Reach, limits: Limits = ANSWER) -> "Plan":
        """How a question is answered; whether there are too many points turns out when they are read.

        Raises InvalidRequest for days of a time zone over a range that is too long for them.
        """
        time_range = question.time_range
        series = sum(len(part.measures) * blocks(part, node) for part in question.parts)
        points = min(limits.a_series, limits.in_all // max(series, 1))
        parts = parted(question.parts)
        ladders = [Ladder(part.source, part.source.rollups, reach) for part in parts]
        interval = question.interval
        if interval is Interval.AUTO:
            interval = picked(parts, ladders, time_range, min(AUTO_POINTS - 1, points))
        buckets = Buckets(interval, question.zone)
        buckets.check(time_range)
        planned = tuple(
            PlannedPart(part, serving(part, ladder, buckets).fitting(buckets, time_range), time_range)
            for part, ladder in zip(parts, ladders, strict=True)
        )
        return cls(buckets, planned, series, points, limits)

    def check(self, time_range: TimeRange) -> None:
        """Raise TooManyPoints where the range alone tells that there would be too many."""
        if self.buckets.interval is not Interval.RAW and self.buckets.count(time_range) > self.points:
            raise self.exceeded(time_range)

    def exceeded(self, time_range: TimeRange) -> TooManyPoints:
        """Too many points, and which interval would do."""
        interval = self.buckets.interval
        made = "" if interval is Interval.RAW else f" (up to {self.buckets.count(time_range):,})"
        finest = next(fitting(time_range, self.points), None)
        advice = (
            "no interval would do, ask for a shorter range or for less at once"
            if finest is None
            else f"interval={finest} would do ({time_range.buckets(WIDTHS[finest]):,})"
        )
        return TooManyPoints.of(
            "interval",
            f"{interval} gives more points than the {self.points:,} that each of {self.series} series may have"
            f"{made}: {advice}",
        )


def parted(parts: Iterable[Part]) -> list[Part]:
    """The parts, percentiles that only samples can tell by themselves: the others need not be read from samples, too."""
    found: list[Part] = []
    for part in parts:
        of_samples = tuple(each for each in part.measures if each.aggregate.share is not None and not each.field.scale)
        others = tuple(each for each in part.measures if each not in of_samples)
        found += [Part(part.source, measures) for measures in (others, of_samples) if measures]
    return found


def picked(parts: Iterable[Part], ladders: Iterable[Ladder], time_range: TimeRange, points: int) -> Interval:
    """What `auto` is: the finest interval of so many points at most, of those that something is kept for."""
    of_parts = (_telling(part, ladder) for part, ladder in zip(parts, ladders, strict=True))
    finest = max((_finest_kept(ladder, time_range) for ladder in of_parts), default=timedelta())
    return next((each for each in fitting(time_range, points) if WIDTHS[each] >= finest), Interval.DAY)


def _finest_kept(ladder: Ladder, time_range: TimeRange) -> timedelta:
    """How long the shortest buckets are that are kept for a whole range."""
    finest = ladder.finest_at(time_range.start)
    return timedelta() if finest is None else finest.width


def serving(part: Part, ladder: Ladder, buckets: Buckets) -> Ladder:
    """The ladder with the rollups alone that can tell the part's measures in these buckets."""
    telling = _telling(part, ladder)
    is_long = buckets.width is not None and buckets.width >= HISTOGRAMS_FROM
    return telling if is_long or telling is ladder else msgspec.structs.replace(ladder, rollups=())


def _telling(part: Part, ladder: Ladder) -> Ladder:
    """The ladder with the rollups alone that have what the part's measures are told from."""
    percentiles = [measure.field for measure in part.measures if measure.aggregate.share is not None]
    if not percentiles:
        return ladder
    has_histograms = all(field.scale is not None for field in percentiles)
    rollups = tuple(rollup for rollup in ladder.rollups if has_histograms and rollup.has_histograms)
    return msgspec.structs.replace(ladder, rollups=rollups)


def blocks(part: Part, node: KnownNode) -> int:
    """How many blocks of series a part may have: one for each device that ever was in the node."""
    return len(set(node.gpus.values())) if part.source.is_per_gpu else 1


def points_of(buckets: Buckets, time_range: TimeRange) -> Points:
    """Where the points of a range stand, as storage is told."""
    return Points(edges=buckets.edges(time_range)) if buckets.are_zoned else Points(width=buckets.width)
