"""The fleet's nodes and their tokens, made by REST as a portal makes them."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx
import msgspec

from app.errors import StartupError

_AT_ONCE: Final = 8
_ATTEMPTS: Final = 8
_LONGEST_WAIT: Final = 60.0
_BUSY: Final = frozenset({429, 503})

_T = TypeVar("_T")


class Credentials(msgspec.Struct, frozen=True):
    """What a worker needs to connect: its node's `_id` and token."""

    node_id: str
    token: str


class _Node(msgspec.Struct):
    id: str = msgspec.field(name="_id")


class _Token(msgspec.Struct):
    token: str


class _Problem(msgspec.Struct):
    message: str = ""


class Portal:
    """The service's REST API. Owned by whoever enters it; its connections close on leaving."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(30.0),
            limits=httpx.Limits(max_connections=_AT_ONCE, max_keepalive_connections=_AT_ONCE),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def create_fleet(
        self, run: str, count: int, token_seconds: int, created: Callable[[], None]
    ) -> list[Credentials]:
        """Create nodes and a token for each, a few at a time; `created` is called for each.

        Raises StartupError with what the service, or the network, said. Nodes made until then stay.
        """
        numbers = iter(range(count))
        fleet: dict[int, Credentials] = {}

        async def create_some() -> None:
            for number in numbers:
                fleet[number] = await self._create(run, number, token_seconds)
                created()

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(_AT_ONCE, count)):
                    tasks.create_task(create_some())
        except ExceptionGroup as group:
            met, other = group.split(StartupError)
            if met is None or other is not None:
                raise
            # They all met the same; one sentence will do.
            raise met.exceptions[0] from None
        return [fleet[number] for number in sorted(fleet)]

    async def _create(self, run: str, number: int, token_seconds: int) -> Credentials:
        body = {
            "name": f"simulated-{run}-{number:05}",
            "role": ["worker"],
            "isLocal": False,
            "metadata": {"simulation": run},
        }
        node = _decode(await self._post("/nodes", body), _Node)
        answer = await self._post(f"/nodes/{node.id}/token", {"expiresIn": token_seconds})
        return Credentials(node.id, _decode(answer, _Token).token)

    async def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """One request; a service that is busy is asked again when it says so."""
        for _ in range(_ATTEMPTS):
            try:
                answer = await self._client.post(path, json=body)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                raise StartupError(f"No answer from {self._url}{path}: {_reason(error)}.") from None
            if answer.status_code not in _BUSY:
                break
            await asyncio.sleep(_retry_after(answer.headers.get("Retry-After")))
        if answer.is_success:
            return answer
        raise StartupError(f"{self._url}{path} answered {answer.status_code}{_said(answer)}.")


def _decode(answer: httpx.Response, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.DecodeError as error:
        raise StartupError(f"{answer.url} does not answer as an AIWM service does: {error}.") from None


def _retry_after(text: str | None) -> float:
    """Seconds to wait, from either of the header's two forms; a second where there is none."""
    if text is None:
        return 1.0
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            seconds = 1.0
    return min(max(0.0, seconds), _LONGEST_WAIT)


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
