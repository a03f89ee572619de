"""This machine as a Sampler: its GPUs, and what is around them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Callable, Protocol

from app.worker import facts, host
from app.worker.gpus import Gpus
from app.worker.trace import Trace

_log = logging.getLogger(__name__)


class GpuSource(Protocol):
    """Where GPUs are measured: NVML, or a recorded trace."""

    def facts(self) -> list[dict[str, Any]]:
        """`gpuDevices` of NODE_REGISTER."""
        ...

    def status(self) -> list[dict[str, Any]]:
        """`gpuStatus` of TELEMETRY_HEARTBEAT."""
        ...

    def metrics(self) -> list[dict[str, Any]]:
        """`gpus` of TELEMETRY_METRICS."""
        ...

    def events(self) -> list[dict[str, Any]]:
        """What happened since the last call."""
        ...

    def close(self) -> None:
        """No more questions."""
        ...


def open_machine(trace: Path | None = None, speed: float | None = None) -> Machine:
    """The machine that this program runs on; with a trace, GPUs as they were recorded (see `Trace`).

    Raises OSError or ValueError where the trace cannot be read. Touches no driver, which may hang.
    """
    return Machine(Gpus() if trace is None else Trace.read(trace, speed))


class Machine:
    """A part that cannot be measured is left out and told in the log; the rest goes on."""

    def __init__(self, gpus: GpuSource) -> None:
        self._gpus = gpus
        # Heartbeats and metrics come at the same second, and each wants the usage since its own last one.
        self._heartbeat_usage = host.CpuUsage()
        self._metrics_usage = host.CpuUsage()

    def facts(self) -> dict[str, Any]:
        """`data` of NODE_REGISTER."""
        return {**facts.read(), "gpuDevices": _part("GPUs", self._gpus.facts) or []}

    def heartbeat(self) -> dict[str, Any]:
        """`data` of TELEMETRY_HEARTBEAT."""
        memory = _part("memory", host.memory) or {}
        return _known(
            status="online",
            uptimeSeconds=_part("uptime", host.uptime_seconds),
            cpuUsage=_part("CPU", self._heartbeat_usage.percent),
            ramUsage=memory.get("usage"),
            gpuStatus=_part("GPUs", self._gpus.status),
        )

    def metrics(self) -> dict[str, Any]:
        """`data` of TELEMETRY_METRICS."""
        return _known(
            cpu=_part("CPU", lambda: host.cpu(self._metrics_usage.percent())),
            memory=_part("memory", host.memory),
            disk=_part("disk", host.disk),
            network=_part("network", host.network),
            gpus=_part("GPUs", self._gpus.metrics),
        )

    def events(self) -> list[dict[str, Any]]:
        """What happened to GPUs."""
        return _part("GPU events", self._gpus.events) or []

    def close(self) -> None:
        """Let the GPUs' driver go."""
        self._gpus.close()


def _part(name: str, measure: Callable[[], Any]) -> Any | None:
    try:
        return measure()
    except Exception:  # noqa: BLE001 - whatever a kernel or a driver comes up with, the other parts can be measured
        _log.exception("The %s cannot be measured and is left out this time.", name)
        return None


def _known(**parts: Any) -> dict[str, Any]:
    return {name: value for name, value in parts.items() if value not in (None, {})}
