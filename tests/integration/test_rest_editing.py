"""PUT /nodes/:id: partial changes, copies sent back, statuses set by hand."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import fields
from sqlalchemy import text

from app.model import GpuDevice
from app.rest.node_editing import UpdateNode
from app.rest.schemas import NodeAnswer
from app.storage.database import Database
from tests.fakes import FakeClock
from tests.rest_app import USER, Api, register, rest_api, worker_did


@pytest.fixture
async def api(database: Database, clock: FakeClock) -> AsyncIterator[Api]:
    async with rest_api(database, clock) as api:
        yield api


@pytest.fixture
async def node_id(api: Api, database: Database, clock: FakeClock) -> str:
    """A registered node, online, with metadata."""
    node = await api.new_node(vpnIp="10.0.1.5", metadata={"rack": "a1", "shelf": 2})
    await register(database, node["_id"], GpuDevice("GPU-0", "NVIDIA A100", 80, 80, 0, 35), now=clock.now())
    return str(node["_id"])


async def state_of(database: Database, node_id: str) -> Any:
    statement = text("SELECT s.* FROM node_state s JOIN nodes n USING (node_key) WHERE n.id = :id")
    async with database.transaction() as connection:
        return (await connection.execute(statement, {"id": node_id})).one()


async def test_what_is_left_out_stays(api: Api, node_id: str, clock: FakeClock) -> None:
    """The answer is the whole node; who changed it, and when, is told."""
    before = (await api("GET", f"/nodes/{node_id}")).json()
    clock.advance(60)
    answer = await api("PUT", f"/nodes/{node_id}", {"name": "GPU-Worker-01-Updated"})
    assert answer.status_code == 200
    changed = {"name": "GPU-Worker-01-Updated", "updatedBy": USER, "updatedAt": "2026-11-23T12:01:00.000Z"}
    assert answer.json() == before | changed
    assert (await api("GET", f"/nodes/{node_id}")).json() == before | changed


async def test_each_writable_field(api: Api, node_id: str) -> None:
    """All of them at once."""
    body = {
        "name": "n",
        "role": ["proxy", "storage"],
        "isLocal": True,
        "vpnIp": "fd00::1",
        "metadata": {"rack": "b2"},
        "statusReason": "checked",
    }
    node = (await api("PUT", f"/nodes/{node_id}", body)).json()
    assert {name: node[name] for name in body} == body


async def test_null_clears(api: Api, node_id: str) -> None:
    """What may be without a value."""
    await api("PUT", f"/nodes/{node_id}", {"statusReason": "why"})
    node = (await api("PUT", f"/nodes/{node_id}", {"vpnIp": None, "metadata": None, "statusReason": None})).json()
    assert not {"vpnIp", "metadata", "statusReason"} & set(node)


async def test_nothing_changed_is_nothing_written(api: Api, node_id: str, clock: FakeClock) -> None:
    """An empty body, the present values, metadata written otherwise, the whole node sent back."""
    before = (await api("GET", f"/nodes/{node_id}")).json()
    clock.advance(60)
    spaced = b'{"metadata": { "shelf" : 2, "rack":"a1" }}'
    for body in ({}, {"name": before["name"], "status": "online"}, spaced, before):
        assert (await api("PUT", f"/nodes/{node_id}", body)).json() == before


def test_every_field_that_is_shown_may_be_sent_back() -> None:
    """A portal sends the whole of what it got."""
    shown, taken = ({each.encode_name for each in fields(struct)} for struct in (NodeAnswer, UpdateNode))
    assert shown <= taken


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": None}, "name"),
        ({"role": None}, "role"),
        ({"isLocal": None}, "isLocal"),
        ({"status": None}, "status"),
        ({"status": "broken"}, "status"),
        ({"statusReason": "x" * 257}, "statusReason"),
        ({"statusReason": "nul\0"}, "statusReason"),
        ({"metadata": "x"}, "metadata"),
        ({"vpnIp": "x"}, "vpnIp"),
        ({"orgId": "x"}, "orgId"),
        ({"nodeId": "x"}, "nodeId"),
        ({"_id": "0" * 24}, "_id"),
        ({"owner": {"orgId": "other"}}, "owner"),
        ({"createdBy": "somebody"}, "createdBy"),
        ({"createdAt": "2025-11-21T10:00:00.000Z"}, "createdAt"),
        ({"deletedAt": "2025-11-21T10:00:00.000Z"}, "deletedAt"),
        ({"hostname": "x"}, "hostname"),
        ({"cpuCores": 33}, "cpuCores"),
        ({"websocketConnected": 1}, "websocketConnected"),
        ({"lastHeartbeat": "2025-11-21T10:00:00.000Z"}, "lastHeartbeat"),
        ({"updatedAt": "2999-11-21T10:00:00.000Z"}, "updatedAt"),
        ({"gpuDevices": []}, "gpuDevices"),
    ],
)
async def test_what_can_not_be_written_is_named(api: Api, node_id: str, change: dict[str, Any], field: str) -> None:
    """400, and nothing of the body is written."""
    answer = await api("PUT", f"/nodes/{node_id}", {"name": "changed"} | change)
    assert answer.status_code == 400, answer.text
    assert [detail["field"] for detail in answer.json()["details"]] == [field]
    assert (await api("GET", f"/nodes/{node_id}")).json()["name"] == "GPU-Worker-01"


async def test_a_copy_may_have_aged(api: Api, node_id: str, database: Database, clock: FakeClock) -> None:
    """What heartbeats moved since is taken as it stands in the copy, and not written."""
    copy = (await api("GET", f"/nodes/{node_id}")).json()
    clock.advance(30)
    now = clock.now()
    beaten = {"last_heartbeat": now, "last_seen_at": now, "updated_at": now, "gateway_id": None, "cpu_usage": 452}
    await worker_did(
        database,
        node_id,
        **beaten,
        status="offline",
        status_reason="heartbeat timeout",
        gpu_utilization=[990],
        uptime_seconds=3630,
    )
    assert (await api("PUT", f"/nodes/{node_id}", copy | {"name": "renamed"})).status_code == 200
    node = (await api("GET", f"/nodes/{node_id}")).json()
    assert (node["name"], node["cpuUsage"], node["status"]) == ("renamed", 45.2, "offline")
    assert node["statusReason"] == "heartbeat timeout"
    assert node["gpuDevices"][0]["utilization"] == 99
    answer = await api("PUT", f"/nodes/{node_id}", copy | {"cpuCores": 1})
    assert [detail["field"] for detail in answer.json()["details"]] == ["cpuCores"]


async def test_without_an_age_a_difference_is_a_difference(api: Api, node_id: str) -> None:
    """A copy that claims to be of now must agree with now."""
    copy = (await api("GET", f"/nodes/{node_id}")).json()
    for body in ({"cpuUsage": 1}, copy | {"uptimeSeconds": 1}, {"updatedAt": "long ago", "uptimeSeconds": 1}):
        assert (await api("PUT", f"/nodes/{node_id}", body)).status_code == 400


async def test_maintenance_and_back(api: Api, node_id: str, database: Database, clock: FakeClock) -> None:
    """Entering and leaving are recorded with their reason; leaving counts as heard from now."""
    clock.advance(10)
    node = (await api("PUT", f"/nodes/{node_id}", {"status": "maintenance", "statusReason": "new fan"})).json()
    assert (node["status"], node["statusReason"]) == ("maintenance", "new fan")
    state = await state_of(database, node_id)
    assert state.status_changed_at == clock.now()
    assert state.alive_at == clock.now() - timedelta(seconds=10)
    clock.advance(600)
    node = (await api("PUT", f"/nodes/{node_id}", {"status": "online"})).json()
    assert (node["status"], node.get("statusReason")) == ("online", None)
    state = await state_of(database, node_id)
    assert state.status_changed_at == state.alive_at == clock.now()


async def test_the_reason_alone_moves_no_status(api: Api, node_id: str, database: Database, clock: FakeClock) -> None:
    """Nor its time."""
    changed_at: datetime = (await state_of(database, node_id)).status_changed_at
    clock.advance(10)
    node = (await api("PUT", f"/nodes/{node_id}", {"status": "online", "statusReason": "fine"})).json()
    assert (node["status"], node["statusReason"]) == ("online", "fine")
    assert (await state_of(database, node_id)).status_changed_at == changed_at


@pytest.mark.parametrize("wanted", ["pending", "installing", "offline"])
async def test_other_transitions_name_both_statuses(api: Api, node_id: str, wanted: str) -> None:
    """They are liveness's to make."""
    answer = await api("PUT", f"/nodes/{node_id}", {"status": wanted, "name": "x"})
    assert answer.status_code == 400
    assert wanted in answer.json()["message"]
    assert "online" in answer.json()["message"]
    assert (await api("GET", f"/nodes/{node_id}")).json()["name"] == "GPU-Worker-01"


async def test_a_pending_node_enters_nothing_by_hand(api: Api) -> None:
    """Nobody has installed it yet."""
    node_id = (await api.new_node())["_id"]
    for wanted in ("maintenance", "online"):
        answer = await api("PUT", f"/nodes/{node_id}", {"status": wanted})
        assert answer.status_code == 400
        assert "pending" in answer.json()["message"]
