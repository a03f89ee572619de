"""The document's messages from worker to controller; `replies.py` has those the other way.

They are decoded strictly in their shape and leniently in their measurements: a missing or null measurement
is fine, a wrong type or a missing `deviceId` is not.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from app.errors import AiwmError, InvalidMessage, UnknownType

MAX_FRAME_BYTES: Final = 256 * 1024
MAX_GPUS: Final = 128

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


class GpuMetrics(_Part, frozen=True):
    """A GPU in a metrics message: GB, percent, °C, W."""

    device_id: Name
    model: Text | None = None
    memory_total: Measure = None
    memory_used: Measure = None
    memory_free: Measure = None
    utilization: Measure = None
    temperature: Measure = None
    power_usage: Measure = None


class MetricsData(_Part, frozen=True):
    """The full measurement every 60 s."""

    timestamp: Moment
    cpu: Cpu | None = None
    memory: Capacity | None = None
    disk: Capacity | None = None
    network: Network | None = None
    gpus: Annotated[tuple[GpuMetrics, ...], msgspec.Meta(max_length=MAX_GPUS)] | None = None


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


WorkerMessage = NodeRegister | Heartbeat | Metrics
MESSAGE_TYPES: Final = frozenset({"NODE_REGISTER", "TELEMETRY_HEARTBEAT", "TELEMETRY_METRICS"})


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
_anything = msgspec.json.Decoder()
# Times finer than a microsecond, as Go and .NET write them, would be rounded; a sample's time is cut.
_TOO_FINE: Final = re.compile(r'(T\d\d:\d\d:\d\d\.\d{6})\d+((?:[Zz]|[+-]\d\d:\d\d)")', re.ASCII)


def decode(frame: str | bytes) -> WorkerMessage:
    """A worker's frame as a message.

    Raises InvalidMessage (with the field in its sentence) or UnknownType.
    """
    if isinstance(frame, bytes):
        raise InvalidMessage("Frames are JSON text; this one is binary")
    _refuse_nul(frame)
    try:
        message: WorkerMessage = _worker_message.decode(_TOO_FINE.sub(r"\1\2", frame))
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
    if devices and len({device.device_id for device in devices}) < len(devices):
        raise InvalidMessage(f"A deviceId stands twice in `data.{field}`; each GPU may stand there once")


def _refuse_nul(frame: str) -> None:
    """Refuse what PostgreSQL cannot keep. An escaped backslash before `u0000` looks the same and is fine."""
    if "\\u0000" not in frame:
        return
    try:
        path = _path_of_nul(_anything.decode(frame), "")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return  # what is no JSON is refused as such
    if path is not None:
        raise InvalidMessage(f"There is a NUL character in `{path or 'a name'}`; leave it out")


def _path_of_nul(value: Any, path: str) -> str | None:
    """Where in a decoded JSON value the first NUL stands; empty for the name of a field."""
    if isinstance(value, str):
        return path if "\0" in value else None
    inner: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        if any("\0" in name for name in value):
            return ""
        inner = [(f"{path}.{name}" if path else name, part) for name, part in value.items()]
    elif isinstance(value, list):
        inner = [(f"{path}[{place}]", part) for place, part in enumerate(value)]
    found = (_path_of_nul(part, where) for where, part in inner)
    return next((each for each in found if each is not None), None)
