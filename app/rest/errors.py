"""Errors as answers: one JSON shape for all of them, whoever raised.

Nothing of the inside (a stack trace, SQL, a secret) reaches a client; what was not foreseen gets a
`requestId` under which the log has it.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException, ValidationException
from litestar.types import ExceptionHandlersMap
from msgspec import UNSET

from app.clock import timestamp
from app.errors import AiwmError, FieldProblem, InvalidRequest, TooManyRequests
from app.repeats import EACH_TIME
from app.rest.schemas import Detail, ErrorBody

_log = logging.getLogger(__name__)

_UNFORESEEN: Final = "Internal server error"
_GONE: Final = "client disconnected prematurely"
"""Litestar's word for a body of which the rest does not come; nobody is there to read an answer, and nothing is wrong here."""
_OWN_HEADERS: Final = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "5"}}


def on_known(request: Request[Any, Any, Any], error: AiwmError) -> Response[ErrorBody]:
    """One of the house's own errors."""
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and error.status != HTTPStatus.SERVICE_UNAVAILABLE:
        return on_unforeseen(request, error)
    details = error.details if isinstance(error, InvalidRequest) else ()
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, TooManyRequests) else None
    told = tuple(Detail(d.field, d.message) for d in details)
    return _answer(request, error.status, error.message, told, headers=headers)


def on_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorBody]:
    """One of Litestar's: no such route, no such method, a body that is too large."""
    if error.detail == _GONE:
        return _answer(request, HTTPStatus.BAD_REQUEST, "The body did not come to its end")
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return on_unforeseen(request, error)
    message = error.detail
    if isinstance(error, ValidationException):
        return on_known(request, InvalidRequest(*_problems_of(error)))
    if isinstance(error, NotFoundException):
        message = "There is nothing at this path"
    elif isinstance(error, MethodNotAllowedException):
        message = f"{request.method} is not allowed here"
    return _answer(request, error.status_code, message, headers=error.headers)


def on_unforeseen(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    """A defect: the log has all of it, the client a number."""
    request_id = uuid4().hex
    _log.error(
        "Unforeseen error at %s %s, requestId=%s",
        *(request.method, _path(request), request_id),
        exc_info=error,
        extra={EACH_TIME: True},
    )
    return _answer(request, 500, _UNFORESEEN, request_id=request_id)


EXCEPTION_HANDLERS: Final[ExceptionHandlersMap] = {
    AiwmError: on_known,
    HTTPException: on_http,
    Exception: on_unforeseen,
}


def error_body(
    path: str, status: int, message: str, details: tuple[Detail, ...] = (), *, request_id: str | None = None
) -> ErrorBody:
    """The shape that all errors have."""
    return ErrorBody(
        status_code=status,
        error=HTTPStatus(status).phrase,
        message=message,
        path=path,
        timestamp=timestamp(datetime.now(UTC)),
        details=details if status == HTTPStatus.BAD_REQUEST else UNSET,
        request_id=request_id or UNSET,
    )


def _answer(
    request: Request[Any, Any, Any],
    status: int,
    message: str,
    details: tuple[Detail, ...] = (),
    *,
    headers: Mapping[str, str] | None = None,
    request_id: str | None = None,
) -> Response[ErrorBody]:
    body = error_body(_path(request), status, message, details, request_id=request_id)
    sent = {**(headers or {}), **_OWN_HEADERS.get(status, {})}
    return Response(body, status_code=status, media_type=MediaType.JSON, headers=sent)


def _problems_of(error: ValidationException) -> list[FieldProblem]:
    """Litestar lists what it found wrong in `extra`, each with the parameter's name as `key`."""
    found = error.extra if isinstance(error.extra, list) else []
    if any(item["key"] == "data" for item in found):
        return [FieldProblem("body", "is required: a JSON object")]
    return [FieldProblem(str(item["key"]), str(item["message"])) for item in found]


def _path(request: Request[Any, Any, Any]) -> str:
    """The path as it was asked for, without its query string."""
    return str(request.scope.get("path", ""))
