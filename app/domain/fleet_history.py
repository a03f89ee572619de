"""A fleet's history: series of groups of nodes or GPUs, those of deleted nodes in their time included.

The rules are those of a node's history. A group's average, extremes, count and percentiles are over all of its
samples, its sum adds up the averages of its series, and its growth and rates are those of its counters, added up.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Final

import msgspec

from app.clock import Clock
from app.domain.buckets import Buckets
from app.domain.exports import OF_GPU, OF_NODE, Export, Keys, check_fill, counted, exported
from app.domain.fills import Fill, filled
from app.domain.fleet import org_asked
from app.domain.fleet_questions import FleetQuestion, Ranking, parse_fleet_question
from app.domain.history import LOOK_BACK, counter_ladder
from app.domain.ladder import Kept, Ladder, Reach
from app.domain.plans import ANSWER, NO_LIMITS, Limits, TooManyPoints, parted, picked, points_of, serving
from app.domain.questions import Part
from app.domain.ranges import AUTO_POINTS, Interval, TimeRange, fitting
from app.domain.series import Series, SeriesFound
from app.domain.slices import slices
from app.errors import Forbidden
from app.model import Caller
from app.storage.database import Database
from app.storage.fleet_history import (
    GroupBlock,
    Groups,
    Key,
    count_groups,
    groups_of,
    kinds,
    names,
    rank_groups,
    rank_grown_groups,
    read_groups,
    read_grown_groups,
)
from app.storage.fleet_series import GroupBy
from app.storage.history import Reader, reading
from app.storage.measures import Aggregate, Measure, Value
from app.storage.sources import GPU_METRICS, GPUS_OF_NODES, Segment, coarsest


class FleetHistory:
    """The history service of fleets. Holds no state of its own; each question is one transaction."""

    def __init__(
        self, database: Database, clock: Clock, *, query_timeout_ms: int, kept: Kept, limits: Limits = ANSWER
    ) -> None:
        self._database = database
        self._clock = clock
        self._query_timeout_ms = query_timeout_ms
        self._kept = kept
        self._limits = limits

    async def read(self, caller: Caller, parameters: Sequence[tuple[str, str]]) -> SeriesFound:
        """What a query string asks of all nodes that the caller may see.

        Raises InvalidRequest for a question that does not fit, or whose answer would be too large; Forbidden for
        what only an admin may ask; StorageUnavailable for a query that takes too long.
        """
        now = self._clock.now()
        question = parse_fleet_question(parameters, now)
        async with reading(self._database, self._query_timeout_ms) as reader:
            groups = await count_groups(reader, question.group_by, org_asked(caller, question.org_id))
            if question.ranking is not None:
                groups = min(groups, question.ranking.top)
            plan = _Plan.of(question, Reach(self._kept, reader.rolled, now), self._limits, groups=groups)
            plan.check(question.time_range)
            chosen = await _groups(reader, caller, question, plan)
            series = await _read(reader, chosen, question, plan)
        (first, ladder), *_ = plan.parts
        ladder = _of_nodes(ladder, question.group_by, first.measures, plan.buckets)
        source = coarsest(ladder.segments(question.time_range))
        return SeriesFound(question.time_range, plan.buckets.interval, source, question.fill, series)

    async def export(self, caller: Caller, parameters: Sequence[tuple[str, str]]) -> Export:
        """The same as a table, without limits; `auto` is by the range alone. Raises what `read` raises, before the first row."""
        now = self._clock.now()
        question = parse_fleet_question(parameters, now)
        check_fill(question.fill)
        async with reading(self._database, self._query_timeout_ms) as reader:
            plan = _Plan.of(question, Reach(self._kept, reader.rolled, now), NO_LIMITS)
            chosen = await _groups(reader, caller, question, plan)
        parts = question.parts
        if len(parts) == 1:  # of nodes and GPUs together there are two numbers of samples
            parts = (Part(parts[0].source, counted(parts[0].measures, is_raw=False)),)
        asked = msgspec.structs.replace(question, interval=plan.buckets.interval, parts=parts)

        async def read(piece: TimeRange, limits: Limits) -> list[Series]:
            of_piece = msgspec.structs.replace(asked, time_range=piece)
            async with reading(self._database, None) as reader:
                plan = _Plan.of(of_piece, Reach(self._kept, reader.rolled, now), limits)
                return await _read(reader, chosen, of_piece, plan)

        measures = list(dict.fromkeys(measure for part in parts for measure in part.measures))
        found = slices(asked.time_range, plan.buckets, read)
        name = "fleet" if question.group_by is GroupBy.NONE else f"fleet-by-{question.group_by}"
        return exported(name, _KEYS[question.group_by], measures, found, is_raw=False)


_KEYS: Final[Mapping[GroupBy, Keys]] = {
    GroupBy.NODE: OF_NODE,
    GroupBy.GPU: OF_GPU,
    GroupBy.GPU_MODEL: {"gpu_model": "group"},
    GroupBy.ROLE: {"role": "group"},
    GroupBy.ORG: {"org_id": "group"},
    GroupBy.NONE: {},
}


async def _groups(reader: Reader, caller: Caller, question: FleetQuestion, plan: "_Plan") -> Groups:
    """All groups that the caller may see, or where a question asks for those alone, the ones that come first."""
    if question.group_by is GroupBy.ORG and not caller.is_admin:
        raise Forbidden("groupBy=org compares orgs: it is for admins")
    found = await groups_of(reader, question.group_by, org_asked(caller, question.org_id))
    if question.ranking is None:
        return found
    return found.chosen(await _ranked(reader, found, question, question.ranking, plan))


async def _read(reader: Reader, groups: Groups, question: FleetQuestion, plan: "_Plan") -> list[Series]:
    found = [
        each for part, ladder in plan.parts for each in await _read_part(reader, groups, question, plan, part, ladder)
    ]
    if question.fill is not Fill.NONE:
        if len(found) * plan.buckets.count(question.time_range) > plan.limits.in_all:
            raise plan.exceeded(question.time_range, len(found))
        starts = plan.buckets.starts(question.time_range)
        found = [
            (key, measure, starts, filled(times, values, starts, question.fill))
            for key, measure, times, values in found
        ]
    named = await names(reader, groups, list(dict.fromkeys(key for key, *_ in found)))
    ranks = {key: rank for rank, key in enumerate(groups.keys or [])}
    places = {
        measure: (part, place)
        for part, each in enumerate(question.parts)
        for place, measure in enumerate(each.measures)
    }

    def order(each: _Found) -> tuple[int, int, str, int]:
        key, measure, *_ = each
        part, place = places[measure]
        return ranks.get(key, 0), part, str(key), place

    found.sort(key=order)
    return [Series(named[key], measure, times, values) for key, measure, times, values in found]


_Found = tuple[Key, Measure, list[datetime], list[Value]]
_WHOLE: Final[Key] = 0
"""The one group where there are no groups."""


class _Plan(msgspec.Struct, frozen=True):
    """The buckets that answer, and what is read of each source, with the tables that serve it.

    `series` is how many there are at most.
    """

    buckets: Buckets
    parts: list[tuple[Part, Ladder]]
    series: int
    limits: Limits

    @classmethod
    def of(cls, question: FleetQuestion, reach: Reach, limits: Limits, *, groups: int = 1) -> "_Plan":
        """How a question is answered; whether there are too many points turns out when they are read."""
        time_range, interval = question.time_range, question.interval
        series = max(groups, 1) * sum(len(part.measures) for part in question.parts)
        parts = parted(question.parts)
        ladders = [Ladder(part.source, part.source.rollups, reach) for part in parts]
        if interval is Interval.AUTO:
            interval = picked(parts, ladders, time_range, min(AUTO_POINTS - 1, limits.in_all // series))
        buckets = Buckets(interval, question.zone)
        buckets.check(time_range)
        serve = (
            (part, serving(part, ladder, buckets).fitting(buckets, time_range))
            for part, ladder in zip(parts, ladders, strict=True)
        )
        return cls(buckets, list(serve), series, limits)

    def check(self, time_range: TimeRange) -> None:
        """Raise TooManyPoints where the range alone tells that there would be too many."""
        most = self.limits.a_series
        if self.buckets.count(time_range) > most:
            fits = next(fitting(time_range, most), None)
            advice = f"interval={fits} would do" if fits else "ask for a shorter range"
            raise TooManyPoints.of(
                "interval", f"{self.buckets.interval} gives more than {most:,} points a series: {advice}"
            )

    def exceeded(self, time_range: TimeRange, series: int) -> TooManyPoints:
        """Too many points of so many series in all, and which interval would do."""
        wider = (
            each for each in fitting(time_range, self.limits.in_all // series) if each is not self.buckets.interval
        )
        fits = next(wider, None)
        advice = f"interval={fits} would do" if fits else "ask for a shorter range, fewer fields, or the top groups"
        return TooManyPoints.of(
            "interval", f"{self.buckets.interval} gives more than {self.limits.in_all:,} points in all: {advice}"
        )


async def _ranked(reader: Reader, groups: Groups, question: FleetQuestion, ranking: Ranking, plan: _Plan) -> list[Key]:
    ladder = next(ladder for part, ladder in plan.parts if part.source is ranking.source)
    ladder = msgspec.structs.replace(ladder, rollups=ranking.source.rollups)
    time_range, top, descending = question.time_range, ranking.top, ranking.descending
    if ranking.measure.aggregate.is_of_counter:
        segments = counter_ladder(ladder, Buckets(Interval.DAY), time_range).segments(_with_one_before(time_range))
        return await rank_grown_groups(
            reader, ranking.source, groups, segments, ranking.measure, time_range.start, top, descending=descending
        )
    part = Part(ranking.source, (ranking.measure,))
    segments = serving(part, ladder, Buckets(Interval.DAY)).segments(time_range)
    return await rank_groups(reader, ranking.source, groups, segments, ranking.measure, top, descending=descending)


def _with_one_before(time_range: TimeRange) -> TimeRange:
    """The range, and what a counter's first increase in it is counted from."""
    return TimeRange(time_range.start - LOOK_BACK, time_range.end)


