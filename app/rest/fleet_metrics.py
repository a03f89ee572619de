"""The fleet as Prometheus reads it: names, base units, labels.

One metric after the other, as the format asks, so that the text can be sent while it is written.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from typing import Final

from app.domain.fleet import PresentFleet
from app.model import NodeStatus
from app.rest.exposition import Family, labels, lines
from app.storage.fleet import PresentGpu, PresentNode

LINES_A_CHUNK: Final = 2000

_BYTES_A_GB: Final = 2**30
_RATIO_DECIMALS: Final = 3  # a tenth of a percent


def _ratio(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, _RATIO_DECIMALS)


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else round(gigabytes * _BYTES_A_GB)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else round(moment.timestamp(), 3)


_STATUS: Final = Family("aiwm_node_status", "1 for the status that the node has, 0 for the others.")
_NODE: Final[list[tuple[Family, Callable[[PresentNode], float | None]]]] = [
    (
        Family("aiwm_node_websocket_connected", "Whether a socket of the node is open."),
        lambda node: int(node.websocket_connected),
    ),
    (
        Family("aiwm_node_last_heartbeat_timestamp_seconds", "When the node's last heartbeat came, Unix time."),
        lambda node: _seconds(node.last_heartbeat),
    ),
    (
        Family("aiwm_node_last_metrics_timestamp_seconds", "When the node's last metrics came, Unix time."),
        lambda node: _seconds(node.last_metrics_at),
    ),
    (Family("aiwm_node_uptime_seconds", "Time since the machine started."), lambda node: node.uptime_seconds),
    (
        Family(
            "aiwm_node_clock_skew_seconds", "By how much the worker's clock is behind the server's; negative: ahead."
        ),
        lambda node: None if node.clock_skew_ms is None else node.clock_skew_ms / 1000,
    ),
    (Family("aiwm_node_cpu_cores", "Number of CPU cores."), lambda node: node.cpu_cores),
    (Family("aiwm_node_cpu_usage_ratio", "CPU in use, 0 to 1."), lambda node: _ratio(node.cpu_usage)),
    (Family("aiwm_node_memory_usage_ratio", "Memory in use, 0 to 1."), lambda node: _ratio(node.ram_usage)),
    (Family("aiwm_node_memory_total_bytes", "Memory of the machine."), lambda node: _bytes(node.ram_total)),
    (Family("aiwm_node_memory_free_bytes", "Memory that is free."), lambda node: _bytes(node.ram_free)),
    (Family("aiwm_node_disk_total_bytes", "Disk space of the machine."), lambda node: _bytes(node.disk_total)),
]
_GPU: Final[list[tuple[Family, Callable[[PresentGpu], float | None]]]] = [
    (Family("aiwm_gpu_info", "1 for each GPU that a node has."), lambda _: 1),
    (Family("aiwm_gpu_utilization_ratio", "GPU in use, 0 to 1."), lambda gpu: _ratio(gpu.utilization)),
    (Family("aiwm_gpu_memory_total_bytes", "Memory of the GPU."), lambda gpu: _bytes(gpu.memory_total)),
    (Family("aiwm_gpu_memory_used_bytes", "GPU memory in use."), lambda gpu: _bytes(gpu.memory_used)),
    (Family("aiwm_gpu_memory_free_bytes", "GPU memory that is free."), lambda gpu: _bytes(gpu.memory_free)),
    (Family("aiwm_gpu_temperature_celsius", "Temperature of the GPU."), lambda gpu: gpu.temperature),
    (Family("aiwm_gpu_power_usage_watts", "Power that the GPU draws."), lambda gpu: gpu.power_usage),
]


def exposition(fleet: PresentFleet) -> Iterator[str]:
    """The whole text, some lines at a time."""
    written = _lines(fleet)
    while chunk := "".join(islice(written, LINES_A_CHUNK)):
        yield chunk


def _lines(fleet: PresentFleet) -> Iterator[str]:
    nodes = [(_node_labels(node), node) for node in fleet.nodes]
    yield from lines(
        _STATUS,
        (
            (f"{written},{labels(status=status)}", int(node.status is status))
            for written, node in nodes
            for status in NodeStatus
        ),
    )
    for family, value_of_node in _NODE:
        yield from lines(family, ((written, value_of_node(node)) for written, node in nodes))
    gpus = [(_gpu_labels(gpu), gpu) for gpu in fleet.gpus]
    for family, value_of_gpu in _GPU:
        yield from lines(family, ((written, value_of_gpu(gpu)) for written, gpu in gpus))


def _node_labels(node: PresentNode) -> str:
    return labels(node_id=node.node_id, node_name=node.node_name, org_id=node.org_id)


def _gpu_labels(gpu: PresentGpu) -> str:
    return labels(
        node_id=gpu.node_id,
        node_name=gpu.node_name,
        org_id=gpu.org_id,
        device_id=gpu.device_id,
        gpu_model=gpu.gpu_model,
    )
