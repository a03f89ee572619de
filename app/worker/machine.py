"""This machine as a Sampler."""

from __future__ import annotations

import os
import platform
import socket
import time
from pathlib import Path
from typing import Any

import psutil

from app import VERSION
from app.worker.sampler import Sampler

_GB = 2**30


def open_machine(trace: Path | None = None) -> Sampler:
    """The machine that this program runs on; with a trace, GPUs as they were recorded."""
    if trace is not None:
        raise ValueError("recorded traces are not played yet.")
    return Machine()


class Machine:
    """What psutil knows of a machine."""

    def facts(self) -> dict[str, Any]:
        """`data` of NODE_REGISTER."""
        return {
            "hostname": socket.gethostname(),
            "os": platform.platform(),
            "cpuCores": os.cpu_count() or 1,
            "ramTotal": round(psutil.virtual_memory().total / _GB, 3),
            "gpuDevices": [],
            "daemonVersion": VERSION,
            "uptimeSeconds": int(time.time() - psutil.boot_time()),
        }

    def heartbeat(self) -> dict[str, Any]:
        """`data` of TELEMETRY_HEARTBEAT."""
        return {
            "status": "online",
            "uptimeSeconds": int(time.time() - psutil.boot_time()),
            "cpuUsage": psutil.cpu_percent(),
            "ramUsage": psutil.virtual_memory().percent,
        }

    def metrics(self) -> dict[str, Any]:
        """`data` of TELEMETRY_METRICS."""
        memory = psutil.virtual_memory()
        return {
            "cpu": {"usage": psutil.cpu_percent(), "cores": os.cpu_count()},
            "memory": {"total": round(memory.total / _GB, 3), "usage": memory.percent},
        }

    def events(self) -> list[dict[str, Any]]:
        """What happened to GPUs."""
        return []
