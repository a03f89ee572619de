"""Nodes as tables for people."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.table import Table
from rich.text import Text

_COLORS: Final = {"online": "green", "offline": "red", "maintenance": "yellow", "installing": "cyan"}
_NESTED: Final = frozenset({"gpuDevices", "owner", "tokenMetadata", "metadata"})


def of_nodes(nodes: Iterable[Mapping[str, Any]]) -> Table:
    """A line each."""
    table = Table("_id", "name", "status", "role", "GPUs", "last heartbeat")
    for node in nodes:
        table.add_row(
            node["_id"],
            plain(node["name"]),
            _status(node["status"]),
            ", ".join(node["role"]),
            plain(_gpus(node)),
            node["lastHeartbeat"] if "hostname" in node else "–",
        )
    return table


def of_node(node: Mapping[str, Any]) -> list[Table]:
    """All that is known of one: its fields, and its GPUs."""
    fields = Table(show_header=False)
    fields.add_column(no_wrap=True)
    fields.add_column(overflow="fold")
    for name, value in _flat(node):
        fields.add_row(plain(name), _status(str(value)) if name == "status" else plain(value))
    if not node.get("gpuDevices"):
        return [fields]
    gpus = Table("deviceId", "model", "memory GB", "free GB", "%", "°C")
    for gpu in node["gpuDevices"]:
        names = ("deviceId", "model", "memoryTotal", "memoryFree", "utilization", "temperature")
        gpus.add_row(*(plain(gpu.get(name, "–")) for name in names))
    return [fields, gpus]


def plain(value: object) -> Text:
    """Somebody's text as it is: no markup, and nothing that moves a cursor."""
    return Text("".join(it if it.isprintable() else "�" for it in str(value)))


def _status(status: str) -> Text:
    return Text(status, style=_COLORS.get(status, ""))


def _gpus(node: Mapping[str, Any]) -> str:
    models = Counter(str(gpu.get("model", "?")) for gpu in node.get("gpuDevices", ()))
    return ", ".join(f"{count} × {model}" for model, count in models.items()) or "–"


def _flat(node: Mapping[str, Any]) -> Iterable[tuple[str, object]]:
    for name, value in node.items():
        if name == "gpuDevices":
            continue
        if name in _NESTED:
            yield from ((f"{name}.{inner}", it) for inner, it in value.items())
        else:
            yield name, ", ".join(value) if name == "role" else value
