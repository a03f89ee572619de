"""The document's messages from worker to controller; `replies.py` has those the other way.

They are decoded strictly in their shape and leniently in their measurements: a missing or null measurement
is fine, a wrong type or a missing `deviceId` is not.

What goes beyond the document stands in EXTENSIONS. A worker uses what REGISTER_ACK named, and nothing else.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from app.errors import AiwmError, InvalidMessage, UnknownType
from app.protocol.nul import refuse_nul
from app.protocol.wire import GPU_DETAILS, GPU_EVENTS, MAX_GPUS, TOKEN_RENEWAL

EXTENSIONS: Final = (GPU_DETAILS, GPU_EVENTS, TOKEN_RENEWAL)

Text = Annotated[str, msgspec.Meta(max_length=256)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Measure = int | float | None


class _Part(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """Unknown fields are ignored: a newer worker may know more than we do."""


class GpuFacts(_Part, frozen=True):
    """A GPU at registration; memory in GB."""

    device_id: Name
    model: Text | None = None
    memory_total: Measure = None
    memory_free: Measure = None
    utilization: Measure = None
    temperature: Measure = None


class RegisterData(_Part, frozen=True):
    """A machine's hardware; memory and disk in GB."""

    hostname: Name
    os: Text
    cpu_cores: int | float
    ram_total: int | float
    gpu_devices: Annotated[tuple[GpuFacts, ...], msgspec.Meta(max_length=MAX_GPUS)]
    ip_address: Text | None = None
    public_ip_address: Text | None = None
    cpu_model: Text | None = None
    disk_total: Measure = None
    daemon_version: Text | None = None
    uptime_seconds: Measure = None
    container_runtime: Text | None = None


class GpuStatus(_Part, frozen=True):
    """A GPU in a heartbeat: percent and °C."""

    device_id: Name
    utilization: Measure = None
    temperature: Measure = None


class HeartbeatData(_Part, frozen=True):
    """A sign of life every 30 s; usages in percent."""

    timestamp: Moment | None = None
    status: Text | None = None
    uptime_seconds: Measure = None
    cpu_usage: Measure = None
    ram_usage: Measure = None
    active_deployments: Measure = None
    gpu_status: Annotated[tuple[GpuStatus, ...], msgspec.Meta(max_length=MAX_GPUS)] | None = None


class Cpu(_Part, frozen=True):
    """Percent, number of cores, °C."""

    usage: Measure = None
    cores: Measure = None
    temperature: Measure = None


class Capacity(_Part, frozen=True):
    """Memory or disk: GB, usage in percent."""

    total: Measure = None
    used: Measure = None
    free: Measure = None
    usage: Measure = None


class Network(_Part, frozen=True):
    """Bytes since the machine started."""

    bytes_in: Measure = None
    bytes_out: Measure = None


class GpuMetrics(_Part, frozen=True, omit_defaults=True):
    """A GPU in a metrics message: GB, percent, °C, W.

    From `sm_clock` on beyond the document: MHz, percent, bytes/s, J and counts since the driver was loaded, names.
    They are of any type, since to a worker that knows the document alone they are unknown fields.
    """

    device_id: Name
    model: Text | None = None
    memory_total: Measure = None
    memory_used: Measure = None
    memory_free: Measure = None
    utilization: Measure = None
    temperature: Measure = None
    power_usage: Measure = None
    sm_clock: Any = None
    memory_clock: Any = None
    fan_speed: Any = None
    pcie_rx: Any = None
    pcie_tx: Any = None
    energy: Any = None
    ecc_corrected: Any = None
    ecc_uncorrected: Any = None
    throttle_reasons: Any = None


class MetricsData(_Part, frozen=True):
    """The full measurement every 60 s."""

    timestamp: Moment
    cpu: Cpu | None = None
    memory: Capacity | None = None
    disk: Capacity | None = None
    network: Network | None = None
    gpus: Annotated[tuple[GpuMetrics, ...], msgspec.Meta(max_length=MAX_GPUS)] | None = None


class GpuEventData(_Part, frozen=True):
    """What happened to a GPU; `detail` is any JSON object."""

    timestamp: Moment
    device_id: Name
    kind: Literal["xid", "gpu_vanished", "gpu_returned", "ecc_uncorrected"]
    detail: dict[str, Any] | None = None


