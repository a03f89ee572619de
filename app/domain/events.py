"""What happened to a node: its statuses over time, and its events with time, actor and reason.

Only `online` and `offline` count for the uptime: `pending` and `installing` are no data yet, and
`maintenance` is a person's wish.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, cast

import msgspec

from app.clock import Clock
from app.domain import cursor
from app.domain.plans import MAX_POINTS_A_SERIES
from app.domain.questions import check_names, listed, whole_number
from app.domain.ranges import TimeRange, parse_moment, parse_range
from app.errors import FieldProblem, InvalidRequest, NodeNotFound
from app.model import Caller, EventKind, NodeStatus
from app.storage import events as storage
from app.storage.database import Database
from app.storage.events import Event, Period
from app.storage.history import Reader, reading

DEFAULT_EVENTS: Final = 100
MAX_EVENTS: Final = 1000

STATUS_PARAMETERS: Final = ("from", "to")
EVENT_PARAMETERS: Final = ("from", "to", "kind", "limit", "cursor")

Parameters = Sequence[tuple[str, str]]


class StatusInterval(msgspec.Struct, frozen=True):
    """A status, cut to the range that was asked for."""

    status: NodeStatus
    start: datetime
    end: datetime
    reason: str | None


class StatusHistory(msgspec.Struct, frozen=True):
    """Intervals, oldest first; `uptime_percent` is None where the node was neither online nor offline."""

    time_range: TimeRange
    intervals: list[StatusInterval]
    uptime_percent: float | None


class EventPage(msgspec.Struct, frozen=True):
    """Events of a range, newest first; `next_cursor` is None on the last page."""

    time_range: TimeRange
    events: list[Event]
    next_cursor: str | None


class _Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a walk through events stands. It brings its range along: "now" moves between two pages."""

    start: datetime
    end: datetime
    time: datetime
    id: int


class _EventQuestion(msgspec.Struct, frozen=True):
    time_range: TimeRange
    kinds: list[EventKind] | None
    limit: int
    behind: tuple[datetime, int] | None


class Events:
    """The service of what happened. Holds no state of its own; each question is one transaction."""

    def __init__(self, database: Database, clock: Clock, *, query_timeout_ms: int) -> None:
        self._database = database
        self._clock = clock
        self._query_timeout_ms = query_timeout_ms

    async def status_history(self, caller: Caller, node_id: str, parameters: Parameters) -> StatusHistory:
        """Which status a node had when, as a query string asks; what lasts ends now, or at `to`.

        Raises InvalidRequest, NodeNotFound (for another org's node too), StorageUnavailable.
        """
        now = parse_moment("now", self._clock.now())
        time_range = _status_range(parameters, now)
        async with reading(self._database, self._query_timeout_ms) as reader:
            key = await _key(reader, caller, node_id)
            rows = MAX_POINTS_A_SERIES + 1
            periods = await storage.read_periods(reader, key, time_range.start, time_range.end, rows)
        if len(periods) > MAX_POINTS_A_SERIES:
            problem = f"the status changed more than {MAX_POINTS_A_SERIES:,} times in this range: ask for a shorter one"
            raise InvalidRequest.of("from", problem)
        intervals = _cut(periods, time_range, now)
        return StatusHistory(time_range, intervals, _uptime_percent(intervals))

    async def events(self, caller: Caller, node_id: str, parameters: Parameters) -> EventPage:
        """One page of what happened to a node, as a query string asks.

        Raises InvalidRequest, NodeNotFound (for another org's node too), StorageUnavailable.
        """
        question = _event_question(parameters, self._clock.now())
        time_range = question.time_range
        async with reading(self._database, self._query_timeout_ms) as reader:
            key = await _key(reader, caller, node_id)
            # One more than asked for tells whether there is a next page.
            found = await storage.read_events(
                reader, key, time_range.start, time_range.end, question.kinds, question.behind, question.limit + 1
            )
        page = found[: question.limit]
        following = None
        if len(found) > len(page):
            place = _Place(time_range.start, time_range.end, page[-1].time, page[-1].id)
            following = cursor.seal(msgspec.msgpack.encode(place))
        return EventPage(time_range, page, following)


async def _key(reader: Reader, caller: Caller, node_id: str) -> int:
    node = await reader.find_node(node_id, None if caller.is_admin else caller.owner.org_id)
    if node is None:
        raise NodeNotFound
    return node.key


def _cut(periods: Sequence[Period], time_range: TimeRange, now: datetime) -> list[StatusInterval]:
    last = min(time_range.end, now)
    cut = (
        StatusInterval(period.status, max(period.start, time_range.start), min(period.end or last, last), period.reason)
        for period in periods
    )
    return [interval for interval in cut if interval.start < interval.end]


def _uptime_percent(intervals: Sequence[StatusInterval]) -> float | None:
    """Rounded down to a thousandth: 100 means that there was no outage, however short."""
    online, offline = (
        sum((it.end - it.start for it in intervals if it.status is status), timedelta())
        for status in (NodeStatus.ONLINE, NodeStatus.OFFLINE)
    )
    whole = online + offline
    return online * 100_000 // whole / 1000 if whole else None


def _status_range(parameters: Parameters, now: datetime) -> TimeRange:
    given = dict(parameters)
    time_range, _ = _together(
        lambda: parse_range(given.get("from"), given.get("to"), now),
        lambda: check_names(STATUS_PARAMETERS, parameters),
    )
    return cast(TimeRange, time_range)


def _event_question(parameters: Parameters, now: datetime) -> _EventQuestion:
    given = dict(parameters)
    kinds, limit, place, time_range, _ = _together(
        lambda: listed("kind", given.get("kind"), {kind.value: kind for kind in EventKind}),
        lambda: whole_number("limit", given["limit"], MAX_EVENTS) if "limit" in given else DEFAULT_EVENTS,
        lambda: _place(given["cursor"]) if "cursor" in given else None,
        lambda: None if "cursor" in given else parse_range(given.get("from"), given.get("to"), now),
        lambda: check_names(EVENT_PARAMETERS, parameters),
    )
    if place is None:
        return _EventQuestion(time_range, kinds, limit, None)
    return _EventQuestion(TimeRange(place.start, place.end), kinds, limit, (place.time, place.id))


def _together(*parsers: Callable[[], Any]) -> list[Any]:
    """What each gives. Raises one InvalidRequest with all that is wrong."""
    problems: list[FieldProblem] = []
    parsed: list[Any] = []
    for parse in parsers:
        try:
            parsed.append(parse())
        except InvalidRequest as error:
            problems.extend(error.details)
    if problems:
        raise InvalidRequest(*problems)
    return parsed


def _place(text: str) -> _Place:
    try:
        place = msgspec.msgpack.decode(cursor.unseal(text), type=_Place)
    except msgspec.MsgspecError:
        place = None
    # Whoever reads this can make a digest of his own: it must be fit to be put to the database.
    if place is None or not all(it.tzinfo for it in (place.start, place.end, place.time)) or not 0 <= place.id < 2**63:
        raise InvalidRequest.of("cursor", "is not a nextCursor of a node's events")
    return place
