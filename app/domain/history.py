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
from datetime import timedelta
from typing import Final

import msgspec

from app.clock import Clock
from app.domain.buckets import Buckets
from app.domain.exports import OF_GPU, OF_NODE, Export, check_fill, counted, exported
from app.domain.fills import Fill, filled
from app.domain.ladder import Kept, Ladder, Reach
from app.domain.plans import HISTOGRAMS_FROM, NO_LIMITS, Limits, Plan, PlannedPart, blocks, points_of
from app.domain.questions import Part, Question, Subject, parse_question
from app.domain.ranges import Interval, TimeRange
from app.domain.series import Name, Series, SeriesFound
from app.domain.slices import slices
from app.errors import DeviceNotFound, NodeNotFound
from app.model import Caller
from app.storage.database import Database
from app.storage.history import Block, Device, Growth, KnownNode, Reader, reading
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
            node = _as_one(_with_device(await reader.find_node(node_id, org_id), question.device_id))
            plan = Plan.of(question, node, Reach(self._kept, reader.rolled, now))
            plan.check(question.time_range)
            series = await _read(reader, node, question, plan)
        return SeriesFound(question.time_range, plan.buckets.interval, plan.parts[0].source, question.fill, series)

    async def export(
        self, subject: Subject, caller: Caller, node_id: str, parameters: Sequence[tuple[str, str]]
    ) -> Export:
        """The same as a table, without limits; a GPU has the model that it had at the time.

        Raises what `read` raises, before the first row.
        """
        now = self._clock.now()
        question = parse_question(subject, parameters, now)
        check_fill(question.fill)
        org_id = None if caller.is_admin else caller.owner.org_id
        async with reading(self._database, self._query_timeout_ms) as reader:
            node = _with_device(await reader.find_node(node_id, org_id), question.device_id)
            buckets = Plan.of(question, node, Reach(self._kept, reader.rolled, now), NO_LIMITS).buckets
        is_raw = buckets.interval is Interval.RAW
        parts = tuple(Part(part.source, counted(part.measures, is_raw=is_raw)) for part in question.parts)
        asked = msgspec.structs.replace(question, interval=buckets.interval, parts=parts)

        async def read(piece: TimeRange, limits: Limits) -> list[Series]:
            of_piece = msgspec.structs.replace(asked, time_range=piece)
            async with reading(self._database, None) as reader:
                plan = Plan.of(of_piece, node, Reach(self._kept, reader.rolled, now), limits)
                found = await _read(reader, node, of_piece, plan)
            return [msgspec.structs.replace(each, of=_named(node, each.of)) for each in found]

        measures = list(dict.fromkeys(measure for part in parts for measure in part.measures))
        found = slices(asked.time_range, buckets, read)
        columns = OF_GPU if any(part.source.is_per_gpu for part in parts) else OF_NODE
        return exported(f"{node.name}-{parts[0].source.name}", columns, measures, found, is_raw=is_raw)


async def _read(reader: Reader, node: KnownNode, question: Question, plan: Plan) -> list[Series]:
    """The series by device, in the order in which their measures are asked for."""
    found = [each for part in plan.parts for each in await _read_part(reader, node, question, plan, part)]
    devices = {_name(device): place for place, device in enumerate([None, *node.gpus.values()])}
    measures = {each: place for place, each in enumerate(each for part in question.parts for each in part.measures)}
    return sorted(found, key=lambda each: (devices[each.of], measures[each.measure]))


async def _read_part(
    reader: Reader, node: KnownNode, question: Question, plan: Plan, planned: PlannedPart
) -> list[Series]:
    """The series of one part."""
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
    return found


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
    _check_size(found, question, plan, most)
    if not found and _is_named(question, part):
        found = [Block(_named_device(question), [], [[] for _ in measures])]
    return [
        Series(_name(block.device), measure, block.times, values)
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
    part, ladder = planned.part, counter_ladder(planned.ladder, plan.buckets, question.time_range)
    earlier = TimeRange(question.time_range.start - LOOK_BACK, question.time_range.end)
    most = plan.points * blocks(part, node)
    series: list[Series] = []
    for field in dict.fromkeys(measure.field for measure in measures):
        found = await reader.read_growth(
            part.source,
            node,
            ladder.segments(earlier),
            points_of(plan.buckets, question.time_range),
            field,
            question.time_range.start,
            most + 1,
        )
        _check_size(found, question, plan, most)
        if not found and _is_named(question, part):
            found = [Growth(_named_device(question), [], [], [])]
        series += [
            Series(_name(growth.device), measure, growth.times, _grown(measure, growth))
            for growth in found
            for measure in measures
            if measure.field is field
        ]
    return series


def _check_size(found: Sequence[Block | Growth], question: Question, plan: Plan, most: int) -> None:
    """Raise TooManyPoints where more was read than there may be."""
    lengths = [len(each.times) for each in found]
    if sum(lengths) > most or max(lengths, default=0) > plan.limits.a_series:
        raise plan.exceeded(question.time_range)


def _is_named(question: Question, part: Part) -> bool:
    """Whether there is a series also of nothing: the node's own, or that of a device that is asked for."""
    return not part.source.is_per_gpu or question.device_id is not None


def _named_device(question: Question) -> Device | None:
    return None if question.device_id is None else Device(question.device_id)


def counter_ladder(ladder: Ladder, buckets: Buckets, time_range: TimeRange) -> Ladder:
    """Counters come from samples below an hour, from the finest rollup above: coarse ones hide restarts."""
    finest, width = ladder.finest_at(time_range.start), buckets.width
    if finest is None and width is not None and width >= HISTOGRAMS_FROM and ladder.rollups:
        finest = ladder.rollups[0]
    return msgspec.structs.replace(ladder, rollups=() if finest is None else (finest,))


def _grown(measure: Measure, growth: Growth) -> list[Value]:
    if measure.aggregate is Aggregate.INCREASE:
        return list(growth.growths)
    return [
        round(grown / seconds, 4) if seconds else None
        for grown, seconds in zip(growth.growths, growth.seconds, strict=True)
    ]


def _with_device(node: KnownNode | None, device_id: str | None) -> KnownNode:
    """The node, with that device alone where one is asked for. Raises NodeNotFound, DeviceNotFound."""
    if node is None:
        raise NodeNotFound
    if device_id is None:
        return node
    gpus = {number: device for number, device in node.gpus.items() if device.device_id == device_id}
    if not gpus:
        raise DeviceNotFound
    return msgspec.structs.replace(node, gpus=gpus)


def _as_one(node: KnownNode) -> KnownNode:
    """The node with devices that are the same whichever model they had: an answer has one series of each."""
    gpus = {number: Device(device.device_id) for number, device in node.gpus.items()}
    return msgspec.structs.replace(node, gpus=gpus)


def _name(device: Device | None) -> Name:
    return Name() if device is None else Name(device_id=device.device_id, gpu_model=device.model)


def _named(node: KnownNode, of: Name) -> Name:
    return msgspec.structs.replace(of, node_id=node.id, node_name=node.name, org_id=node.org_id)
