"""What the controller says to a worker: acknowledgements and errors, in the document's shapes."""

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from app.clock import timestamp
from app.errors import AiwmError
from app.protocol.wire import new_message_id

_encoder: Final = msgspec.json.Encoder()


class _Reply(msgspec.Struct, rename="camel", omit_defaults=True):
    type: str
    message_id: str | None
    timestamp: str


class ErrorBody(msgspec.Struct, rename="camel", omit_defaults=True):
    """An error as a worker sees it."""

    code: str
    message: str
    timestamp: str | None = None


class ConnectionAck(_Reply):
    """The first frame a worker gets: whether its token was taken."""

    status: Literal["success", "error"]
    node_id: str | None = None
    controller_id: str | None = None
    server_version: str | None = None
    error: ErrorBody | None = None


class ControllerInfo(msgspec.Struct, rename="camel", frozen=True):
    """What a worker must know to behave: intervals and ages in milliseconds, and what it may use beyond the document."""

    controller_id: str
    heartbeat_interval: int
    metrics_interval: int
    timezone: str
    max_sample_age_ms: int
    extensions: tuple[str, ...]


class RegisterAckData(msgspec.Struct, rename="camel", omit_defaults=True):
    """The answer to NODE_REGISTER."""

    status: Literal["success"]
    node_id: str
    registered_at: str
    controller_info: ControllerInfo
    pending_commands: list[Any]
    warnings: list[str] | None = None


class RegisterAck(_Reply):
    """The registration is stored."""

    data: RegisterAckData


class TelemetryAckData(msgspec.Struct, rename="camel", omit_defaults=True):
    """What became of a telemetry frame that asked for an acknowledgement."""

    ack_for: str
    status: Literal["stored", "duplicate", "rejected"]
    warnings: list[str] | None = None
    error: ErrorBody | None = None


class TelemetryAck(_Reply):
    """Sent only after the commit that made the sample durable, or with the reason why it never will be."""

    data: TelemetryAckData


class TokenRenewedData(msgspec.Struct, rename="camel"):
    """A token in the place of the one that the worker came with."""

    token: str
    expires_at: str


class TokenRenewed(_Reply):
    """The answer to TOKEN_RENEW."""

    data: TokenRenewedData


class ErrorFrame(msgspec.Struct, rename="camel"):
    """A frame was not understood or not allowed; `messageId` is the frame's own, or null."""

    type: Literal["ERROR"]
    message_id: str | None
    timestamp: str
    error: ErrorBody


def connection_accepted(node_id: str, controller_id: str, server_version: str, now: datetime) -> bytes:
    """CONNECTION_ACK of a worker that may stay."""
    return _encoder.encode(
        ConnectionAck(
            type="CONNECTION_ACK",
            message_id=new_message_id(),
            timestamp=timestamp(now),
            status="success",
            node_id=node_id,
            controller_id=controller_id,
            server_version=server_version,
        )
    )


def connection_refused(error: AiwmError, now: datetime) -> bytes:
    """CONNECTION_ACK of a worker that may not; its socket is closed next."""
    moment = timestamp(now)
    return _encoder.encode(
        ConnectionAck(
            type="CONNECTION_ACK",
            message_id=new_message_id(),
            timestamp=moment,
            status="error",
            error=ErrorBody(code=error.code, message=error.message, timestamp=moment),
        )
    )


def register_ack(
    node_id: str, registered_at: datetime, controller: ControllerInfo, warnings: tuple[str, ...], now: datetime
) -> bytes:
    """REGISTER_ACK: the hardware is stored, the node is online."""
    return _encoder.encode(
        RegisterAck(
            type="REGISTER_ACK",
            message_id=new_message_id(),
            timestamp=timestamp(now),
            data=RegisterAckData(
                status="success",
                node_id=node_id,
                registered_at=timestamp(registered_at),
                controller_info=controller,
                pending_commands=[],
                warnings=list(warnings) or None,
            ),
        )
    )


def telemetry_ack(
    message_id: str, status: Literal["stored", "duplicate"], warnings: tuple[str, ...], now: datetime
) -> bytes:
    """TELEMETRY_ACK of a sample that is durable."""
    return _acknowledge(TelemetryAckData(ack_for=message_id, status=status, warnings=list(warnings) or None), now)


def telemetry_rejected(message_id: str, error: AiwmError, now: datetime) -> bytes:
    """TELEMETRY_ACK of a sample that will never be stored."""
    body = ErrorBody(code=error.code, message=error.message)
    return _acknowledge(TelemetryAckData(ack_for=message_id, status="rejected", error=body), now)


def _acknowledge(data: TelemetryAckData, now: datetime) -> bytes:
    return _encoder.encode(
        TelemetryAck(type="TELEMETRY_ACK", message_id=new_message_id(), timestamp=timestamp(now), data=data)
    )


def token_renewed(token: str, expires_at: datetime, now: datetime) -> bytes:
    """TOKEN_RENEWED: from now on the connection lives as long as this token."""
    data = TokenRenewedData(token, timestamp(expires_at))
    return _encoder.encode(
        TokenRenewed(type="TOKEN_RENEWED", message_id=new_message_id(), timestamp=timestamp(now), data=data)
    )


def error_frame(message_id: str | None, error: AiwmError, now: datetime) -> bytes:
    """ERROR: the frame had no effect, the connection stays."""
    body = ErrorBody(code=error.code, message=error.message)
    return _encoder.encode(ErrorFrame(type="ERROR", message_id=message_id, timestamp=timestamp(now), error=body))
