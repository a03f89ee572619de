"""The machine around the GPUs, by psutil: how it is now. GB are 2^30 bytes; what is not known is left out."""

from __future__ import annotations

import os
import time
from typing import Any, Final

import psutil

_GB: Final = 2**30
_SHORTEST_SECONDS: Final = 0.5
"""Processor time is counted in hundredths: a share of less says nothing."""
_CPU_SENSORS: Final = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal")
_READ_ONLY: Final = frozenset({"squashfs", "iso9660", "erofs"})
_NICS: Final = "/sys/class/net"


class CpuUsage:
    """Percent of all cores that worked since the last question. Each who asks at times of his own has one."""

    def __init__(self) -> None:
        self._asked = time.monotonic()
        self._busy, self._total = _cpu_seconds()
        self._percent: float | None = None

    def percent(self) -> float | None:
        """The last answer where too little time has passed for another; None where there was none."""
        now = time.monotonic()
        if now - self._asked >= _SHORTEST_SECONDS:
            busy, total = _cpu_seconds()
            if total > self._total:
                self._percent = round(min(max(100 * (busy - self._busy) / (total - self._total), 0.0), 100.0), 1)
            self._asked, self._busy, self._total = now, busy, total
        return self._percent


def uptime_seconds() -> int:
    """Since the machine started, by a clock that nobody sets."""
    boot_clock = getattr(time, "CLOCK_BOOTTIME", None)
    return int(time.time() - psutil.boot_time() if boot_clock is None else time.clock_gettime(boot_clock))


def cpu(usage: float | None) -> dict[str, Any]:
    """`cpu` of metrics: percent, number, °C."""
    measured = {"usage": usage, "cores": psutil.cpu_count(), "temperature": _cpu_temperature()}
    return {name: value for name, value in measured.items() if value is not None}


def memory() -> dict[str, Any]:
    """`memory` of metrics. Free is what programs could have, caches included, so that used and free are the total."""
    found = psutil.virtual_memory()
    return _capacity(found.total, found.total - found.available, found.available)


def disk() -> dict[str, Any]:
    """`disk` of metrics: all local file systems together, each once wherever it is mounted."""
    total = used = free = 0
    for place in _file_systems():
        try:
            found = psutil.disk_usage(place)
        except OSError:
            continue  # unmounted meanwhile, or not for our eyes
        total, used, free = total + found.total, used + found.used, free + found.free
    return _capacity(total, used, free) if total else {}


def network() -> dict[str, Any]:
    """`network` of metrics: bytes since the machine started, through hardware; bridges and the like count it again."""
    counters = psutil.net_io_counters(pernic=True)
    names = [it for it in counters if os.access(f"{_NICS}/{it}/device", os.F_OK)] or [
        it for it in counters if it != "lo"
    ]
    if not names:
        return {}
    return {
        "bytesIn": sum(counters[it].bytes_recv for it in names),
        "bytesOut": sum(counters[it].bytes_sent for it in names),
    }


def _cpu_seconds() -> tuple[float, float]:
    """Busy and all, of all cores. Waiting for a disk is idle; a guest's time stands in the user's already."""
    times = psutil.cpu_times()
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _cpu_temperature() -> float | None:
    """The hottest of the processors' own sensors."""
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    found = [it.current for name in _CPU_SENSORS for it in sensors.get(name, ()) if it.current]
    return max(found, default=None)


def _file_systems() -> list[str]:
    """A mount point of each local file system; where none is to be seen, as in a container, the root."""
    places = {it.device: it.mountpoint for it in psutil.disk_partitions() if it.fstype not in _READ_ONLY}
    return list(places.values()) or ["/"]


def _capacity(total: int, used: int, free: int) -> dict[str, Any]:
    """As df counts: what is kept for root alone is neither used nor free."""
    return {
        "total": round(total / _GB, 3),
        "used": round(used / _GB, 3),
        "free": round(free / _GB, 3),
        "usage": round(100 * used / (used + free), 1) if used + free else 0.0,
    }
