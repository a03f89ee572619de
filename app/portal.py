"""The service's REST API, as clients use it: a few requests at a time, patient with a service that is busy."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx
import msgspec

from app.errors import StartupError
from app.retry_after import BUSY, seconds_of

AT_ONCE: Final = 8
PAGE: Final = 1000
_ATTEMPTS: Final = 8

_Kind = TypeVar("_Kind")
_Item = TypeVar("_Item")


class Refused(StartupError):
    """The service answered with an error; its sentence is in the text."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


class _Problem(msgspec.Struct):
    message: str = ""


class Portal:
    """The service's REST API. Owned by whoever enters it; its connections close on leaving.

    Every request raises Refused with what the service said, or StartupError with what the network said.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            base_url=self._url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(30.0),
            limits=httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def get(self, path: str, kind: type[_Kind], parameters: Mapping[str, str | int] | None = None) -> _Kind:
        """What GET answers."""
        return await self._request("GET", path, kind, params=parameters)

    async def post(self, path: str, kind: type[_Kind], body: Mapping[str, Any]) -> _Kind:
        """What POST answers."""
        return await self._request("POST", path, kind, json=body)

    async def delete(self, path: str) -> None:
        """DELETE."""
        await self._request("DELETE", path, dict[str, Any])

    async def nodes(self, parameters: Mapping[str, str | int]) -> AsyncIterator[dict[str, Any]]:
        """Each node of GET /nodes, along its cursor."""
        page = {"limit": PAGE, **parameters}
        while True:
            answer = await self.get("/nodes", dict[str, Any], page)
            for node in answer["data"]:
                yield node
            if "nextCursor" not in answer:
                return
            page["cursor"] = answer["nextCursor"]

    async def _request(self, method: str, path: str, kind: type[_Kind], **content: Any) -> _Kind:
        """One request; a service that is busy is asked again when it says so."""
        for _ in range(_ATTEMPTS):
            try:
                answer = await self._client.request(method, path, **content)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                raise StartupError(f"No answer from {self._url}{path}: {_reason(error)}.") from None
            if answer.status_code not in BUSY:
                break
            await asyncio.sleep(seconds_of(answer.headers.get("Retry-After")))
        if not answer.is_success:
            sentence = f"{self._url}{path} answered {answer.status_code}{_said(answer)}."
            raise Refused(sentence, answer.status_code)
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.DecodeError as error:
            raise StartupError(f"{answer.url} does not answer as an AIWM service does: {error}.") from None


async def for_each(items: Iterable[_Item], work: Callable[[_Item], Awaitable[None]]) -> None:
    """Work on each, as many at a time as a Portal has connections. The first StartupError ends all, and is raised."""
    waiting = iter(items)

    async def some() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(some())
    except ExceptionGroup as group:
        met, other = group.split(StartupError)
        if met is None or other is not None:
            raise
        # They all met the same; one sentence will do.
        raise met.exceptions[0] from None


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _said(answer: httpx.Response) -> str:
    """What the error's body says, and what can be done about it."""
    try:
        message = msgspec.json.decode(answer.content, type=_Problem).message
    except msgspec.DecodeError:
        message = ""
    said = f" ({message.rstrip('.')})" if message else ""
    if answer.status_code in {401, 403}:
        return f"{said}: give a portal token of an operator or an admin with --token or AIWM_TOKEN"
    return said
