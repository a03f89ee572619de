"""What is asked of a node's history: a range, an interval, fields with their aggregates, a device."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from app.domain.buckets import parse_zone
from app.domain.fills import Fill, parse_fill
from app.domain.ranges import Interval, TimeRange, parse_interval, parse_range
from app.errors import FieldProblem, InvalidRequest
from app.quantities import Field
from app.storage.measures import Aggregate, Measure
from app.storage.sources import GPU_DETAILS, GPU_HEARTBEATS, GPU_METRICS, HEARTBEATS, NODE_METRICS, Source

Parsed = TypeVar("Parsed")

_SHOWN: Final = 32
"""Of a wrong word, this many characters are repeated."""
_DIGITS: Final = 20
"""Of a number; Python itself refuses to read very long ones."""

_OF_TEXT: Final = (Aggregate.LAST, Aggregate.COUNT)


class Subject(NamedTuple):
    """A part of a node's history that has an endpoint: the tables that hold it, the node's own first."""

    sources: tuple[Source, ...]
    parameters: tuple[str, ...] = ("from", "to", "interval", "tz", "fields", "agg", "fill")

    @property
    def fields(self) -> tuple[Field, ...]:
        """All fields; each name stands for one of them."""
        return tuple(field for source in self.sources for field in source.fields)


NODE_HISTORY: Final = Subject((NODE_METRICS,))
GPU_HISTORY: Final = Subject((GPU_METRICS,), (*NODE_HISTORY.parameters, "deviceId"))
GPU_DETAIL_HISTORY: Final = Subject((GPU_DETAILS,), GPU_HISTORY.parameters)
HEARTBEAT_HISTORY: Final = Subject((HEARTBEATS, GPU_HEARTBEATS))


class Part(NamedTuple):
    """What one table answers; never empty."""

    source: Source
    measures: tuple[Measure, ...]


class Question(msgspec.Struct, frozen=True):
    """A question about one node; `device_id` is None for all of them."""

    time_range: TimeRange
    interval: Interval
    zone: ZoneInfo | None
    fill: Fill
    parts: tuple[Part, ...]
    device_id: str | None


def parse_question(subject: Subject, parameters: Sequence[tuple[str, str]], now: datetime) -> Question:
    """The question that a query string asks. Raises InvalidRequest that names every parameter in the way."""
    problems: list[FieldProblem] = []

    def attempt(parse: Callable[[], Parsed]) -> Parsed | None:
        try:
            return parse()
        except InvalidRequest as error:
            problems.extend(error.details)
            return None

    attempt(lambda: check_names(subject.parameters, parameters))
    given = dict(parameters)
    time_range = attempt(lambda: parse_range(given.get("from"), given.get("to"), now))
    interval = attempt(lambda: parse_interval(given.get("interval")))
    zone = attempt(lambda: parse_zone(given.get("tz")))
    fill = attempt(lambda: parse_fill(given.get("fill")))
    if fill is not Fill.NONE and interval is Interval.RAW:
        problems.append(FieldProblem("fill", "needs buckets to fill: with interval=raw there are samples alone"))
    fields = attempt(lambda: listed("fields", given.get("fields"), {field.name: field for field in subject.fields}))
    aggregates = attempt(lambda: listed("agg", given.get("agg"), {each.value: each for each in Aggregate}))
    parts = attempt(lambda: _parts(subject, fields, aggregates))
    if time_range is None or interval is None or fill is None or parts is None or problems:
        raise InvalidRequest(*problems)
    return Question(time_range, interval, zone, fill, parts, given.get("deviceId"))


def _parts(subject: Subject, chosen: list[Field] | None, wanted: list[Aggregate] | None) -> tuple[Part, ...]:
    """Each field with each aggregate, in the order in which they are asked for.

    Without fields these are all that the aggregates fit; without aggregates it is the average of a
    number and the last of a text. Raises InvalidRequest where a field that is named has one that does not fit.
    """
    by_field = {field: fitting(field, wanted, is_named=chosen is not None) for field in chosen or subject.fields}
    parts = (
        Part(source, tuple(Measure(field, each) for field in _of(source, chosen) for each in by_field[field]))
        for source in subject.sources
    )
    found = tuple(part for part in parts if part.measures)
    if not found:
        raise InvalidRequest.of("agg", f"{', '.join(wanted or [])} fits no field here")
    return found


def check_names(known: Sequence[str], parameters: Sequence[tuple[str, str]]) -> None:
    """Raise InvalidRequest for parameters that there are not, that are given twice, or that nothing can be compared with."""
    problems: list[FieldProblem] = []
    seen: set[str] = set()
    for name, text in parameters:
        if name not in known:
            problems.append(FieldProblem(name, f"is not a parameter here: there are {', '.join(known)}"))
        elif "\0" in text:
            problems.append(FieldProblem(name, "must not contain the character NUL"))
        elif name in seen:
            problems.append(FieldProblem(name, "is given more than once; lists are written with commas"))
        seen.add(name)
    if problems:
        raise InvalidRequest(*problems)


def whole_number(parameter: str, text: str, most: int) -> int:
    """A whole number from 1 to `most`. Raises InvalidRequest."""
    if not (text.isascii() and text.isdecimal()) or len(text) > _DIGITS or not 1 <= int(text) <= most:
        raise InvalidRequest.of(parameter, f"must be a whole number from 1 to {most}")
    return int(text)


def listed(parameter: str, text: str | None, known: Mapping[str, Parsed]) -> list[Parsed] | None:
    """The members of a comma list, each once. Raises InvalidRequest that lists the right ones."""
    if text is None:
        return None
    names = dict.fromkeys(part.strip() for part in text.split(","))
    unknown = [name for name in names if name not in known]
    if unknown:
        wrong = ", ".join(repr(name[:_SHOWN]) for name in unknown[:_SHOWN])
        raise InvalidRequest.of(parameter, f"there is no {wrong} here: there are {', '.join(known)}")
    return [known[name] for name in names]


def fitting(field: Field, wanted: list[Aggregate] | None, *, is_named: bool) -> list[Aggregate]:
    """The aggregates that a field is read by. Raises InvalidRequest where one does not fit a field that is named."""
    if wanted is None:
        return [Aggregate.LAST if field.quantity is None else Aggregate.AVG]
    unfit = [each for each in wanted if not _fits(field, each)]
    if unfit and is_named:
        kind = "text: last and count do" if field.quantity is None else "no counter: rate and increase are of counters"
        raise InvalidRequest.of("agg", f"{', '.join(unfit)} does not fit {field.name}, which is {kind}")
    return [each for each in wanted if each not in unfit]


def _fits(field: Field, aggregate: Aggregate) -> bool:
    if aggregate.is_of_counter:
        return field.is_counter
    return field.quantity is not None or aggregate in _OF_TEXT


def _of(source: Source, chosen: list[Field] | None) -> Sequence[Field]:
    """The chosen fields that are this table's: no two tables of a subject share a name."""
    names = {field.name for field in source.fields}
    return source.fields if chosen is None else [field for field in chosen if field.name in names]
