"""What is asked of a fleet's history: as of a node's, and by what it is grouped, and who comes first."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from app.domain.buckets import parse_zone
from app.domain.fills import Fill, parse_fill
from app.domain.questions import Parsed, Part, check_names, fitting, listed, whole_number
from app.domain.ranges import Interval, TimeRange, parse_interval, parse_range
from app.errors import FieldProblem, InvalidRequest
from app.storage.fleet_series import GroupBy
from app.storage.measures import Aggregate, Measure
from app.storage.sources import GPU_METRICS, NODE_METRICS, Source

PARAMETERS: Final = (
    *("from", "to", "interval", "tz", "fields", "agg", "fill"),
    *("of", "groupBy", "top", "orderBy", "orgId"),
)
MAX_TOP: Final = 1000
MAX_ORG_ID: Final = 256
_SHOWN: Final = 32
SOURCES: Final = {"gpu": GPU_METRICS, "node": NODE_METRICS}


class Ranking(msgspec.Struct, frozen=True):
    """The first `top` groups by a measure over the whole range: the greatest, or the least."""

    top: int
    source: Source
    measure: Measure
    descending: bool


class FleetQuestion(msgspec.Struct, frozen=True):
    """A question about all nodes that somebody may see; `org_id` narrows it to one org."""

    time_range: TimeRange
    interval: Interval
    zone: ZoneInfo | None
    fill: Fill
    parts: tuple[Part, ...]
    group_by: GroupBy
    ranking: Ranking | None
    org_id: str | None


def parse_fleet_question(parameters: Sequence[tuple[str, str]], now: datetime) -> FleetQuestion:
    """The question that a query string asks. Raises InvalidRequest that names every parameter in the way."""
    problems: list[FieldProblem] = []

    def attempt(parse: Callable[[], Parsed]) -> Parsed | None:
        try:
            return parse()
        except InvalidRequest as error:
            problems.extend(error.details)
            return None

    attempt(lambda: check_names(PARAMETERS, parameters))
    given = dict(parameters)
    time_range = attempt(lambda: parse_range(given.get("from"), given.get("to"), now))
    interval = attempt(lambda: _bucketed(parse_interval(given.get("interval"))))
    zone = attempt(lambda: parse_zone(given.get("tz")))
    fill = attempt(lambda: parse_fill(given.get("fill")))
    group_by = attempt(lambda: _chosen("groupBy", given.get("groupBy"), {each.value: each for each in GroupBy}))
    group_by = group_by or GroupBy.NONE
    parts = attempt(lambda: _parts(given, group_by))
    ranking = attempt(lambda: _ranking(given, parts, group_by)) if parts else None
    org_id = attempt(lambda: parse_org_id(given["orgId"])) if "orgId" in given else None
    if time_range is None or interval is None or fill is None or parts is None or problems:
        raise InvalidRequest(*problems)
    return FleetQuestion(time_range, interval, zone, fill, parts, group_by, ranking, org_id)


def parse_org_id(text: str) -> str:
    """An organisation's id, as one asks for it. Raises InvalidRequest."""
    if not 1 <= len(text) <= MAX_ORG_ID or "\0" in text:
        raise InvalidRequest.of("orgId", f"must have 1 to {MAX_ORG_ID} characters, none of them NUL")
    return text


def _bucketed(interval: Interval) -> Interval:
    if interval is Interval.RAW:
        raise InvalidRequest.of("interval", "of a fleet is a bucket: raw samples are each node's own")
    return interval


def _chosen(parameter: str, text: str | None, known: dict[str, Parsed]) -> Parsed | None:
    if text is None:
        return None
    if text not in known:
        raise InvalidRequest.of(parameter, f"must be one of {', '.join(known)}")
    return known[text]


def _parts(given: dict[str, str], group_by: GroupBy) -> tuple[Part, ...]:
    """What each table answers. A name that nodes and GPUs share is a GPU's, unless `of=node`."""
    of = _chosen("of", given.get("of"), SOURCES)
    first = of or GPU_METRICS
    known = {field.name: (source, field) for source in (*SOURCES.values(), first) for field in source.fields}
    named = listed("fields", given.get("fields"), known)
    chosen = named if named is not None else [(first, field) for field in first.fields]
    wanted = listed("agg", given.get("agg"), {each.value: each for each in Aggregate})
    by_source: dict[Source, list[Measure]] = {}
    for source, field in chosen:
        measures = [Measure(field, each) for each in fitting(field, wanted, is_named=named is not None)]
        if measures:
            by_source.setdefault(source, []).extend(measures)
    if not by_source:
        raise InvalidRequest.of("agg", f"{', '.join(wanted or [])} fits no field here")
    if group_by.needs_gpus and any(not source.is_per_gpu for source in by_source):
        foreign = [measure.field.name for measure in by_source[NODE_METRICS]]
        raise InvalidRequest.of("groupBy", f"{group_by} is of GPUs, and {', '.join(dict.fromkeys(foreign))} of nodes")
    return tuple(Part(source, tuple(measures)) for source, measures in by_source.items())


def _ranking(given: dict[str, str], parts: tuple[Part, ...], group_by: GroupBy) -> Ranking | None:
    """`top` needs groups; `orderBy` names a field: `temperature`, `temperature:max`, `memoryFree:avg:asc`."""
    top, order_by = given.get("top"), given.get("orderBy")
    if top is None:
        if order_by is not None:
            raise InvalidRequest.of("orderBy", "goes with top: it says which groups come first")
        return None
    most = whole_number("top", top, MAX_TOP)
    if group_by is GroupBy.NONE:
        raise InvalidRequest.of("top", "needs groups to choose from: give groupBy")
    asked = [(part.source, measure) for part in parts for measure in part.measures]
    source, measure, descending = _order(order_by, asked)
    return Ranking(most, source, measure, descending)


def _order(text: str | None, asked: list[tuple[Source, Measure]]) -> tuple[Source, Measure, bool]:
    if text is None:
        return (*asked[0], True)
    name, *rest = text.split(":")
    direction = rest.pop() if rest and rest[-1] in ("asc", "desc") else "desc"
    for source, measure in asked:
        if measure.field.name == name and rest in ([], [measure.aggregate]):
            return source, measure, direction == "desc"
    there = ", ".join(f"{measure.field.name}:{measure.aggregate}" for _, measure in asked[:_SHOWN])
    raise InvalidRequest.of("orderBy", f"must be one of what is asked for, with :asc for the least first: {there}")
