"""A client that goes away while its answer is made: what was done for it ends, in the database too."""

import asyncio
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, TypeVar

from litestar import Request
from litestar.exceptions import HTTPException

from app.model import Caller

T = TypeVar("T")


class ClientGone(HTTPException):
    """Nobody is there to read the answer."""

    status_code = HTTPStatus.REQUEST_TIMEOUT
    detail = "The client went away before the answer was ready"


async def unless_gone(request: Request[Caller, Any, Any], work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; it is cancelled when the client goes away. Raises ClientGone then."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request[Caller, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
