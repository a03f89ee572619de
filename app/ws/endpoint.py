"""`/ws/node`: authenticate, receive, close. What is said is decided in `protocol/session.py`."""

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any, Final

import msgspec
from litestar import WebSocket

from app import logs
from app.addresses import peer_address
from app.clock import Clock
from app.domain.auth import NodeClaims
from app.domain.gpu_events import GpuEvents
from app.domain.ingest import Ingest, Receipt
from app.domain.registry import TOO_MANY_DEVICES, Member, Registry, known_numbers
from app.domain.renewal import Renewal
from app.errors import AiwmError, SampleRefused, TokenRenewalRefused
from app.meters import CLOSED, FRAME_BYTES, FRAMES, REFUSED, REJECTED, WARNINGS, Meters
from app.model import SampleKind
from app.protocol import replies
from app.protocol.session import (
    AUTHENTICATION_SECONDS,
    Authenticate,
    Close,
    Controller,
    Event,
    Register,
    Renew,
    Report,
    Session,
    Step,
    Telemetry,
)
from app.storage.arrivals import Arrival, Outcome
from app.strangers import welcome
from app.ws.connection import Connection
from app.ws.doors import Doors
from app.ws.sockets import FRAMES_A_TURN

_FRAMES: Final = {kind: FRAMES.key(type=kind) for kind in SampleKind}
_REGISTRATIONS: Final = FRAMES.key(type="registration")
_GPU_EVENTS: Final = FRAMES.key(type="gpu_event")
_RENEWALS: Final = FRAMES.key(type="token_renewal")
_BYTES: Final = FRAME_BYTES.key()
_WARNINGS: Final = WARNINGS.key()
_numbers = count(1)
TOO_MANY: Final = Close(1013, "Too many connections: try again later")

_log = logging.getLogger(__name__)

# Closes that come from this end although the application did not ask for them: a frame too large, too slow or
# broken, and uvicorn's own goodbye when the service stops.
_SERVER_CODES: Final = {1002, 1007, 1008, 1009, 1012}


class Gateway(msgspec.Struct, frozen=True):
    """What a conversation needs of the service."""

    controller: Controller
    clock: Clock
    registry: Registry
    ingest: Ingest
    gpu_events: GpuEvents
    renewal: Renewal
    verify: Callable[[str], NodeClaims]
    meters: Meters
    doors: Doors


class _Disconnected(Exception):
    """The socket is closed; `by_worker` tells at which end."""

    def __init__(self, *, by_worker: bool) -> None:
        self.by_worker = by_worker


async def converse(socket: WebSocket[Any, Any, Any], gateway: Gateway) -> None:
    """One worker, from handshake to goodbye."""
    await socket.accept()
    name = f"{os.getpid()}-{next(_numbers)}"
    logs.about(connection=name)
    connection = Connection(socket)
    conversation = _Conversation(socket, connection, gateway, name)
    by_worker = False
    try:
        if gateway.doors.enter():
            await conversation.run()
        else:
            connection.hang_up(TOO_MANY)
    except _Disconnected as goodbye:
        by_worker = goodbye.by_worker and not connection.is_hung_up
    except Exception:  # noqa: BLE001 – a defect of ours costs one connection, and is logged
        _log.exception("A conversation failed; the worker is asked to come again.")
        connection.hang_up(Close.because_of(AiwmError()))
    finally:
        gateway.doors.leave()
        gateway.meters.counts[CLOSED.key(by=connection.closed_by)] += 1
        _log.debug("Closed by %s.", connection.closed_by)
        if conversation.member is not None:
            gateway.registry.leave(conversation.member, by_worker=by_worker)
        if connection.is_hung_up:
            await connection.finish()
        connection.abandon()