async def _read_part(
    reader: Reader, groups: Groups, question: FleetQuestion, plan: _Plan, part: Part, ladder: Ladder
) -> list[_Found]:
    """All series of one part."""
    points = points_of(plan.buckets, question.time_range)
    most = plan.limits.in_all // sum(len(each.measures) for each in question.parts)
    found: list[_Found] = []

    def take(blocks: list[GroupBlock], measures: Sequence[Measure]) -> None:
        if sum(len(block.times) for block in blocks) > most:
            raise plan.exceeded(question.time_range, plan.series)
        for block in blocks:
            for measure, values in zip(measures, block.columns, strict=True):
                found.append((block.key, measure, block.times, values))

    growths = [each for each in part.measures if each.aggregate.is_of_counter]
    for measures in kinds(each for each in part.measures if each not in growths):
        for segments in _portions(_of_nodes(ladder, question.group_by, measures, plan.buckets), question, measures):
            take(await read_groups(reader, part.source, groups, segments, points, measures, most + 1), measures)
    if growths:
        ladder = counter_ladder(ladder, plan.buckets, question.time_range)
        segments = ladder.segments(_with_one_before(question.time_range))
        for field in dict.fromkeys(each.field for each in growths):
            blocks = await read_grown_groups(
                reader,
                part.source,
                groups,
                segments,
                points,
                field,
                question.time_range.start,
                most + 1,
            )
            take(blocks, [Measure(field, Aggregate.INCREASE), Measure(field, Aggregate.RATE)])
    asked = _joined([each for each in found if each[1] in part.measures])
    if question.group_by is GroupBy.NONE:
        # The whole fleet has its series as a node has: without points where nothing was measured.
        there = {measure for _, measure, *_ in asked}
        asked += [(_WHOLE, measure, [], []) for measure in part.measures if measure not in there]
    return asked


