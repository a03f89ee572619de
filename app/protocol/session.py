"""One worker connection as a state machine without sockets.

Frames go in; out come the bytes to answer with, an event for the service to act on, and whether to
close. The shell around it (`ws/endpoint.py`) does the I/O, carries out the event, and tells the
session what came of it.

    AUTHENTICATING ──admit──▶ ADMITTED ──close──▶ (the shell ends the socket)
          │                      ▲ │
          └───refuse──▶ close    └─┘ receive, registered
"""

from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

import msgspec

from app.clock import Clock, timestamp
from app.errors import (
    AiwmError,
    InvalidMessage,
    InvalidToken,
    RegistrationFailed,
    SampleInFuture,
    SampleTooOld,
    UnknownType,
)
from app.model import GpuEvent, Hardware, Sample, SampleKind
from app.protocol import messages, replies, skew
from app.protocol.gpu_events import event_of
from app.protocol.messages import NodeRegister, TokenRenew
from app.protocol.replies import ControllerInfo
from app.protocol.samples import hardware_of, sample_of
from app.protocol.skew import Skew

AUTHENTICATION_SECONDS: Final = 10.0
MALFORMED_LIMIT: Final = 20
MAX_AHEAD: Final = timedelta(minutes=5)


class CloseCode:
    """Close codes that are not an error's own; those stand with the errors."""

    TAKEN_OVER: Final = 4409
    SERVICE_RESTART: Final = 1012
    POLICY_VIOLATION: Final = 1008


class Close(msgspec.Struct, frozen=True):
    """End the socket with this code and reason (at most 123 bytes, says RFC 6455)."""

    code: int
    reason: str

    @classmethod
    def because_of(cls, error: AiwmError) -> "Close":
        """The close that belongs to an error."""
        return cls(error.close_code, error.message[:120])


class Authenticate(msgspec.Struct, frozen=True):
    """Check this token; then call `admit` or `refuse`."""

    token: str


class Register(msgspec.Struct, frozen=True):
    """Store this hardware; then call `registered`, with the warnings."""

    hardware: Hardware
    warnings: tuple[str, ...]


class Telemetry(msgspec.Struct, frozen=True, gc=False):
    """Store this sample and tell the worker what came of it, if it asked or if it failed.

    `sample` is None for a frame whose sample was rejected and answered already: a heartbeat still is
    a sign of life, and `rejected` is the error's code. `skew_ms` is by how much the worker's clock is behind, None
    while that is not known.
    """

    kind: SampleKind
    sample: Sample | None
    message_id: str
    wants_ack: bool
    warnings: tuple[str, ...]
    skew_ms: int | None = None
    rejected: str | None = None

    def without_sample(self, error: AiwmError) -> "Telemetry":
        """The sign of life that is left of it, once the worker was told why its sample is not taken."""
        return msgspec.structs.replace(self, sample=None, wants_ack=False, rejected=error.code)


class Report(msgspec.Struct, frozen=True):
    """Write this GPU event down, once however often it comes, and tell the worker, if it asked or if it failed."""

    event: GpuEvent
    message_id: str
    wants_ack: bool
    warnings: tuple[str, ...]


class Renew(msgspec.Struct, frozen=True):
    """Answer with a new token in the place of the one that was admitted, or with the reason why not."""

    message_id: str


Event = Authenticate | Register | Telemetry | Report | Renew


class Step(msgspec.Struct, frozen=True):
    """What to do now: answer, then act on the event, then close; each only where it is there."""

    reply: bytes | None = None
    event: Event | None = None
    close: Close | None = None


class Controller(msgspec.Struct, frozen=True):
    """What the service tells every worker, and what it holds samples to."""

    info: ControllerInfo
    server_version: str
    max_age: timedelta


class _Phase(Enum):
    AUTHENTICATING = auto()
    ADMITTED = auto()