class _Conversation:
    """The session's steps carried out, one frame after another. Owned by `converse`."""

    __slots__ = ("_begun", "_connection", "_gateway", "_name", "_session", "_socket", "member")

    def __init__(self, socket: WebSocket[Any, Any, Any], connection: Connection, gateway: Gateway, name: str) -> None:
        self._name = name
        self._socket = socket
        self._connection = connection
        self._gateway = gateway
        self._session = Session(gateway.controller, gateway.clock)
        self._begun: Step | None = None
        self.member: Member | None = None

    async def run(self) -> None:
        """Until the socket is closed, at either end (raises _Disconnected)."""
        if not await self._authenticate():
            return
        while True:
            for _ in range(FRAMES_A_TURN):
                # Without a name of its own, a frame is not kept until the next one comes.
                await self._take(await self._receive())
                if self._connection.is_hung_up:
                    raise _Disconnected(by_worker=False)
                await self._connection.room()
            # What was read at one time may be hundreds of frames, and taking them in waits for nobody.
            await asyncio.sleep(0)

    def hear(self, frame: str) -> bool:
        """Take a frame in where it was parsed, if nothing has to be awaited for it: no task wakes up for most frames."""
        if self._connection.is_hung_up:
            return False
        try:
            self._begun = step = self._session.receive(frame)
            if step.close is not None or not self._is_taken_at_once(step.event, len(frame)):
                return False
        except Exception:  # noqa: BLE001 – a defect of ours: `run` meets it again, and has an answer
            return False
        self._begun = None
        if step.reply is not None:
            self._connection.post(step.reply)
        return True

    def _is_taken_at_once(self, event: Event | None, size: int) -> bool:
        if not isinstance(event, Telemetry):
            return event is None
        gpus = () if event.sample is None else known_numbers(self._owner(), event.sample)
        if gpus is None or not self._gateway.ingest.has_room:
            return False
        clock = self._gateway.clock
        self._take_in(event, size, gpus, clock.now(), clock.monotonic())
        return True

    async def _take(self, frame: str | bytes) -> None:
        step, self._begun = self._begun or self._session.receive(frame), None
        await self._carry_out(step, len(frame))

    async def _authenticate(self) -> bool:
        # Not `socket.headers`, which would keep a second copy of all of them; and this one is of no use any more, either.
        headers = self._socket.scope["headers"]
        header = next((value.decode("latin-1") for name, value in headers if name == b"authorization"), None)
        self._socket.scope["headers"] = []
        step = self._session.open(header)
        try:
            if step.event is None and step.close is None:
                async with asyncio.timeout(AUTHENTICATION_SECONDS):
                    step = self._session.receive(await self._receive())
        except TimeoutError:
            step = self._session.out_of_time()
        await self._carry_out(step, 0)
        return self.member is not None

    async def _receive(self) -> str | bytes:
        event = await self._socket.receive()
        if event["type"] == "websocket.receive":
            text: str | None = event.get("text")
            return text if text is not None else event.get("bytes") or b""
        if event["type"] == "websocket.disconnect":
            raise _Disconnected(by_worker=event.get("code") not in _SERVER_CODES)
        return await self._receive()

    async def _carry_out(self, step: Step, size: int) -> None:
        if step.reply is not None:
            self._connection.post(step.reply)
        match step.event:
            case Telemetry():
                await self._number_and_take_in(step.event, size)
            case Register():
                await self._register(step.event)
            case Report():
                await self._report(step.event)
            case Renew():
                await self._renew(step.event)
            case Authenticate():
                await self._admit(step.event.token)
        if step.close is not None:
            self._connection.hang_up(step.close)

    async def _admit(self, token: str) -> None:
        try:
            member = await self._gateway.registry.join(self._gateway.verify(token), self._connection)
        except AiwmError as error:
            self._gateway.meters.counts[REFUSED.key(code=error.code)] += 1
            _log.debug("Refused: %s.", error.code)
            await self._carry_out(self._session.refuse(error), 0)
            return
        if member is None:
            return
        self.member = member
        welcome(self._socket.scope)
        logs.about(connection=self._name, node=member.node_id)
        self._connection.listen(self.hear)
        _log.debug("Admitted, epoch %d.", member.epoch)
        self._connection.post(self._session.admit(member.node_id, is_registered=member.is_registered))

    async def _register(self, event: Register) -> None:
        self._gateway.meters.counts[_REGISTRATIONS] += 1
        address = peer_address(self._socket.scope)
        member, devices = self._owner(), event.hardware.gpus
        at = await self._gateway.registry.register(member, event.hardware, address)
        left_out = [device.device_id for device in devices if device.device_id not in member.gpus]
        too_many = (f"{left_out[0]} is not registered: it would be {TOO_MANY_DEVICES}",) if left_out else ()
        self._connection.post(self._session.registered(at, event.warnings + too_many))

    async def _number_and_take_in(self, event: Telemetry, size: int) -> None:
        received_at, since = self._gateway.clock.now(), self._gateway.clock.monotonic()
        number_gpus = self._gateway.registry.number_gpus
        gpus: tuple[int, ...] = ()
        try:
            gpus = () if event.sample is None else await number_gpus(self._owner(), event.sample)
        except SampleRefused as error:
            self._receipt(event)(error)
            event = event.without_sample(error)
        self._take_in(event, size, gpus, received_at, since)
        await self._gateway.ingest.room()

    def _take_in(self, event: Telemetry, size: int, gpus: tuple[int, ...], received_at: datetime, since: float) -> None:
        member = self._owner()
        counts = self._gateway.meters.counts
        counts[_FRAMES[event.kind]] += 1
        counts[_BYTES] += size
        if event.warnings:
            counts[_WARNINGS] += len(event.warnings)
        if event.rejected is not None:
            counts[REJECTED.key(code=event.rejected)] += 1
        arrival = Arrival(member.node_key, member.epoch, received_at, event.kind, event.sample, gpus, event.skew_ms)
        # Warnings wait with it, and may be longer than the frame.
        self._gateway.ingest.put(arrival, size + sum(map(len, event.warnings)), since, self._receipt(event))

    async def _report(self, event: Report) -> None:
        self._gateway.meters.counts[_GPU_EVENTS] += 1
        outcome = await self._gateway.gpu_events.record(self._owner().node_key, event.event)
        self._receipt(event)(outcome)

    async def _renew(self, event: Renew) -> None:
        self._gateway.meters.counts[_RENEWALS] += 1
        try:
            issued = await self._gateway.renewal.renew(self._owner(), peer_address(self._socket.scope))
        except TokenRenewalRefused as error:
            _log.debug("The token was not renewed: %s.", error.message)
            self._connection.post(replies.error_frame(event.message_id, error, self._gateway.clock.now()))
        else:
            self._connection.post(replies.token_renewed(issued.token, issued.expires_at, self._gateway.clock.now()))

    def _receipt(self, event: Telemetry | Report) -> Receipt:
        """What tells the worker of its frame's fate. Not of the event itself, which has its sample, and may wait for long."""
        if event.wants_ack:
            return partial(self._acknowledge, event.message_id, event.warnings)
        return partial(self._acknowledge_nothing, event.message_id)

    def _acknowledge(self, message_id: str, warnings: tuple[str, ...], outcome: Outcome | AiwmError) -> None:
        if isinstance(outcome, AiwmError):
            self._refuse(replies.telemetry_rejected, message_id, outcome)
        else:
            self._connection.post(replies.telemetry_ack(message_id, outcome.value, warnings, self._gateway.clock.now()))

    def _acknowledge_nothing(self, message_id: str, outcome: Outcome | AiwmError) -> None:
        """Errors are told to everyone."""
        if isinstance(outcome, AiwmError):
            self._refuse(replies.error_frame, message_id, outcome)

    def _refuse(self, reply: Callable[[str, AiwmError, datetime], bytes], message_id: str, error: AiwmError) -> None:
        with logs.speaking_of(connection=self._name, node=self._session.node_id):
            _log.error("A sample was refused: %s.", error.message, exc_info=error.__cause__)
        self._connection.post(reply(message_id, error, self._gateway.clock.now()))

    def _owner(self) -> Member:
        if self.member is None:
            raise RuntimeError("a session let a frame through before it was admitted")
        return self.member
