"""From nothing to a registered connection, and what the controller may say to that."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final, NamedTuple, NoReturn

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response

from app import retry_after
from app.protocol import wire

ANSWER_SECONDS: Final = 30.0
_REFUSING: Final = {
    wire.CLOSED_UNAUTHORIZED: "the token is not valid, was revoked, or has expired",
    wire.CLOSED_INACTIVE: "the node is disabled",
    wire.CLOSED_NOT_FOUND: "the node was deleted",
}


class Refused(Exception):
    """The controller does not take this node until somebody did something. Its text says what it said."""


class Rival(Exception):
    """A newer connection of the same node took over."""


class Trouble(Exception):
    """The connection is no good, and the next one may be. Its text says why."""

    not_before = 0.0
    """Seconds in which the controller does not want to be asked again."""


class Controller(NamedTuple):
    """What REGISTER_ACK tells a worker: intervals in milliseconds, and what goes beyond the document."""

    heartbeat_ms: int = wire.HEARTBEAT_INTERVAL_MS
    metrics_ms: int = wire.METRICS_INTERVAL_MS
    acknowledges: bool = False
    """Whether telemetry is answered: a controller of the document alone does not."""
    extensions: frozenset[str] = frozenset()


async def dial(url: str, token: str) -> ClientConnection:
    """Open the WebSocket; the caller closes it. Raises Refused or Trouble."""
    try:
        return await connect(
            url,
            additional_headers={"Authorization": f"Bearer {token}"},
            # Deflate keeps a window in memory, and the document's frames are small.
            compression=None,
            open_timeout=ANSWER_SECONDS,
            close_timeout=2,
            # Finds a peer that vanished without a word; generous, since a controller may pause reading.
            ping_interval=60,
            ping_timeout=120,
            max_queue=4,
        )
    except InvalidStatus as error:
        raise _answered(url, error.response) from None
    except ssl.SSLCertVerificationError as error:
        raise Trouble(f"the certificate of {url} is not trusted: {error.verify_message}") from None
    except (WebSocketException, EOFError) as error:  # a redirect to a page, or a proxy that is none, among them
        raise Trouble(f"{url} does not speak WebSocket: {error}") from None
    except asyncio.TimeoutError:
        raise Trouble(f"{url} did not answer for {ANSWER_SECONDS:.0f} s") from None
    except OSError as error:
        raise Trouble(f"{url} cannot be reached: {error.strerror or error}") from None


def _answered(url: str, response: Response) -> Trouble:
    if response.status_code not in retry_after.BUSY:
        return Trouble(f"{url} answered HTTP {response.status_code}: is this the controller's address?")
    trouble = Trouble(f"{url} is busy and answered HTTP {response.status_code}")
    trouble.not_before = retry_after.seconds_of(response.headers.get("Retry-After"))
    return trouble


async def greeted(socket: ClientConnection) -> None:
    """Wait for CONNECTION_ACK. Raises Refused or Trouble where it carries an error."""
    greeting = await _expect(socket, wire.CONNECTION_ACK)
    if greeting.get("status") != "success":
        _raise(greeting)


async def registered(socket: ClientConnection, frame: str) -> Controller:
    """Send NODE_REGISTER and wait for its answer. Raises Refused or Trouble where it is an ERROR."""
    await asyncio.wait_for(socket.send(frame), ANSWER_SECONDS)
    return _controller(await _expect(socket, wire.REGISTER_ACK))


def closed(error: ConnectionClosed) -> Exception:
    """What the end of a connection means for the next one: Refused, Rival or Trouble."""
    frame = error.rcvd
    if frame is None:
        return Trouble("the connection was lost")
    if frame.code in _REFUSING:
        return Refused(f"{_REFUSING[frame.code]} (close code {frame.code})")
    if frame.code == wire.CLOSED_TAKEN_OVER:
        return Rival()
    return Trouble(f"the controller closed the connection ({frame.code}{', ' + frame.reason if frame.reason else ''})")


async def _expect(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """The next frame of a type; what else comes meanwhile is not for this stage. An ERROR is raised."""

    async def wait() -> dict[str, Any]:
        while True:
            message = parsed(await socket.recv())
            if message["type"] == kind:
                return message
            if message["type"] == wire.ERROR:
                _raise(message)

    try:
        return await asyncio.wait_for(wait(), ANSWER_SECONDS)
    except asyncio.TimeoutError:
        raise Trouble(f"the controller did not answer with {kind} for {ANSWER_SECONDS:.0f} s") from None


def parsed(text: str | bytes) -> dict[str, Any]:
    """A frame from the controller. Raises Trouble where it is none."""
    try:
        return wire.parse(text)
    except ValueError as error:
        raise Trouble(f"what answers is no controller of ours: {error}") from None


def failure(message: dict[str, Any]) -> tuple[str, str]:
    """Code and sentence of the `error` in a frame or in its data."""
    error = message.get("error")
    if not isinstance(error, dict):
        return "UNKNOWN", "no reason given"
    return str(error.get("code")), str(error.get("message"))


def _raise(message: dict[str, Any]) -> NoReturn:
    code, sentence = failure(message)
    said = f"{code}: {sentence}"
    raise (Refused if code in wire.REFUSED_FOR_GOOD else Trouble)(said)


def _controller(answer: dict[str, Any]) -> Controller:
    data = answer.get("data")
    info = data.get("controllerInfo") if isinstance(data, dict) else None
    if not isinstance(info, dict):
        return Controller()
    extensions = info.get("extensions")
    return Controller(
        _interval(info.get("heartbeatInterval"), wire.HEARTBEAT_INTERVAL_MS),
        _interval(info.get("metricsInterval"), wire.METRICS_INTERVAL_MS),
        info.get("maxSampleAgeMs") is not None,
        frozenset(it for it in extensions if isinstance(it, str)) if isinstance(extensions, list) else frozenset(),
    )


def _interval(value: Any | None, otherwise: int) -> int:
    return int(value) if isinstance(value, (int, float)) and value >= 100 else otherwise
