"""What nobody types: NUL, half characters, numbers without end, in every place that takes a text."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
from httpx import Response

from app.errors import InvalidMessage
from app.model import CallerRole
from app.protocol import messages
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from tests.fakes import FakeClock
from tests.frames import DETAILS, gpu_event, heartbeat, metrics, register
from tests.integration.fleet_of_analysts import seed
from tests.rest_app import Api, rest_api
from tests.security.questions import OWN, OWN_NODE

HOSTILE = {
    "NUL": "a%00b",
    "half a character": "%ED%A0%80",
    "no UTF-8": "%FF%FE",
    "a number without end": "000001" + "9" * 5000,
    "nothing": "",
    "a long text": "a" * 20_000,
}


@pytest.fixture
async def api(database: Database, engine: StorageEngine, clock: FakeClock) -> AsyncIterator[Api]:
    """The API over a small fleet."""
    await seed(database, engine)
    async with rest_api(database, clock) as api:
        yield api


async def ask(api: Api, method: str, path: str, body: Any = None) -> Response:
    """As an admin, whom no guard stops."""
    return await api(method, path, body, role=CallerRole.ADMIN, org=OWN)


@pytest.fixture
async def description(api: Api) -> dict[str, Any]:
    """The OpenAPI document."""
    return dict((await api.client.get("/schema/openapi.json")).json())


async def test_no_parameter_breaks_anything(api: Api, description: dict[str, Any]) -> None:
    """Whatever is said to it: an answer, or 400 or 404 that says why; and NUL is always refused, by name."""
    for template, methods in description["paths"].items():
        path = template.replace("{node_id}", OWN_NODE)
        parameters = [each["name"] for each in methods.get("get", {}).get("parameters", ()) if each["in"] == "query"]
        for name in [each.replace("<key>", "rack") for each in parameters]:
            for kind, value in HOSTILE.items():
                answer = await ask(api, "GET", f"{path}?{name}={value}")
                assert answer.status_code in {200, 400, 404}, (path, name, kind, answer.text)
                if kind == "NUL":
                    assert {detail["field"] for detail in answer.json()["details"]} == {name}, (path, answer.text)
            assert (await ask(api, "GET", f"{path}?{name}%00=1")).status_code == 400, (path, name)


async def test_no_path_breaks_anything(api: Api, description: dict[str, Any]) -> None:
    """An id of another shape is 400 by every method."""
    for template, methods in description["paths"].items():
        for method in methods if "{node_id}" in template else ():
            for value in ("%00" * 24, "0" * 23 + "%00", "%ED%A0%80", "0" * 24 + "%0A", "%F0%9F%92%A9"):
                answer = await ask(api, method.upper(), template.replace("{node_id}", value), {})
                assert answer.status_code == 400, (method, template, value, answer.text)


async def test_no_header_breaks_anything(api: Api) -> None:
    """Neither a wish for a format that is none, nor a tag, nor a range."""
    for header in (
        "Accept",
        "If-None-Match",
        "Range",
        "Accept-Encoding",
        "X-Forwarded-For",
        "Origin",
        "Host",
        "Cookie",
    ):
        for value in ("", "*/*;q=x", "text/csv;q=", ",;=,", "\xff", '"', "a" * 4000, "application/json; q=1e400"):
            path = f"/nodes/{OWN_NODE}/metrics"
            answer = await api("GET", path, role=CallerRole.ADMIN, org=OWN, headers={header: value.encode("latin-1")})
            assert answer.status_code in {200, 400}, (header, value, answer.text)


def with_nul(value: Any) -> Iterator[Any]:
    """A JSON value once for each text in it, names of objects too, with a NUL there."""
    match value:
        case str():
            yield f"{value}\0"
        case dict():
            for name, part in value.items():
                yield {**value, f"{name}\0": part}
                yield from ({**value, name: changed} for changed in with_nul(part))
        case list():
            for place, part in enumerate(value):
                yield from ([*value[:place], changed, *value[place + 1 :]] for changed in with_nul(part))


BODIES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "/nodes": (
        "POST",
        {"name": "n", "role": ["worker"], "vpnIp": "10.0.0.1", "orgId": OWN, "metadata": {"a": [{"b": "c"}]}},
    ),
    f"/nodes/{OWN_NODE}": (
        "PUT",
        {"name": "n", "status": "maintenance", "statusReason": "r", "metadata": {"a": ["b"]}},
    ),
    f"/nodes/{OWN_NODE}/token": ("POST", {"expiresIn": 3600}),
}


async def test_no_body_takes_nul(api: Api, description: dict[str, Any]) -> None:
    """Nor the name of a field, of one that there is not, or of an object deep in the metadata."""
    taking = {
        path for path, methods in description["paths"].items() for each in methods.values() if "requestBody" in each
    }
    assert {path.replace(OWN_NODE, "{node_id}") for path in BODIES} == taking
    for path, (method, body) in BODIES.items():
        for changed in with_nul(body):
            answer = await ask(api, method, path, changed)
            assert answer.status_code == 400, (path, changed, answer.text)


@pytest.mark.parametrize("frame", [register(), heartbeat(), metrics(), gpu_event()], ids=lambda each: each["type"])
def test_no_frame_takes_nul(frame: dict[str, Any]) -> None:
    """In any text of it: those that are stored, those that are only answered, and names."""
    if frame["type"] == "TELEMETRY_METRICS":
        frame["data"]["gpus"][0] |= DETAILS
    for changed in with_nul(frame | {"unknown": {"a": ["b"]}}):
        with pytest.raises(InvalidMessage):
            messages.decode(json.dumps(changed))
