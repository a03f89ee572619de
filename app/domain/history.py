"""A node's history: which interval serves a question, and the series that answer it.

Rules that the answers keep:

- `from` is inclusive and `to` exclusive for samples. A bucket's time is its start, which may lie before
  `from`; of such a bucket only the samples within the range count.
- A measurement that is missing is left out, never 0. Where nothing was measured there is no point.
- With `raw` a point is a sample: its avg, min, max, sum and last are the value, its count is 1.
- A node's fields each have a series, without points where nothing was measured. A device has series where
  it was sampled in the range, or was asked for by its `deviceId`.
- How many points there would be is told from the range, before anything is read; with `raw` by reading
  one row more than there may be.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

import msgspec

from app.clock import Clock
from app.domain.questions import Part, Question, Subject, parse_question
from app.domain.ranges import AUTO_POINTS, WIDTHS, Interval, TimeRange, fitting
from app.errors import DeviceNotFound, InvalidRequest, NodeNotFound
from app.model import Caller
from app.storage.database import Database
from app.storage.history import Block, KnownNode, Reader, Window, reading
from app.storage.series import Measure, Value

MAX_POINTS_A_SERIES: Final = 10_000
MAX_POINTS: Final = 1_000_000


class Series(msgspec.Struct, frozen=True):
    """One measure over time; `values` in units beside `times`, None where there is none.

    Series of one device share their `times`.
    """

    device_id: str | None
    measure: Measure
    times: list[datetime]
    values: list[Value]


class NodeHistory(msgspec.Struct, frozen=True):
    """An answer; `interval` is the one that was picked, `source` the table that served it."""

    time_range: TimeRange
    interval: Interval
    source: str
    series: list[Series]


class History:
    """The history service. Holds no state of its own; each question is one transaction."""

    def __init__(self, database: Database, clock: Clock, *, query_timeout_ms: int) -> None:
        self._database = database
        self._clock = clock
        self._query_timeout_ms = query_timeout_ms

    async def read(
        self, subject: Subject, caller: Caller, node_id: str, parameters: Sequence[tuple[str, str]]
    ) -> NodeHistory:
        """What a query string asks of one node.

        Raises InvalidRequest for a question that does not fit, or whose answer would be too large;
        NodeNotFound for another org's node too; DeviceNotFound for a device that never was in it;
        StorageUnavailable for a query that takes too long.
        """
        question = parse_question(subject, parameters, self._clock.now())
        org_id = None if caller.is_admin else caller.owner.org_id
        async with reading(self._database, self._query_timeout_ms) as reader:
            node = _with_device(await reader.find_node(node_id, org_id), question.device_id)
            plan = _Plan.of(question, node)
            series = [each for part in question.parts for each in await _read_part(reader, node, question, plan, part)]
        return NodeHistory(question.time_range, plan.interval, question.parts[0].source.name, series)


class _Plan(msgspec.Struct, frozen=True):
    """The interval that answers, with how many series there are at most and how long each may be."""

    interval: Interval
    series: int
    points: int

    @classmethod
    def of(cls, question: Question, node: KnownNode) -> "_Plan":
        """Raises InvalidRequest where the interval would make too many points."""
        series = sum(len(part.measures) * _blocks(part, node) for part in question.parts)
        points = min(MAX_POINTS_A_SERIES, MAX_POINTS // max(series, 1))
        interval = question.interval
        if interval is Interval.AUTO:
            interval = next(fitting(question.time_range, min(AUTO_POINTS - 1, points)), Interval.DAY)
        plan = cls(interval, series, points)
        if interval is not Interval.RAW and question.time_range.buckets(WIDTHS[interval]) > points:
            raise plan.exceeded(question.time_range)
        return plan

    def exceeded(self, time_range: TimeRange) -> InvalidRequest:
        """Too many points, and which interval would do."""
        made = "" if self.interval is Interval.RAW else f" (up to {time_range.buckets(WIDTHS[self.interval]):,})"
        finest = next(fitting(time_range, self.points), None)
        advice = (
            "no interval would do, ask for a shorter range or for less at once"
            if finest is None
            else f"interval={finest} would do ({time_range.buckets(WIDTHS[finest]):,})"
        )
        return InvalidRequest.of(
            "interval",
            f"{self.interval} gives more points than the {self.points:,} that each of {self.series} series may have"
            f"{made}: {advice}",
        )


async def _read_part(reader: Reader, node: KnownNode, question: Question, plan: _Plan, part: Part) -> Iterator[Series]:
    window = Window(question.time_range.start, question.time_range.end, WIDTHS.get(plan.interval))
    most = plan.points * _blocks(part, node)
    blocks = await reader.read(part.source, node, window, part.measures, most + 1)
    lengths = [len(block.times) for block in blocks]
    if sum(lengths) > most or max(lengths, default=0) > MAX_POINTS_A_SERIES:
        raise plan.exceeded(question.time_range)
    if not blocks and (not part.source.is_per_gpu or question.device_id is not None):
        blocks = [Block(question.device_id, [], [[] for _ in part.measures])]
    return (
        Series(block.device_id, measure, block.times, values)
        for block in blocks
        for measure, values in zip(part.measures, block.columns, strict=True)
    )


def _blocks(part: Part, node: KnownNode) -> int:
    """How many blocks of series a part may have: one for each device that ever was in the node."""
    return len(set(node.gpus.values())) if part.source.is_per_gpu else 1


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
