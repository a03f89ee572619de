"""Creating, reading and deleting nodes over HTTP."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from app.model import CallerRole, GpuDevice
from app.storage.database import Database
from tests.fakes import FakeClock
from tests.rest_app import ORG, OTHER_ORG, USER, Api, register, rest_api, worker_did

NOW = "2026-11-23T12:00:00.000Z"


@pytest.fixture
async def api(database: Database, clock: FakeClock) -> AsyncIterator[Api]:
    async with rest_api(database, clock) as api:
        yield api


async def test_a_new_node_is_the_documents(api: Api) -> None:
    """The answer of `POST /nodes`, key for key; what has no value is left out."""
    answer = await api(
        "POST", "/nodes", {"name": "GPU-Worker-01", "role": ["worker"], "isLocal": False, "vpnIp": "10.0.1.5"}
    )
    assert answer.status_code == 201
    node = answer.json()
    node_id = node.pop("_id")
    assert len(node_id) == 24
    assert node == {
        "name": "GPU-Worker-01",
        "role": ["worker"],
        "status": "pending",
        "isLocal": False,
        "vpnIp": "10.0.1.5",
        "websocketConnected": False,
        "lastHeartbeat": NOW,
        "owner": {"orgId": ORG},
        "createdBy": USER,
        "createdAt": NOW,
        "updatedAt": NOW,
    }
    assert (await api("GET", f"/nodes/{node_id}")).json() == node | {"_id": node_id}


async def test_what_may_be_left_out_may_be_null(api: Api) -> None:
    """`vpnIp`, `metadata` and `orgId`; `isLocal` is false where nothing is said."""
    node = await api.new_node(vpnIp=None, metadata=None, orgId=None)
    assert not {"vpnIp", "metadata"} & set(node)
    assert node["isLocal"] is False


async def test_ids_grow_with_time(api: Api, clock: FakeClock) -> None:
    """As a MongoDB ObjectId does: seconds first, then a counter."""
    first, second = (await api.new_node())["_id"], (await api.new_node())["_id"]
    assert int(first[:8], 16) == int(clock.now().timestamp())
    assert first[8:18] == second[8:18]
    assert (int(second[18:], 16) - int(first[18:], 16)) % 2**24 == 1


@pytest.mark.parametrize(
    "metadata", [{}, {"rack": "a1", "deep": [{"x": None}]}, {"big": 1e22}, {"long": 10**60}, {"é": "\U0001f600"}]
)
async def test_metadata_comes_back_as_it_went(api: Api, metadata: dict[str, Any]) -> None:
    """Whatever JSON object it is."""
    assert (await api.new_node(metadata=metadata))["metadata"] == metadata


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"name": 7}, "name"),
        ({"name": "nul\0"}, "name"),
        ({"role": []}, "role"),
        ({"role": "worker"}, "role"),
        ({"role": ["worker", "worker"]}, "role"),
        ({"role": ["worker", "boss"]}, "role[1]"),
        ({"role": ["worker", 7]}, "role[1]"),
        ({"isLocal": "false"}, "isLocal"),
        ({"isLocal": None}, "isLocal"),
        ({"isLocal": 1}, "isLocal"),
        ({"vpnIp": "10.0.1"}, "vpnIp"),
        ({"vpnIp": ""}, "vpnIp"),
        ({"vpnIp": "fe80::1%eth0"}, "vpnIp"),
        ({"vpnIp": 10}, "vpnIp"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": {"b": ["nul\0"]}}}, "metadata"),
        ({"metadata": {"a": {"nul\0": 1}}}, "metadata"),
        ({"metadata": {"a": "x" * 16_384}}, "metadata"),
        ({"orgId": OTHER_ORG}, "orgId"),
        ({"orgId": 7}, "orgId"),
        ({"status": "online"}, "status"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_a_wrong_field_is_named(api: Api, change: dict[str, Any], field: str) -> None:
    """400, and nothing is created."""
    answer = await api("POST", "/nodes", {"name": "n", "role": ["worker"]} | change)
    assert answer.status_code == 400, answer.text
    assert [detail["field"] for detail in answer.json()["details"]] == [field]
    assert field in answer.json()["message"]
    assert (await api("GET", "/nodes")).json()["total"] == 0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": 7}, "must be a text, not a whole number"),
        ({"name": ""}, "must have at least 1 character"),
        ({"name": "x" * 129}, "must have at most 128 characters"),
        ({"role": []}, "must have at least 1 entry"),
        ({"role": ["boss"]}, "must be one of controller, worker, proxy, storage"),
        ({"isLocal": "false"}, "must be true or false, not a text"),
        ({"vpnIp": 1.5}, "must be a text or null, not a number with a fraction"),
        ({"metadata": []}, "must be an object or null, not a list"),
    ],
)
async def test_what_is_wrong_is_said_in_words(api: Api, change: dict[str, Any], problem: str) -> None:
    """Of JSON and of the document, not of the language that this is written in."""
    answer = await api("POST", "/nodes", {"name": "n", "role": ["worker"]} | change)
    assert [detail["message"] for detail in answer.json()["details"]] == [problem]


async def test_every_wrong_field_is_named_at_once(api: Api) -> None:
    """Who fills in a form wants to hear it all."""
    answer = await api("POST", "/nodes", {"name": 1, "vpnIp": "x", "zzz": 1})
    assert {detail["field"] for detail in answer.json()["details"]} == {"name", "role", "vpnIp", "zzz"}


async def test_128_characters_are_characters_not_bytes(api: Api) -> None:
    """And a name need not be unique."""
    name = "\U0001f600" * 128
    assert (await api.new_node(name))["name"] == name
    await api.new_node(name)


async def test_an_admin_creates_for_any_org(api: Api) -> None:
    """`orgId` is required of one whose token names none."""
    body = {"name": "n", "role": ["proxy"]}
    admin = {"role": CallerRole.ADMIN}
    answer = await api("POST", "/nodes", body | {"orgId": OTHER_ORG}, **admin)
    assert answer.json()["owner"] == {"orgId": OTHER_ORG}
    assert (await api("POST", "/nodes", body, **admin)).json()["owner"] == {"orgId": ORG}
    missing = await api("POST", "/nodes", body, org=None, **admin)
    assert missing.status_code == 400
    assert missing.json()["details"][0]["field"] == "orgId"


async def test_own_org_only(api: Api) -> None:
    """Another org's node is not there; an admin sees all."""
    node_id = (await api.new_node())["_id"]
    for method, path, body in [
        ("GET", f"/nodes/{node_id}", None),
        ("PUT", f"/nodes/{node_id}", {"name": "x"}),
        ("DELETE", f"/nodes/{node_id}", None),
        ("POST", f"/nodes/{node_id}/token", None),
        ("DELETE", f"/nodes/{node_id}/token", None),
    ]:
        answer = await api(method, path, body, org=OTHER_ORG)
        assert (answer.status_code, answer.json()["message"]) == (404, "Node not found")
    assert (await api("GET", f"/nodes/{node_id}", role=CallerRole.ADMIN, org=None)).status_code == 200
    assert api.sockets.revoked == []


