"""Who may do what with whose nodes: a row for each operation and caller, with a column for each org.

The expectations are rules over a table of operations; a test holds that table against the application's own routes, so
that an endpoint which nobody classified fails.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from litestar import Litestar
from litestar.routes import HTTPRoute

from app.install.daemon_file import NAME as DAEMON
from app.model import CallerRole


class Reach(StrEnum):
    """What an operation is about, and thereby where it could leak."""

    OPEN = "open"
    """Nothing of any org: the same answer to everybody."""
    SERVICE = "service"
    """The service itself: for a portal token, whatever its org."""
    NODE = "node"
    """The node of its path: another org's does not exist."""
    NODES = "nodes"
    """All nodes that the caller may see; `orgId` asks for one org's."""
    NEW = "new"
    """A node that is to be: for the caller's own org, and an admin's any."""


class Operation(NamedTuple):
    """An operation of the OpenAPI document, by its method and its path there."""

    method: str
    path: str
    reach: Reach
    needs: CallerRole = CallerRole.VIEWER
    body: Mapping[str, Any] | None = None
    done: int = 200

    @property
    def name(self) -> str:
        """As people write it."""
        return f"{self.method} {self.path}"


_READ: Final = ("", "/metrics", "/gpus/metrics", "/gpus/details", "/heartbeats", "/status-history", "/events")

OPERATIONS: Final = (
    Operation("GET", "/health/live", Reach.OPEN),
    Operation("GET", "/health/ready", Reach.OPEN),
    Operation("GET", f"/install/{DAEMON}", Reach.OPEN),
    Operation("GET", "/metrics", Reach.SERVICE),
    Operation("GET", "/nodes", Reach.NODES),
    Operation("GET", "/fleet/summary", Reach.NODES),
    Operation("GET", "/fleet/metrics", Reach.NODES),
    Operation("GET", "/fleet/prometheus", Reach.NODES),
    Operation("POST", "/nodes", Reach.NEW, CallerRole.OPERATOR, {"name": "new", "role": ["worker"]}, 201),
    *(Operation("GET", f"/nodes/{{node_id}}{each}", Reach.NODE) for each in _READ),
    Operation("PUT", "/nodes/{node_id}", Reach.NODE, CallerRole.OPERATOR, {"name": "renamed"}),
    Operation("POST", "/nodes/{node_id}/token", Reach.NODE, CallerRole.OPERATOR, {"expiresIn": 3600}),
    Operation("DELETE", "/nodes/{node_id}/token", Reach.NODE, CallerRole.OPERATOR),
    Operation("DELETE", "/nodes/{node_id}", Reach.NODE, CallerRole.OPERATOR),
)

UNDESCRIBED: Final = ("/schema", "/socket.io")
"""Where paths start that are not in the OpenAPI document, open to all: itself, and a sentence for Socket.IO clients."""

NOBODY, STRANGER = "no token", "no org"
CALLERS: Final = (NOBODY, STRANGER, *CallerRole)
"""No token at all, a viewer's token that names no org, and each role with an org."""

_RANK: Final = {role: rank for rank, role in enumerate(CallerRole)}


class Row(NamedTuple):
    """The statuses that a caller gets for its own org's, another org's and an absent org's."""

    operation: str
    caller: str
    own: int
    foreign: int
    absent: int


def expected(operation: Operation, caller: str) -> Row:
    """What the contract says."""
    return Row(operation.name, caller, *_statuses(operation, caller))


def matrix() -> Iterator[Row]:
    """Every row."""
    for operation in OPERATIONS:
        for caller in CALLERS:
            yield expected(operation, caller)


def _statuses(operation: Operation, caller: str) -> tuple[int, int, int]:
    refused = _refused(operation, caller)
    if refused is not None:
        return refused, refused, refused
    done, is_admin = operation.done, caller == CallerRole.ADMIN
    match operation.reach:
        case Reach.OPEN | Reach.SERVICE:
            return done, done, done
        case Reach.NODE:
            return done, done if is_admin else 404, 404
        case Reach.NODES | Reach.NEW:
            elsewhere = done if is_admin else 400
            return done, elsewhere, elsewhere


def _refused(operation: Operation, caller: str) -> int | None:
    """The status before anybody asks whose it is."""
    if operation.reach is Reach.OPEN:
        return None
    if caller == NOBODY:
        return 401
    if caller == STRANGER or _RANK[CallerRole(caller)] < _RANK[operation.needs]:
        return 403
    return None


def routed(app: Litestar) -> set[tuple[str, str]]:
    """Method and path of every route that the application really has, but for those that are UNDESCRIBED."""
    return {
        (method, route.path_format)
        for route in app.routes
        if isinstance(route, HTTPRoute) and not route.path.startswith(UNDESCRIBED)
        for method in route.route_handler_map
        if method != "OPTIONS"  # Litestar's own: which methods there are
    }
