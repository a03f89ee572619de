"""A node's history: which interval serves a question, and the series that answer it.

Rules that the answers keep:

- `from` is inclusive and `to` exclusive for samples. A bucket's time is its start, which may lie before
  `from`; of such a bucket only the samples within the range count, while they are kept.
- A measurement that is missing is left out, never 0. Where nothing was measured there is no point, unless a
  fill is asked for.
- With `raw` a point is a sample: its avg, min, max, sum, last and percentiles are the value, its count is 1.
- A node's fields each have a series, without points where nothing was measured. A device has series where
  it was sampled in the range, or was asked for by its `deviceId`.
- Percentiles of buckets of an hour and more come from histograms, shorter ones from samples.
- A counter's increase is counted where its later sample lies; its rate is that by the seconds it took.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from app.clock import Clock
from app.domain.buckets import Buckets
from app.domain.fills import Fill, filled
from app.domain.ladder import Kept, Ladder
from app.domain.plans import HISTOGRAMS_FROM, MAX_POINTS_A_SERIES, Plan, PlannedPart, blocks, points_of
from app.domain.questions import Question, Subject, parse_question
from app.domain.ranges import TimeRange
from app.domain.series import Name, Series, SeriesFound
from app.errors import DeviceNotFound, NodeNotFound
from app.model import Caller
from app.storage.database import Database
from app.storage.history import Block, KnownNode, Reader, reading
from app.storage.measures import Aggregate, Measure, Value

LOOK_BACK: Final = timedelta(hours=1)
"""A counter's first increase in a range needs the sample before it, which is looked for this far back."""


class History:
    """The history service. Holds no state of its own; each question is one transaction."""

    def __init__(self, database: Database, clock: Clock, *, query_timeout_ms: int, kept: Kept) -> None:
        self._database = database
        self._clock = clock
        self._query_timeout_ms = query_timeout_ms
        self._kept = kept

    async def read(
        self, subject: Subject, caller: Caller, node_id: str, parameters: Sequence[tuple[str, str]]
    ) -> SeriesFound:
        """What a query string asks of one node.

        Raises InvalidRequest for a question that does not fit, or whose answer would be too large;
        NodeNotFound for another org's node too; DeviceNotFound for a device that never was in it;
        StorageUnavailable for a query that takes too long.
        """
        now = self._clock.now()
        question = parse_question(subject, parameters, now)
        org_id = None if caller.is_admin else caller.owner.org_id
        async with reading(self._database, self._query_timeout_ms) as reader:
            node = _with_device(await reader.find_node(node_id, org_id), question.device_id)
            plan = Plan.of(question, node, self._kept, now)
            series = [each for part in plan.parts for each in await _read_part(reader, node, question, plan, part)]
        return SeriesFound(question.time_range, plan.buckets.interval, plan.parts[0].source, question.fill, series)


async def _read_part(
    reader: Reader, node: KnownNode, question: Question, plan: Plan, planned: PlannedPart
) -> list[Series]:
    """The series of one source, in the order in which its measures are asked for."""
    part = planned.part
    plain = tuple(measure for measure in part.measures if not measure.aggregate.is_of_counter)
    growing = tuple(measure for measure in part.measures if measure.aggregate.is_of_counter)
    found = await _read_plain(reader, node, question, plan, planned, plain) if plain else []
    found += await _read_growth(reader, node, question, plan, planned, growing) if growing else []
    if question.fill is not Fill.NONE:
        starts = plan.buckets.starts(question.time_range)
        found = [
            Series(each.of, each.measure, starts, filled(each.times, each.values, starts, question.fill))
            for each in found
        ]
    order = {measure: place for place, measure in enumerate(part.measures)}
    return sorted(found, key=lambda each: (each.of.device_id or "", order[each.measure])) if growing else found


async def _read_plain(
    reader: Reader,
    node: KnownNode,
    question: Question,
    plan: Plan,
    planned: PlannedPart,
    measures: tuple[Measure, ...],
) -> list[Series]:
    part, segments = planned.part, planned.ladder.segments(planned.time_range)
    most = plan.points * blocks(part, node)
    found = await reader.read(
        part.source, node, segments, points_of(plan.buckets, question.time_range), measures, most + 1
    )
    lengths = [len(block.times) for block in found]
    if sum(lengths) > most or max(lengths, default=0) > MAX_POINTS_A_SERIES:
        raise plan.exceeded(question.time_range)
    if not found and (not part.source.is_per_gpu or question.device_id is not None):
        found = [Block(question.device_id, [], [[] for _ in measures])]
    return [
        Series(Name(device_id=block.device_id), measure, block.times, values)
        for block in found
        for measure, values in zip(measures, block.columns, strict=True)
    ]


async def _read_growth(
    reader: Reader,
    node: KnownNode,
    question: Question,
    plan: Plan,
    planned: PlannedPart,
    measures: tuple[Measure, ...],
) -> list[Series]:
    ladder = counter_ladder(planned.ladder, plan.buckets, question.time_range)
    earlier = TimeRange(question.time_range.start - LOOK_BACK, question.time_range.end)
    read = {
        field: await reader.read_growth(
            planned.part.source,
            node,
            ladder.segments(earlier),
            points_of(plan.buckets, question.time_range),
            field,
            question.time_range.start,
            plan.points + 1,
        )
        for field in dict.fromkeys(measure.field for measure in measures)
    }
    if any(len(rows) > plan.points for rows in read.values()):
        raise plan.exceeded(question.time_range)
    return [
        Series(Name(), measure, [time for time, *_ in read[measure.field]], _grown(measure, read[measure.field]))
        for measure in measures
    ]


def counter_ladder(ladder: Ladder, buckets: Buckets, time_range: TimeRange) -> Ladder:
    """Counters come from samples below an hour, from the finest rollup above: coarse ones hide restarts."""
    finest, width = ladder.finest_at(time_range.start), buckets.width
    if finest is None and width is not None and width >= HISTOGRAMS_FROM and ladder.rollups:
        finest = ladder.rollups[0]
    return msgspec.structs.replace(ladder, rollups=() if finest is None else (finest,))


def _grown(measure: Measure, rows: Sequence[tuple[datetime, int, float]]) -> list[Value]:
    if measure.aggregate is Aggregate.INCREASE:
        return [growth for _, growth, _ in rows]
    return [round(growth / seconds, 4) if seconds else None for _, growth, seconds in rows]


def _with_device(node: KnownNode | None, device_id: str | None) -> KnownNode:
    """The node, with that device alone where one is asked for. Raises NodeNotFound, DeviceNotFound."""
    if node is None:
        raise NodeNotFound
    if device_id is None:
        return node
    gpus = {number: device for number, device in node.gpus.items() if device == device_id}
    if not gpus:
        raise DeviceNotFound
    return KnownNode(node.key, gpus)
