"""From nothing to a registered connection: CONNECTION_ACK, NODE_REGISTER, REGISTER_ACK."""

import asyncio
from typing import Final, NoReturn

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from app.protocol.wire import REFUSED_FOR_GOOD
from app.retry_after import BUSY, seconds_of
from app.simulate import frames
from app.simulate.frames import Controller, Kind, Reply
from app.simulate.report import Tally

_OPEN_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 30.0


class Refused(Exception):
    """The controller does not take this worker, and will not later either. Its text is the error code."""


class TryLater(Exception):
    """The controller does not take this worker now. Its text is the error code."""


TROUBLE: Final = (OSError, TimeoutError, InvalidHandshake, InvalidMessage, ConnectionClosed, TryLater)
"""What ends a connection and is worth another try."""


def describe(error: Exception) -> str:
    """Trouble as it stands in the table: a close code, the controller's code, or what the network said."""
    if isinstance(error, ConnectionClosed):
        return f"closed {error.rcvd.code}" if error.rcvd else "connection lost"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error)


def not_before(error: Exception) -> float:
    """Seconds in which the controller does not want to be asked again."""
    if isinstance(error, InvalidStatus) and error.response.status_code in BUSY:
        return seconds_of(error.response.headers.get("Retry-After"))
    return 0.0


async def dial(url: str, token: str) -> ClientConnection:
    """Open the WebSocket. The caller closes it."""
    return await connect(
        url,
        additional_headers={"Authorization": f"Bearer {token}"},
        # Deflate keeps a window for every connection; the document's frames are small.
        compression=None,
        open_timeout=_OPEN_SECONDS,
        # Finds a peer that vanished without a word; generous, since a controller may pause reading.
        ping_interval=60,
        ping_timeout=120,
        max_queue=4,
    )


async def greeted(socket: ClientConnection) -> None:
    """Wait for CONNECTION_ACK. Raises Refused or TryLater where it carries an error."""
    greeting = await _expect(socket, "CONNECTION_ACK")
    if greeting.status != "success":
        _raise(greeting)


async def register(socket: ClientConnection, frame: bytes, tally: Tally) -> Controller:
    """Send NODE_REGISTER and wait for its answer. Raises Refused or TryLater where it is an ERROR."""
    tally.sent[Kind.REGISTER] += 1
    await socket.send(frame, text=True)
    try:
        answer = await _expect(socket, "REGISTER_ACK")
    except (Refused, TryLater):
        tally.refused += 1
        raise
    return (answer.data and answer.data.controller_info) or Controller()


async def _expect(socket: ClientConnection, kind: str) -> Reply:
    """The next frame of a kind; what else comes meanwhile is not for this stage. An ERROR is raised."""
    async with asyncio.timeout(_ANSWER_SECONDS):
        while True:
            reply = frames.decode_reply(await socket.recv(decode=False))
            if reply is not None and reply.type == kind:
                return reply
            if reply is not None and reply.type == "ERROR":
                _raise(reply)


def _raise(reply: Reply) -> NoReturn:
    code = reply.error.code if reply.error else "error without a code"
    raise (Refused if code in REFUSED_FOR_GOOD else TryLater)(code)