async def test_a_viewer_only_reads(api: Api) -> None:
    """403 for everything else, before the body is looked at."""
    node_id = (await api.new_node())["_id"]
    viewer = {"role": CallerRole.VIEWER}
    assert (await api("GET", f"/nodes/{node_id}", **viewer)).status_code == 200
    assert (await api("GET", "/nodes", **viewer)).status_code == 200
    for method, path in [
        ("POST", "/nodes"),
        ("PUT", f"/nodes/{node_id}"),
        ("DELETE", f"/nodes/{node_id}"),
        ("POST", f"/nodes/{node_id}/token"),
        ("DELETE", f"/nodes/{node_id}/token"),
    ]:
        assert (await api(method, path, b"{not json", **viewer)).status_code == 403


async def test_a_registered_node_shows_its_hardware(api: Api, database: Database, clock: FakeClock) -> None:
    """GPUs in the order of their numbers, values in units, whole numbers written as such."""
    node_id = (await api.new_node())["_id"]
    gpus = (GpuDevice("GPU-0", "NVIDIA A100", 80, 60, 25, 45), GpuDevice("GPU-1"))
    await register(database, node_id, *gpus, now=clock.now())
    await worker_did(
        database,
        node_id,
        cpu_usage=452,
        ram_usage=628,
        ram_free=96_500,
        last_metrics_at=clock.now() + timedelta(hours=1),
    )
    node = (await api("GET", f"/nodes/{node_id}")).json()
    assert node["gpuDevices"] == [
        {
            "deviceId": "GPU-0",
            "model": "NVIDIA A100",
            "memoryTotal": 80,
            "memoryFree": 60,
            "utilization": 25,
            "temperature": 45,
        },
        {"deviceId": "GPU-1"},
    ]
    expected = {"status": "online", "websocketConnected": True, "cpuCores": 32, "ramTotal": 256, "uptimeSeconds": 3600}
    measured = {"cpuUsage": 45.2, "ramUsage": 62.8, "ramFree": 96.5, "lastMetricsAt": "2026-11-23T13:00:00.000Z"}
    assert expected | measured == {name: node[name] for name in expected | measured}
    assert '"ramTotal":256,' in (await api("GET", f"/nodes/{node_id}")).text
    assert (await api("GET", "/nodes")).json()["data"] == [node]


