"""The OpenAPI description of what happened to a node: examples, and parameters that are parsed by hand."""

from dataclasses import dataclass
from typing import ClassVar, Final

from litestar.openapi.spec import Operation

from app.domain.events import DEFAULT_EVENTS, EVENT_PARAMETERS, MAX_EVENTS, STATUS_PARAMETERS
from app.domain.ranges import MOMENT_FORMS
from app.model import EventKind
from app.rest.parameters import ANY_TEXT, MOMENT, number, query, some_of

STATUS_HISTORY: Final = {
    "from": "2025-11-21T10:00:00.000Z",
    "to": "2025-11-21T11:00:00.000Z",
    "intervals": [
        {
            "status": "online",
            "from": "2025-11-21T10:00:00.000Z",
            "to": "2025-11-21T10:45:00.000Z",
            "reason": "registered",
        },
        {
            "status": "offline",
            "from": "2025-11-21T10:45:00.000Z",
            "to": "2025-11-21T11:00:00.000Z",
            "reason": "heartbeat timeout",
        },
    ],
    "uptimePercent": 75.0,
}
EVENTS: Final = {
    "from": "2025-11-21T10:00:00.000Z",
    "to": "2025-11-21T11:00:00.000Z",
    "events": [
        {
            "time": "2025-11-21T10:50:00.000Z",
            "kind": "status",
            "actor": "68dcf365f6a92c0d4911b619",
            "address": "203.0.113.10",
            "detail": {"from": "offline", "to": "maintenance", "reason": "new power supply"},
        },
        {
            "time": "2025-11-21T10:45:00.000Z",
            "kind": "status",
            "detail": {"from": "online", "to": "offline", "reason": "heartbeat timeout"},
        },
    ],
}
STATUS_DESCRIPTION: Final = (
    "Intervals, oldest first, cut to the range; the one that lasts ends now, or at `to`. `uptimePercent` is "
    "online ÷ (online + offline), rounded down to 0.001: `pending` and `installing` are no data yet, `maintenance` is "
    "not counted, and where a node was neither online nor offline it is left out."
)
EVENTS_DESCRIPTION: Final = (
    "Newest first, by the server's clock; what a worker told of a GPU (`gpu_xid`, `gpu_ecc_uncorrected`, `gpu_returned`, "
    "`gpu_vanished`) by the worker's own. `actor` is the user who did it, which workers and the service are not; "
    "`address` is the one that it was done from. No event is ever changed or taken away. "
    "`nextCursor` leads to the next page and brings the range along."
)

_PARAMETERS: Final = {
    parameter.name: parameter
    for parameter in (
        query("from", "First moment, inclusive; default one hour before `to`. " + MOMENT_FORMS, MOMENT, "now-7d"),
        query("to", "Last moment, exclusive; default now. The same forms", MOMENT, "now"),
        query("kind", "Comma list of " + ", ".join(EventKind), some_of(EventKind), "status,taken_over"),
        query("limit", "Events a page", number(MAX_EVENTS, DEFAULT_EVENTS)),
        query("cursor", "`nextCursor` of the page before; stands above `from` and `to`", ANY_TEXT),
    )
}


@dataclass
class _EventsOperation(Operation):
    """Its parameters are parsed by hand, as those of history; a subclass says which."""

    names: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or []), *(_PARAMETERS[name] for name in self.names)]


@dataclass
class StatusHistoryOperation(_EventsOperation):
    """GET /nodes/{id}/status-history."""

    names = STATUS_PARAMETERS


@dataclass
class EventsOperation(_EventsOperation):
    """GET /nodes/{id}/events."""

    names = EVENT_PARAMETERS
