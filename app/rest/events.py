"""What happened to a node: /nodes/:id/status-history, /nodes/:id/events."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import BodyKwarg
from msgspec import UNSET, UnsetType

from app.clock import timestamp
from app.domain.events import EventPage, Events, StatusHistory
from app.model import Caller, EventKind, NodeStatus
from app.rest import events_openapi as described
from app.rest.events_openapi import EventsOperation, StatusHistoryOperation
from app.rest.node_id import PathId, checked
from app.rest.openapi import answer, error_responses
from app.rest.schemas import Timestamp
from app.storage.events import Event


class IntervalAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A status from when to when, and why it was entered."""

    status: NodeStatus
    from_: Timestamp = msgspec.field(name="from")
    to: Timestamp
    reason: str | UnsetType = UNSET


class StatusHistoryAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Statuses over a range, oldest first. `uptimePercent` is left out where there is nothing to tell it from."""

    from_: Timestamp = msgspec.field(name="from")
    to: Timestamp
    intervals: list[IntervalAnswer]
    uptime_percent: float | UnsetType = msgspec.field(name="uptimePercent", default=UNSET)

    @classmethod
    def of(cls, history: StatusHistory) -> "StatusHistoryAnswer":
        """A status history as the API shows it."""
        return cls(
            from_=timestamp(history.time_range.start),
            to=timestamp(history.time_range.end),
            intervals=[
                IntervalAnswer(
                    status=it.status,
                    from_=timestamp(it.start),
                    to=timestamp(it.end),
                    reason=UNSET if it.reason is None else it.reason,
                )
                for it in history.intervals
            ],
            uptime_percent=UNSET if history.uptime_percent is None else history.uptime_percent,
        )


class EventAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened. `actor` is a user's id, which workers and the service have none of; `address` is whence."""

    time: Timestamp
    kind: EventKind
    actor: str | UnsetType = UNSET
    address: str | UnsetType = UNSET
    detail: Annotated[msgspec.Raw, BodyKwarg(schema_extra={"type": "object"})] | UnsetType = UNSET

    @classmethod
    def of(cls, event: Event) -> "EventAnswer":
        """An event as the API shows it."""
        return cls(
            time=timestamp(event.time),
            kind=event.kind,
            actor=UNSET if event.actor is None else event.actor,
            address=UNSET if event.address is None else event.address,
            detail=UNSET if event.detail is None else msgspec.Raw(event.detail.encode()),
        )


class EventsAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One page of events, newest first. `nextCursor` is left out on the last page."""

    from_: Timestamp = msgspec.field(name="from")
    to: Timestamp
    events: list[EventAnswer]
    next_cursor: str | UnsetType = msgspec.field(name="nextCursor", default=UNSET)

    @classmethod
    def of(cls, page: EventPage) -> "EventsAnswer":
        """A page as the API shows it."""
        return cls(
            from_=timestamp(page.time_range.start),
            to=timestamp(page.time_range.end),
            events=[EventAnswer.of(event) for event in page.events],
            next_cursor=UNSET if page.next_cursor is None else page.next_cursor,
        )


_ERRORS: Final = error_responses(400, 401, 403, 404, 503)


class EventsController(Controller):
    """Each handler: check what came, ask the service, show what it says."""

    path = "/nodes/{node_id:str}"
    tags: Sequence[str] | None = ("history",)

    @get(
        "/status-history",
        operation_id="getStatusHistory",
        summary="Statuses of a node over time",
        description=described.STATUS_DESCRIPTION,
        operation_class=StatusHistoryOperation,
        responses={200: answer(StatusHistoryAnswer, "The node's statuses", described.STATUS_HISTORY), **_ERRORS},
    )
    async def status_history(
        self,
        request: Request[Caller, None, Any],
        events: NamedDependency[Events],
        caller: NamedDependency[Caller],
        node_id: PathId,
    ) -> StatusHistoryAnswer:
        """GET /nodes/:id/status-history."""
        parameters = list(request.query_params.multi_items())
        return StatusHistoryAnswer.of(await events.status_history(caller, checked(node_id), parameters))

    @get(
        "/events",
        operation_id="getNodeEvents",
        summary="What happened to a node",
        description=described.EVENTS_DESCRIPTION,
        operation_class=EventsOperation,
        responses={200: answer(EventsAnswer, "One page", described.EVENTS), **_ERRORS},
    )
    async def node_events(
        self,
        request: Request[Caller, None, Any],
        events: NamedDependency[Events],
        caller: NamedDependency[Caller],
        node_id: PathId,
    ) -> EventsAnswer:
        """GET /nodes/:id/events."""
        parameters = list(request.query_params.multi_items())
        return EventsAnswer.of(await events.events(caller, checked(node_id), parameters))
