"""Every question that the OpenAPI document allows to ask by GET, for the search of what an answer should not know.

Made from the document: a parameter that is not an enumeration and has no values here is a mistake, so that a new one is
not forgotten.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

OWN, FOREIGN, ABSENT = "acme", "umbrella", "nowhere"
"""Organisations: the caller's, another one, and one that is none."""
OWN_NODE, FOREIGN_NODE, ABSENT_NODE = f"{1:024x}", f"{3:024x}", f"{4:024x}"

_METADATA: Final = "metadata.<key>"
_DEVICES: Final = ("GPU-1-1", "GPU-3-1", "GPU-4-1")
_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "page": ("1", "2"),
    "limit": ("1", "1000"),
    "cursor": ("AAAA",),
    "name": ("gpu-01", "gpu-03", "gpu-04"),
    "search": ("gpu", "gpu-0", "gpu-03", "GPU-04"),
    "orgId": (OWN, FOREIGN, ABSENT),
    "changedSince": ("2026-11-22T00:00:00Z",),
    "from": ("now-1d", "2026-11-22T00:00:00Z"),
    "to": ("2026-11-22T18:00:00Z",),
    "tz": ("Asia/Kolkata",),
    "fields": ("temperature", "cpuUsage", "utilization,memoryUsed"),
    "agg": ("avg,min,max,sum,count,last", "p50,p95,p99", "rate,increase"),
    "deviceId": _DEVICES,
    "kind": ("created", "status"),
    "of": ("node", "gpu"),
    "groupBy": ("node", "gpu", "gpuModel", "role", "org", "none"),
    "top": ("1", "1000"),
    "orderBy": ("temperature:max", "cpuUsage:avg:asc"),
}
_TOGETHER: Final[Mapping[str, tuple[tuple[tuple[str, str], ...], ...]]] = {
    "/nodes": (
        *(
            (("sort", sort), ("limit", "1"))
            for sort in ("name", "-name", "createdAt", "lastHeartbeat", "-lastHeartbeat")
        ),
        (("metadata.rack", "b7"), ("search", "gpu")),
    ),
    "/fleet/metrics": tuple(
        (("groupBy", group), ("from", "now-1d"), ("interval", "1h"), ("top", "2"), ("orderBy", "temperature:max:asc"))
        for group in ("node", "gpu", "gpuModel", "role")
    ),
}
"""Questions of several parameters, where one alone is not asked."""


def questions(description: Mapping[str, Any]) -> Iterator[str]:
    """Paths with their query strings: each operation bare, and with each value of each of its parameters."""
    for template, methods in description["paths"].items():
        if "get" not in methods:
            continue
        path = template.replace("{node_id}", OWN_NODE)
        yield path
        parameters = [each for each in methods["get"].get("parameters", ()) if each["in"] == "query"]
        for parameter in parameters:
            name = "metadata.rack" if parameter["name"] == _METADATA else parameter["name"]
            yield from (f"{path}?{urlencode({name: value})}" for value in _values(parameter))
        yield from (f"{path}?{urlencode(several)}" for several in _TOGETHER.get(path, ()))
        if "format" in {parameter["name"] for parameter in parameters}:
            yield f"{path}?{urlencode({'format': 'csv', 'interval': 'raw', 'from': 'now-1d'})}"
        if path != template:
            yield from (template.replace("{node_id}", node) for node in (FOREIGN_NODE, ABSENT_NODE))


def _values(parameter: Mapping[str, Any]) -> tuple[str, ...]:
    if parameter["name"] == _METADATA:
        return ("b7", "b8")
    values = parameter["schema"].get("enum") or _VALUES.get(parameter["name"])
    if values is None:
        raise AssertionError(f"give the parameter {parameter['name']} values in {__name__}")
    return tuple(values)
