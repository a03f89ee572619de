"""What does not change about a machine while it runs: `data` of NODE_REGISTER without its GPUs."""

from __future__ import annotations

import ipaddress
import os
import platform
import shlex
import shutil
import socket
from pathlib import Path
from typing import Any, Final

import psutil

from app import VERSION
from app.worker import host

_OS_RELEASE: Final = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
_CPU_INFO: Final = Path("/proc/cpuinfo")
_SOMEWHERE: Final = ("192.0.2.1", 9)
"""Of the addresses kept for documentation: the route to it is the way out of this machine."""
_RUNTIMES: Final = (
    ("docker", "/run/docker.sock", "dockerd"),
    ("cri-o", "/run/crio/crio.sock", "crio"),
    ("containerd", "/run/containerd/containerd.sock", "containerd"),
    ("podman", "/run/podman/podman.sock", "podman"),
)
"""Name, socket, program. Docker brings a containerd along, so it is looked for first."""


def read() -> dict[str, Any]:
    """Fields of the document; what is not known is left out."""
    addresses = _addresses()
    found = {
        "hostname": socket.gethostname(),
        "ipAddress": _local_address(addresses),
        "publicIpAddress": next((it for it in addresses if ipaddress.ip_address(it).is_global), None),
        "os": _os(),
        "cpuCores": psutil.cpu_count() or 1,
        "cpuModel": _cpu_model(),
        "ramTotal": host.memory()["total"],
        "diskTotal": host.disk().get("total"),
        "daemonVersion": VERSION,
        "uptimeSeconds": host.uptime_seconds(),
        "containerRuntime": _container_runtime(),
    }
    return {name: value for name, value in found.items() if value is not None}


def _addresses() -> list[str]:
    """Of this machine's interfaces, IPv4 first; a link's own addresses are of no use elsewhere."""
    found = []
    for interface in psutil.net_if_addrs().values():
        for it in interface:
            if it.family in {socket.AF_INET, socket.AF_INET6}:
                address = ipaddress.ip_address(it.address.partition("%")[0])
                if not (address.is_loopback or address.is_link_local):
                    found.append(address)
    return [str(it) for it in sorted(found, key=lambda it: (it.version, it.packed))]


def _local_address(addresses: list[str]) -> str | None:
    """The one that others see: of the interface that leads out. Nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
        try:
            way_out.connect(_SOMEWHERE)
            return str(way_out.getsockname()[0])
        except OSError:
            return addresses[0] if addresses else None


def _os() -> str:
    """As distributions call themselves; `platform` reads that from Python 3.10 on."""
    for path in _OS_RELEASE:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            names = [line.partition("=")[2] for line in lines if line.startswith("PRETTY_NAME=")]
            if names:
                return " ".join(shlex.split(names[-1]))[:256]
        except (OSError, ValueError):  # noqa: PERF203 - two files at most
            continue
    return platform.platform()[:256]


def _cpu_model() -> str | None:
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())[:256] or None


def _container_runtime() -> str | None:
    """Of which the socket is there, else of which the program is."""
    for name, path, _ in _RUNTIMES:
        if os.access(path, os.F_OK):
            return name
    return next((name for name, _, program in _RUNTIMES if shutil.which(program)), None)