def _joined(found: list[_Found]) -> list[_Found]:
    """Series that were read in portions, each as one; no two portions have a bucket in common."""
    whole: dict[tuple[Key, Measure], list[tuple[datetime, Value]]] = {}
    for key, measure, times, values in found:
        whole.setdefault((key, measure), []).extend(zip(times, values, strict=True))
    for points in whole.values():
        points.sort(key=itemgetter(0))
    return [
        (key, measure, [time for time, _ in points], [value for _, value in points])
        for (key, measure), points in whole.items()
    ]


def _of_nodes(ladder: Ladder, group_by: GroupBy, measures: Sequence[Measure], buckets: Buckets) -> Ladder:
    """The ladder with rollups of nodes' GPUs together, where nobody asks for a GPU by itself.

    What their sums add up are averages of their own buckets, and of no wider ones.
    """
    aggregates = {measure.aggregate for measure in measures}
    if ladder.source is not GPU_METRICS or group_by.needs_gpus:
        return ladder
    together = {
        rollup.width: rollup
        for rollup in GPUS_OF_NODES
        if aggregates <= _TOGETHER or (aggregates == {Aggregate.SUM} and buckets.width == rollup.width)
    }
    return msgspec.structs.replace(
        ladder, rollups=tuple(together.get(rollup.width, rollup) for rollup in ladder.rollups)
    )


_TOGETHER: Final = {Aggregate.AVG, Aggregate.MIN, Aggregate.MAX, Aggregate.COUNT}


def _portions(ladder: Ladder, question: FleetQuestion, measures: Sequence[Measure]) -> list[list[Segment]]:
    """What is read at once: all, but sums that are added up already by themselves, and what is around them by itself."""
    segments = ladder.segments(question.time_range)
    added_up = {rollup.table for rollup in GPUS_OF_NODES}
    together = [segment for segment in segments if segment.table in added_up]
    if measures[0].aggregate is not Aggregate.SUM or not together:
        return [segments]
    ends = [segment for segment in segments if segment not in together]
    return [together, *([ends] if ends else [])]
