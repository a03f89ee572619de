"""A telemetry message becomes a sample: measured in steps, with what can't be true left out and named."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from app.clock import to_milliseconds
from app.errors import InvalidMessage
from app.model import GpuDevice, GpuReading, Hardware, Sample, SampleKind
from app.protocol.disbelief import disbelief
from app.protocol.gpu_details import details_of
from app.protocol.messages import Capacity, Cpu, Heartbeat, Metrics, Network, RegisterData
from app.quantities import (
    CELSIUS,
    COUNT,
    GIGABYTE,
    GPU_HEARTBEAT_FIELDS,
    GPU_METRIC_FIELDS,
    HEARTBEAT_FIELDS,
    NODE_METRIC_FIELDS,
    PERCENT,
    SECONDS,
    VRAM,
    Field,
    Quantity,
)

_NO_CPU, _NO_CAPACITY, _NO_NETWORK = Cpu(), Capacity(), Network()


def sample_of(message: Heartbeat | Metrics) -> tuple[Sample, tuple[str, ...]]:
    """The message as a sample, and a warning for each measurement that can't be true.

    Raises InvalidMessage for a time that no calendar has.
    """
    warnings: list[str] = []
    if isinstance(message, Heartbeat):
        return _heartbeat(message, warnings), tuple(warnings)
    return _metrics(message, warnings), tuple(warnings)


def hardware_of(data: RegisterData) -> tuple[Hardware, tuple[str, ...]]:
    """The machine as it will be shown, and a warning for each measurement that can't be true and is left out."""
    warnings: list[str] = []

    def shown(value: float | None, name: str, quantity: Quantity, where: str = "data") -> float | None:
        if value is None or quantity.low <= value <= quantity.high:
            return value
        warnings.append(disbelief(name, value, quantity, where))
        return None

    cores, uptime = shown(data.cpu_cores, "cpuCores", COUNT), shown(data.uptime_seconds, "uptimeSeconds", SECONDS)
    hardware = Hardware(
        hostname=data.hostname,
        os=data.os,
        cpu_cores=None if cores is None else round(cores),
        ram_total=shown(data.ram_total, "ramTotal", GIGABYTE),
        gpus=tuple(
            GpuDevice(
                device_id=gpu.device_id,
                model=gpu.model,
                memory_total=shown(gpu.memory_total, "memoryTotal", VRAM, gpu.device_id),
                memory_free=shown(gpu.memory_free, "memoryFree", VRAM, gpu.device_id),
                utilization=shown(gpu.utilization, "utilization", PERCENT, gpu.device_id),
                temperature=shown(gpu.temperature, "temperature", CELSIUS, gpu.device_id),
            )
            for gpu in data.gpu_devices
        ),
        ip_address=data.ip_address,
        public_ip_address=data.public_ip_address,
        cpu_model=data.cpu_model,
        disk_total=shown(data.disk_total, "diskTotal", GIGABYTE),
        daemon_version=data.daemon_version,
        uptime_seconds=None if uptime is None else round(uptime),
        container_runtime=data.container_runtime,
    )
    return hardware, tuple(warnings)


def _heartbeat(message: Heartbeat, warnings: list[str]) -> Sample:
    data = message.data
    values = data.status, data.cpu_usage, data.ram_usage, data.active_deployments, data.uptime_seconds
    return Sample(
        kind=SampleKind.HEARTBEAT,
        time=sample_time(data.timestamp or message.timestamp),
        values=_heartbeat_steps("data", warnings, *values),
        gpus=tuple(
            [
                GpuReading(
                    gpu.device_id,
                    None,
                    _gpu_heartbeat_steps(gpu.device_id, warnings, gpu.utilization, gpu.temperature),
                )
                for gpu in data.gpu_status or ()
            ]
        ),
    )


def _metrics(message: Metrics, warnings: list[str]) -> Sample:
    data = message.data
    cpu, network = data.cpu or _NO_CPU, data.network or _NO_NETWORK
    memory, disk = data.memory or _NO_CAPACITY, data.disk or _NO_CAPACITY
    values = (
        *(cpu.usage, cpu.cores, cpu.temperature),
        *(memory.total, memory.used, memory.free, memory.usage),
        *(disk.total, disk.used, disk.free, disk.usage),
        *(network.bytes_in, network.bytes_out),
    )
    return Sample(
        kind=SampleKind.METRICS,
        time=sample_time(data.timestamp),
        values=_metrics_steps("data", warnings, *values),
        gpus=tuple(
            [
                GpuReading(
                    gpu.device_id,
                    gpu.model,
                    _gpu_metrics_steps(
                        gpu.device_id,
                        warnings,
                        gpu.utilization,
                        gpu.memory_total,
                        gpu.memory_used,
                        gpu.memory_free,
                        gpu.temperature,
                        gpu.power_usage,
                    ),
                )
                for gpu in data.gpus or ()
            ]
        ),
        details=details_of(data.gpus, warnings) if data.gpus else (),
    )


def _compiled(fields: tuple[Field, ...]) -> Callable[..., tuple[Any, ...]]:
    """What turns values, in the order of their fields, into steps: `(where, warnings, *values)`.

    Every field is written out, as `dataclasses` writes methods: sixty values a frame, and a loop over them would
    cost two and a half times as much.
    """
    names = [field.column for field in fields]
    written = [
        name
        if (quantity := field.quantity) is None
        else f"None if {name} is None else round({name} * {quantity.steps_per_unit}) "
        f"if {quantity.low!r} <= {name} <= {quantity.high!r} else left_out({place}, {name}, where, warnings)"
        for place, (name, field) in enumerate(zip(names, fields, strict=True))
    ]
    source = f"lambda where, warnings, {', '.join(names)}: ({', '.join(written)},)"
    made: Callable[..., tuple[Any, ...]] = eval(source, {"left_out": partial(_left_out, fields)})  # noqa: S307 – ours
    return made


def _left_out(fields: tuple[Field, ...], place: int, value: float, where: str, warnings: list[str]) -> None:
    """Adds a warning; the value is stored as missing."""
    field = fields[place]
    if field.quantity is not None:
        warnings.append(disbelief(field.name, value, field.quantity, where))


_heartbeat_steps, _gpu_heartbeat_steps = _compiled(HEARTBEAT_FIELDS), _compiled(GPU_HEARTBEAT_FIELDS)
_metrics_steps, _gpu_metrics_steps = _compiled(NODE_METRIC_FIELDS), _compiled(GPU_METRIC_FIELDS)


def sample_time(moment: datetime) -> datetime:
    """A sample's time as it is kept. Raises InvalidMessage for one that no calendar has."""
    try:
        return to_milliseconds(moment)
    except OverflowError:
        raise InvalidMessage("The sample's `timestamp` lies outside of the years 1 to 9999, in UTC") from None
