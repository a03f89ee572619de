"""The OpenAPI description: complete, true to the contract, open to all."""

from collections.abc import Iterator
from typing import Any

import pytest

from app.storage.database import Database
from tests.fakes import FakeClock
from tests.rest_app import rest_api

NODE_OPERATIONS = {
    ("/nodes", "post"): ("createNode", {"201", "400", "401", "403", "413", "429", "503"}),
    ("/nodes", "get"): ("listNodes", {"200", "400", "401", "403", "503"}),
    ("/nodes/{node_id}", "get"): ("getNode", {"200", "400", "401", "403", "404", "503"}),
    ("/nodes/{node_id}", "put"): ("updateNode", {"200", "400", "401", "403", "404", "413", "503"}),
    ("/nodes/{node_id}", "delete"): ("deleteNode", {"200", "400", "401", "403", "404", "503"}),
    ("/nodes/{node_id}/status-history", "get"): ("getStatusHistory", {"200", "400", "401", "403", "404", "503"}),
    ("/nodes/{node_id}/events", "get"): ("getNodeEvents", {"200", "400", "401", "403", "404", "503"}),
    ("/nodes/{node_id}/token", "post"): ("makeNodeToken", {"200", "400", "401", "403", "404", "413", "429", "503"}),
    ("/nodes/{node_id}/token", "delete"): ("revokeNodeTokens", {"200", "400", "401", "403", "404", "503"}),
    ("/fleet/summary", "get"): ("getFleetSummary", {"200", "400", "401", "403", "503"}),
    ("/fleet/prometheus", "get"): ("getFleetPrometheus", {"200", "400", "401", "403", "503"}),
}


@pytest.fixture
async def description(database: Database, clock: FakeClock) -> dict[str, Any]:
    async with rest_api(database, clock) as api:
        answer = await api.client.get("/schema/openapi.json")
    assert answer.status_code == 200
    return dict(answer.json())


def operations(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


async def test_every_operation_is_described(description: dict[str, Any]) -> None:
    """With an id of its own, and every error in the contract's shape."""
    found = {(path, method): operation for path, method, operation in operations(description)}
    for where, (operation_id, statuses) in NODE_OPERATIONS.items():
        assert (found[where]["operationId"], set(found[where]["responses"])) == (operation_id, statuses | {"500"})
    for operation in found.values():
        assert operation["summary"]
        assert operation["description"]
        for status, response in operation["responses"].items():
            schema = next(iter(response["content"].values()))["schema"]
            assert int(status) < 400 or schema == {"$ref": "#/components/schemas/ErrorBody"}


async def test_the_token_is_described(description: dict[str, Any]) -> None:
    """Everywhere but at the health checks, where a machine downloads the daemon, and, from this machine, at the metrics."""
    schemes = description["components"]["securitySchemes"]
    assert [(scheme["type"], scheme["scheme"]) for scheme in schemes.values()] == [("http", "bearer")]
    assert description["security"] == [{name: [] for name in schemes}]
    for path, _, operation in operations(description):
        optional = [{}, *description["security"]] if path == "/metrics" else None
        assert operation.get("security") == ([{}] if path.startswith(("/health", "/install")) else optional)


async def test_the_list_describes_its_parameters(description: dict[str, Any]) -> None:
    """Those of the contract."""
    names = [parameter["name"] for parameter in description["paths"]["/nodes"]["get"]["parameters"]]
    assert set(names) == {"page", "limit", "cursor", "sort", "status", "role", "name", "search", "orgId"} | {
        "changedSince",
        "metadata.<key>",
    }


async def test_the_error_body_is_the_contracts(description: dict[str, Any]) -> None:
    """Key for key."""
    schema = description["components"]["schemas"]["ErrorBody"]
    assert set(schema["required"]) == {"statusCode", "error", "message", "path", "timestamp"}
    assert set(schema["properties"]) - set(schema["required"]) == {"details", "requestId"}


async def test_the_node_is_the_documents(description: dict[str, Any]) -> None:
    """Every field of its schema but `deletedAt`, which nobody can see; and the contract's `clockSkewMs`."""
    properties = description["components"]["schemas"]["NodeAnswer"]["properties"]
    document = """_id name role status isLocal vpnIp websocketConnected lastHeartbeat gpuDevices cpuCores cpuModel
        ramTotal ramFree diskTotal hostname ipAddress publicIpAddress os daemonVersion containerRuntime uptimeSeconds
        cpuUsage ramUsage tokenMetadata lastSeenAt lastMetricsAt owner createdBy updatedBy metadata createdAt updatedAt
        statusReason clockSkewMs"""
    assert set(properties) == set(document.split())
    assert properties["lastHeartbeat"]["format"] == "date-time"


async def test_the_examples_are_the_documents(description: dict[str, Any]) -> None:
    """For people who copy them."""
    create = description["paths"]["/nodes"]["post"]
    body = create["requestBody"]["content"]["application/json"]["example"]
    assert body == {"name": "GPU-Worker-01", "role": ["worker"], "isLocal": False, "vpnIp": "10.0.1.5"}
    created = next(iter(create["responses"]["201"]["content"]["application/json"]["examples"].values()))["value"]
    assert created["_id"] == "673e7a1f5c9d8e001234abcd"
    assert description["paths"]["/nodes/{node_id}/token"]["post"]["requestBody"]["required"] is False


async def test_it_lies_below_the_base_path(database: Database, clock: FakeClock) -> None:
    """A page for people, and JSON for machines."""
    async with rest_api(database, clock, base_path="/dev/aiwm") as api:
        page = await api.client.get("/dev/aiwm/schema")
        assert (page.status_code, page.headers["Content-Type"].partition(";")[0]) == (200, "text/html")
        paths = (await api.client.get("/dev/aiwm/schema/openapi.json")).json()["paths"]
        assert all(path.startswith("/dev/aiwm/") for path in paths)
        assert (await api.client.get("/schema/openapi.json")).status_code == 404


async def test_options_names_the_methods_that_a_path_has(database: Database, clock: FakeClock) -> None:
    """All of them, as 405 does, whichever handlers they come from."""
    async with rest_api(database, clock) as api:
        for path, methods in (await api.client.get("/schema/openapi.json")).json()["paths"].items():
            there = {method.upper() for method in methods} | {"OPTIONS"}
            for method, status in (("OPTIONS", 204), ("PATCH", 405)):
                answer = await api(method, path.replace("{node_id}", "0" * 24))
                assert (answer.status_code, set(answer.headers["Allow"].split(", "))) == (status, there), path
