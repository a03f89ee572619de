"""Not about nodes: whether the service lives and is ready, and a word to Socket.IO clients."""

from functools import cache
from typing import Any, Final

import msgspec
from litestar import HttpMethod, WebSocket, get, route, websocket
from litestar.di import NamedDependency

from app.errors import AiwmError, StorageUnavailable
from app.rest import examples
from app.rest.errors import error_body
from app.rest.openapi import answer, error_responses
from app.rest.schemas import Health
from app.storage import schema
from app.storage.database import Database

_SOCKET_IO: Final = ["/socket.io", "/socket.io/{rest:path}"]


class NoSocketIo(AiwmError):
    """Somebody speaks Socket.IO to a service that does not."""

    status = 404
    default = "This service does not speak Socket.IO: it speaks plain WebSocket at /ws/node"


@get(
    "/health/live",
    operation_id="getLiveness",
    summary="Whether the process answers",
    description="For a container's liveness probe: it asks nobody else.",
    tags=["system"],
    security=[{}],
    responses={200: answer(Health, "It answers", examples.HEALTH), **error_responses()},
)
async def live() -> Health:
    """Say that the process runs."""
    return Health("ok")


@get(
    "/health/ready",
    operation_id="getReadiness",
    summary="Whether the service can do its work",
    description="200 while the database can be reached and its migrations are current, else 503.",
    tags=["system"],
    security=[{}],
    responses={200: answer(Health, "It is ready", examples.HEALTH), **error_responses(503)},
)
async def ready(database: NamedDependency[Database]) -> Health:
    """Ask the database. Raises StorageUnavailable."""
    await database.ping()
    if await schema.current(database) != newest_migration():
        raise StorageUnavailable("The database's migrations are not current: run `aiwm db upgrade`")
    return Health("ok")


@cache
def newest_migration() -> str:
    """The newest migration of this program; read once, it can't change under it."""
    return schema.head()


@route(
    _SOCKET_IO,
    http_method=[method for method in HttpMethod if method is not HttpMethod.OPTIONS],
    include_in_schema=False,
)
async def socket_io() -> None:
    """Tell a Socket.IO client why it gets nowhere."""
    raise NoSocketIo


@websocket(_SOCKET_IO)
async def socket_io_upgrade(socket: WebSocket[Any, Any, Any]) -> None:
    """Tell the same to one that starts with a handshake: it gets an answer instead of a socket."""
    body = error_body(str(socket.scope["path"]), NoSocketIo.status, NoSocketIo.default)
    headers = [(b"content-type", b"application/json")]
    await socket.send({"type": "websocket.http.response.start", "status": NoSocketIo.status, "headers": headers})
    await socket.send({"type": "websocket.http.response.body", "body": msgspec.json.encode(body), "more_body": False})