async def test_a_removed_gpu_is_not_shown(api: Api, database: Database, clock: FakeClock) -> None:
    """Its place in the arrays stays, so that the others keep their values."""
    node_id = (await api.new_node())["_id"]
    first, second = GpuDevice("GPU-0", "A", 80, 10, 1, 20), GpuDevice("GPU-1", "B", 40, 20, 2, 30)
    await register(database, node_id, first, second, now=clock.now())
    await register(database, node_id, second, now=clock.now())
    shown = (await api("GET", f"/nodes/{node_id}")).json()["gpuDevices"]
    assert [(gpu["deviceId"], gpu["memoryFree"], gpu["temperature"]) for gpu in shown] == [("GPU-1", 20, 30)]
    await register(database, node_id, now=clock.now())
    assert (await api("GET", f"/nodes/{node_id}")).json()["gpuDevices"] == []


async def test_updated_at_moves_with_heartbeats(api: Api, database: Database, clock: FakeClock) -> None:
    """It is the later of the two tables' times."""
    node_id = (await api.new_node())["_id"]
    later = clock.now() + timedelta(seconds=30)
    await worker_did(database, node_id, updated_at=later, last_heartbeat=later, last_seen_at=later)
    node = (await api("GET", f"/nodes/{node_id}")).json()
    assert node["updatedAt"] == node["lastHeartbeat"] == node["lastSeenAt"] == "2026-11-23T12:00:30.000Z"
    assert node["createdAt"] == NOW


async def test_a_deleted_node_is_gone_and_its_socket_closed(api: Api) -> None:
    """4404; a second time there is nothing to delete."""
    node_id = (await api.new_node())["_id"]
    answer = await api("DELETE", f"/nodes/{node_id}")
    assert (answer.status_code, answer.json()) == (200, {"message": "Node deleted successfully"})
    assert api.sockets.revoked == [(node_id, 4404, None)]
    assert (await api("GET", f"/nodes/{node_id}")).status_code == 404
    assert (await api("PUT", f"/nodes/{node_id}", {})).status_code == 404
    assert (await api("DELETE", f"/nodes/{node_id}")).status_code == 404
    assert (await api("GET", "/nodes")).json() == {"data": [], "total": 0, "page": 1, "limit": 10}


@pytest.mark.parametrize(
    "node_id", ["x", "673E7A1F5C9D8E001234ABCD", "673e7a1f5c9d8e001234abc", "673e7a1f5c9d8e001234abcdd"]
)
async def test_an_id_of_another_shape_is_refused(api: Api, node_id: str) -> None:
    """400 rather than 404: it can't ever have been there."""
    for method, path in [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/token"), ("DELETE", "/token")]:
        answer = await api(method, f"/nodes/{node_id}{path}", {} if method in ("PUT", "POST") else None)
        assert answer.status_code == 400
        assert answer.json()["details"][0]["field"] == "_id"
