"""What a simulated worker sends, in the document's shapes, and what it reads of the answers.

The parts that never change are bytes; a frame is put together around the encoded `data`, so that
a sample can be sent again in a fresh envelope without being encoded again.
"""

from enum import StrEnum
from typing import Final

import msgspec

from app.protocol.messages import Capacity, Cpu, GpuFacts, GpuMetrics, GpuStatus, Network, RegisterData
from app.protocol.wire import at
from app.simulate.machine import Machine

_encode = msgspec.json.Encoder().encode


class Kind(StrEnum):
    """The document's three messages of a worker."""

    REGISTER = "NODE_REGISTER"
    HEARTBEAT = "TELEMETRY_HEARTBEAT"
    METRICS = "TELEMETRY_METRICS"


_HEAD: Final = {kind: f'{{"type":"{kind}","messageId":"'.encode() for kind in Kind}
_TIMESTAMP: Final = b'","timestamp":"'
_DATA: Final = {
    Kind.REGISTER: b'","data":',
    Kind.HEARTBEAT: b'","ack":true,"data":',
    Kind.METRICS: b'","ack":true,"data":',
}


class _HeartbeatData(msgspec.Struct, rename="camel", gc=False):
    status: str
    uptime_seconds: int
    cpu_usage: float
    ram_usage: float
    active_deployments: int
    gpu_status: list[GpuStatus]


class _MetricsData(msgspec.Struct, rename="camel", gc=False):
    # A text, since msgspec would write a datetime's microseconds.
    timestamp: str
    cpu: Cpu
    memory: Capacity
    disk: Capacity
    network: Network
    gpus: list[GpuMetrics]


def envelope(kind: Kind, message_id: str, milliseconds: int, data: bytes) -> bytes:
    """A whole frame around encoded data; telemetry asks for an acknowledgement."""
    return b"".join((_HEAD[kind], message_id.encode(), _TIMESTAMP, at(milliseconds).encode(), _DATA[kind], data, b"}"))


def register_data(machine: Machine, uptime_seconds: int) -> bytes:
    """`data` of NODE_REGISTER."""
    number = machine.number
    return _encode(
        RegisterData(
            hostname=machine.hostname,
            ip_address=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            # Kept for documentation by RFC 5737: nobody's address.
            public_ip_address=f"203.0.113.{number & 255}",
            os="Ubuntu 22.04 LTS",
            cpu_cores=machine.cpu_cores,
            cpu_model=machine.cpu_model,
            ram_total=machine.ram_total,
            disk_total=machine.disk_total,
            gpu_devices=tuple(
                GpuFacts(
                    gpu.device_id, gpu.card.model, gpu.card.memory, gpu.memory_free, gpu.utilization, gpu.temperature
                )
                for gpu in machine.gpus
            ),
            daemon_version="1.0.0",
            uptime_seconds=uptime_seconds,
            container_runtime="docker",
        )
    )


def heartbeat_data(machine: Machine, uptime_seconds: int) -> bytes:
    """`data` of TELEMETRY_HEARTBEAT."""
    return _encode(
        _HeartbeatData(
            "online",
            uptime_seconds,
            round(machine.cpu_load, 1),
            _percent(machine.ram_used, machine.ram_total),
            len(machine.jobs),
            [GpuStatus(gpu.device_id, gpu.utilization, gpu.temperature) for gpu in machine.gpus],
        )
    )


def metrics_data(machine: Machine, milliseconds: int) -> bytes:
    """`data` of TELEMETRY_METRICS; the moment is the sample's own."""
    return _encode(
        _MetricsData(
            at(milliseconds),
            Cpu(round(machine.cpu_load, 1), machine.cpu_cores, machine.cpu_temperature),
            _capacity(machine.ram_total, machine.ram_used),
            _capacity(machine.disk_total, machine.disk_used),
            Network(machine.bytes_in, machine.bytes_out),
            [
                GpuMetrics(
                    gpu.device_id,
                    gpu.card.model,
                    gpu.card.memory,
                    gpu.memory_used,
                    gpu.memory_free,
                    gpu.utilization,
                    gpu.temperature,
                    gpu.power,
                )
                for gpu in machine.gpus
            ],
        )
    )


def _capacity(total: float, used: float) -> Capacity:
    return Capacity(total, used, round(total - used, 3), _percent(used, total))


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 1)


# What the controller answers. All four of its messages fit this one shape, so that the receiving
# loop decodes once; what a message does not have stays None.


class Failure(msgspec.Struct, gc=False):
    """An error as the controller words it."""

    code: str
    message: str = ""


class Controller(msgspec.Struct, rename="camel", gc=False):
    """REGISTER_ACK's controllerInfo, milliseconds; the document's intervals where it says nothing."""

    heartbeat_interval: int = 30_000
    metrics_interval: int = 60_000
    max_sample_age_ms: int | None = None


class ReplyData(msgspec.Struct, rename="camel", gc=False):
    """`data` of REGISTER_ACK and TELEMETRY_ACK."""

    status: str | None = None
    ack_for: str | None = None
    warnings: list[str] | None = None
    error: Failure | None = None
    controller_info: Controller | None = None


class Reply(msgspec.Struct, rename="camel", gc=False):
    """Any frame from the controller."""

    type: str
    message_id: str | None = None
    status: str | None = None
    data: ReplyData | None = None
    error: Failure | None = None


_reply = msgspec.json.Decoder(Reply)


def decode_reply(frame: bytes | str) -> Reply | None:
    """The controller's frame; None where it is none of the document's shapes."""
    try:
        return _reply.decode(frame)
    except (msgspec.DecodeError, UnicodeError):
        return None