class Session:
    """The protocol's side of one connection. Owned by the endpoint that feeds it; holds no resources."""

    __slots__ = ("_clock", "_controller", "_malformed", "_phase", "_skew", "is_registered", "node_id")

    def __init__(self, controller: Controller, clock: Clock) -> None:
        self._controller = controller
        self._clock = clock
        self._phase = _Phase.AUTHENTICATING
        self._malformed = 0
        self._skew = Skew()
        self.node_id = ""
        self.is_registered = False

    def open(self, header: str | None) -> Step:
        """The handshake, with its Authorization header if there was one."""
        if header is None:
            return Step()
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return self.refuse(InvalidToken("The Authorization header must be `Bearer <token>`"))
        return Step(event=Authenticate(token.strip()))

    def receive(self, frame: str | bytes) -> Step:
        """One frame from the worker."""
        if self._phase is _Phase.AUTHENTICATING:
            token = messages.decode_token(frame)
            if token is None:
                return self.refuse(InvalidToken('The first frame must be {"auth": {"token": "…"}}'))
            return Step(event=Authenticate(token))
        try:
            step = self._understood(messages.decode(frame))
        except (InvalidMessage, UnknownType) as error:
            return self._malformed_frame(messages.message_id_of(frame), error)
        self._malformed = 0
        return step

    def out_of_time(self) -> Step:
        """No token came in time."""
        return self.refuse(InvalidToken(f"No token came within {AUTHENTICATION_SECONDS:g} s"))

    def admit(self, node_id: str, *, is_registered: bool) -> bytes:
        """The token was taken: CONNECTION_ACK."""
        self._phase = _Phase.ADMITTED
        self.node_id = node_id
        self.is_registered = is_registered
        return replies.connection_accepted(
            node_id, self._controller.info.controller_id, self._controller.server_version, self._clock.now()
        )

    def refuse(self, error: AiwmError) -> Step:
        """The token was not taken: CONNECTION_ACK with the reason, then the close that belongs to it."""
        return Step(
            reply=replies.connection_refused(error, self._clock.now()),
            close=Close.because_of(error),
        )

    def registered(self, at: datetime, warnings: tuple[str, ...]) -> bytes:
        """The hardware is stored: REGISTER_ACK."""
        self.is_registered = True
        return replies.register_ack(self.node_id, at, self._controller.info, warnings, self._clock.now())

    def _understood(self, message: messages.WorkerMessage) -> Step:
        now = self._clock.now()
        skew_ms = self._skew.heard(message.timestamp, now)
        if isinstance(message, NodeRegister):
            hardware, warnings = hardware_of(message.data)
            return Step(event=Register(hardware, warnings + skew.warning(skew_ms)))
        if isinstance(message, TokenRenew):
            return Step(event=Renew(message.message_id))
        if not self.is_registered:
            return Step(reply=replies.error_frame(message.message_id, RegistrationFailed(), now))
        if isinstance(message, messages.GpuEvent):
            return self._gpu_event(message, now, skew.warning(skew_ms))
        return self._telemetry(message, now, skew_ms)

    def _malformed_frame(self, message_id: str | None, error: AiwmError) -> Step:
        self._malformed += 1
        reply = replies.error_frame(message_id, error, self._clock.now())
        if self._malformed < MALFORMED_LIMIT:
            return Step(reply=reply)
        reason = f"{MALFORMED_LIMIT} frames in a row were not understood"
        return Step(reply=reply, close=Close(CloseCode.POLICY_VIOLATION, reason))

    def _gpu_event(self, message: messages.GpuEvent, now: datetime, warnings: tuple[str, ...]) -> Step:
        event = event_of(message)
        rejection = self._rejection(event.time, now)
        if rejection is None:
            return Step(event=Report(event, message.message_id, bool(message.ack), warnings))
        answer = replies.telemetry_rejected if message.ack else replies.error_frame
        return Step(reply=answer(message.message_id, rejection, now))

    def _telemetry(self, message: messages.Heartbeat | messages.Metrics, now: datetime, skew_ms: int | None) -> Step:
        sample, warnings = sample_of(message)
        rejection = self._rejection(sample.time, now)
        if rejection is None:
            warnings += skew.warning(skew_ms)
            event = Telemetry(sample.kind, sample, message.message_id, bool(message.ack), warnings, skew_ms)
            return Step(event=event)
        answer = replies.telemetry_rejected if message.ack else replies.error_frame
        return Step(
            reply=answer(message.message_id, rejection, now),
            event=Telemetry(
                sample.kind,
                None,
                message.message_id,
                wants_ack=False,
                warnings=(),
                skew_ms=skew_ms,
                rejected=rejection.code,
            ),
        )

    def _rejection(self, time: datetime, now: datetime) -> AiwmError | None:
        ahead = time - now
        if ahead > MAX_AHEAD:
            return SampleInFuture(
                f"The sample's time {timestamp(time)} is {ahead.total_seconds():.0f} s ahead of the server; "
                f"{MAX_AHEAD.total_seconds():.0f} s are allowed: set the clock"
            )
        limit = self._controller.max_age
        if -ahead > limit:
            return SampleTooOld(
                f"The sample's time {timestamp(time)} is older than the {limit.total_seconds():.0f} s "
                "for which samples are taken"
            )
        return None