class _Frame(msgspec.Struct, rename="camel", tag_field="type", frozen=True, gc=False):
    message_id: Name
    timestamp: Moment


class NodeRegister(_Frame, frozen=True, tag="NODE_REGISTER"):
    """A worker introduces its machine."""

    data: RegisterData


class Heartbeat(_Frame, frozen=True, tag="TELEMETRY_HEARTBEAT"):
    """A worker is alive."""

    data: HeartbeatData
    ack: bool | None = None


class Metrics(_Frame, frozen=True, tag="TELEMETRY_METRICS"):
    """A worker's measurements."""

    data: MetricsData
    ack: bool | None = None


class GpuEvent(_Frame, frozen=True, tag="GPU_EVENT"):
    """A GPU failed, went or came back."""

    data: GpuEventData
    ack: bool | None = None


class TokenRenew(_Frame, frozen=True, tag="TOKEN_RENEW"):
    """A worker asks for a new token in the place of the one that it came with."""


WorkerMessage = NodeRegister | Heartbeat | Metrics | GpuEvent | TokenRenew
MESSAGE_TYPES: Final = frozenset(
    {"NODE_REGISTER", "TELEMETRY_HEARTBEAT", "TELEMETRY_METRICS", "GPU_EVENT", "TOKEN_RENEW"}
)


class _Token(msgspec.Struct):
    token: str


class _AuthFrame(msgspec.Struct):
    auth: _Token


class _Envelope(msgspec.Struct, rename="camel"):
    """What can be saved of a frame that does not fit."""

    type: Any = None
    message_id: Any = None


_worker_message = msgspec.json.Decoder(WorkerMessage)
_auth_frame = msgspec.json.Decoder(_AuthFrame)
_envelope = msgspec.json.Decoder(_Envelope)
# Times finer than a microsecond, as Go and .NET write them, would be rounded; a sample's time is cut.
_TOO_FINE: Final = re.compile(r'(T\d\d:\d\d:\d\d\.\d{6})\d+((?:[Zz]|[+-]\d\d:\d\d)")', re.ASCII)


def decode(frame: str | bytes) -> WorkerMessage:
    """A worker's frame as a message.

    Raises InvalidMessage (with the field in its sentence) or UnknownType.
    """
    if isinstance(frame, bytes):
        raise InvalidMessage("Frames are JSON text; this one is binary")
    refuse_nul(frame)
    try:
        is_too_fine = _TOO_FINE.search(frame) is not None
        message: WorkerMessage = _worker_message.decode(_TOO_FINE.sub(r"\1\2", frame) if is_too_fine else frame)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise _refusal(frame, error) from None
    _check_devices(message)
    return message


def decode_token(frame: str | bytes) -> str | None:
    """The token of the document's first frame `{"auth": {"token": …}}`; None for any other frame."""
    try:
        return _auth_frame.decode(frame).auth.token
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def message_id_of(frame: str | bytes) -> str | None:
    """The `messageId` of a frame that does not fit, where it can be read at all."""
    try:
        found = _envelope.decode(frame).message_id
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return found if isinstance(found, str) and 1 <= len(found) <= 256 else None


def _refusal(frame: str, error: Exception) -> AiwmError:
    """Why a frame was not understood: an unknown type, or the field that does not fit."""
    try:
        found = _envelope.decode(frame).type
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return InvalidMessage(f"The frame is not a JSON message: {error}")
    if isinstance(found, str) and found not in MESSAGE_TYPES:
        return UnknownType(f"Unknown message type {found[:64]!r}; known are {', '.join(sorted(MESSAGE_TYPES))}")
    return InvalidMessage(str(error).replace("`$.", "`"))


def _check_devices(message: WorkerMessage) -> None:
    devices: tuple[GpuFacts, ...] | tuple[GpuStatus, ...] | tuple[GpuMetrics, ...] | None
    match message:
        case Heartbeat():
            devices, field = message.data.gpu_status, "gpuStatus"
        case Metrics():
            devices, field = message.data.gpus, "gpus"
        case NodeRegister():
            devices, field = message.data.gpu_devices, "gpuDevices"
        case _:
            return
    if devices and len({device.device_id for device in devices}) < len(devices):
        raise InvalidMessage(f"A deviceId stands twice in `data.{field}`; each GPU may stand there once")
