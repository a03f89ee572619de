"""The whole story of a node, told over real sockets by a program that knows only the user's document."""

import re
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.system.client import HEARTBEAT, METRICS, REGISTER, Message, Portal, Worker, iso, now
from tests.system.conftest import ORG, Service

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

NODE_METRICS = {
    "cpuUsage": ("cpu", "usage"),
    "cpuCores": ("cpu", "cores"),
    "cpuTemperature": ("cpu", "temperature"),
    "memoryTotal": ("memory", "total"),
    "memoryUsed": ("memory", "used"),
    "memoryFree": ("memory", "free"),
    "memoryUsage": ("memory", "usage"),
    "diskTotal": ("disk", "total"),
    "diskUsed": ("disk", "used"),
    "diskFree": ("disk", "free"),
    "diskUsage": ("disk", "usage"),
    "networkBytesIn": ("network", "bytesIn"),
    "networkBytesOut": ("network", "bytesOut"),
}
GPU_METRICS = ("utilization", "memoryTotal", "memoryUsed", "memoryFree", "temperature", "powerUsage")
HEARTBEATS = ("status", "cpuUsage", "ramUsage", "activeDeployments", "uptimeSeconds")


def metrics(moment: datetime) -> Message:
    """The document's metrics, of that moment."""
    return {"timestamp": iso(moment), **METRICS}


def test_a_created_node_is_pending(portal: Portal) -> None:
    """POST /nodes answers as the document shows, field by field."""
    node = portal.create()
    assert re.fullmatch("[0-9a-f]{24}", node["_id"])
    wanted = {
        "name": "GPU-Worker-01",
        "role": ["worker"],
        "status": "pending",
        "isLocal": False,
        "vpnIp": "10.0.1.5",
        "websocketConnected": False,
        "owner": {"orgId": ORG},
        "createdBy": "68dcf365f6a92c0d4911b619",
    }
    assert wanted.items() <= node.items()
    assert node["lastHeartbeat"] == node["createdAt"] == node["updatedAt"]
    assert TIME.fullmatch(node["createdAt"])
    assert not {"cpuCores", "gpuDevices", "hostname"} & set(node)


def test_a_token_comes_with_its_script(service: Service, portal: Portal, node_id: str) -> None:
    """POST /nodes/:id/token answers with the token, its end a year from now, and the script that carries both."""
    answer = portal.call("POST", f"/nodes/{node_id}/token", 200, {"expiresIn": 31536000})
    assert {"token", "expiresAt", "installScript"} <= set(answer)
    ends = datetime.fromisoformat(answer["expiresAt"]) - now()
    assert abs(ends - timedelta(seconds=31536000)) < timedelta(minutes=1)
    script = answer["installScript"]
    assert script.startswith("#!/bin/bash\n")
    assert f'export HYDRA_NODE_TOKEN="{answer["token"]}"' in script
    assert f'export HYDRA_CONTROLLER_ENDPOINT="{service.ws_url}"' in script
    assert f'export HYDRA_NODE_ID="{node_id}"' in script
    assert TIME.fullmatch(portal.node(node_id)["tokenMetadata"]["tokenGeneratedAt"])


@pytest.mark.parametrize("in_header", [True, False], ids=["header", "first frame"])
def test_both_ways_to_authenticate_lead_to_registration(
    service: Service, portal: Portal, node_id: str, *, in_header: bool
) -> None:
    """CONNECTION_ACK, `installing`, REGISTER_ACK with the document's intervals, `online` with its hardware."""
    with Worker(service.ws_url, portal.node_token(node_id), in_header=in_header) as worker:
        greeting = worker.receive("CONNECTION_ACK")
        assert {"status": "success", "nodeId": node_id, "controllerId": "controller-main"}.items() <= greeting.items()
        assert UUID.fullmatch(greeting["messageId"])
        assert TIME.fullmatch(greeting["timestamp"])
        assert greeting["serverVersion"]
        portal.wait_for(node_id, status="installing", websocketConnected=True)
        worker.send("NODE_REGISTER", REGISTER)
        data = worker.receive("REGISTER_ACK")["data"]
        assert {"status": "success", "nodeId": node_id, "pendingCommands": []}.items() <= data.items()
        intervals = {"heartbeatInterval": 30000, "metricsInterval": 60000, "timezone": "UTC"}
        assert intervals.items() <= data["controllerInfo"].items()
        node = portal.node(node_id)
        hardware = {name: value for name, value in REGISTER.items() if name != "uptimeSeconds"}
        assert {
            "status": "online",
            "websocketConnected": True,
            "uptimeSeconds": 3600,
            **hardware,
        }.items() <= node.items()
    portal.wait_for(node_id, status="offline", websocketConnected=False)


def test_heartbeats_are_read_back_in_every_field(service: Service, portal: Portal, node_id: str) -> None:
    """Node and history show what the heartbeat said, at the time it said it."""
    moment = now()
    with Worker(service.ws_url, portal.node_token(node_id)) as worker:
        worker.register()
        assert worker.acknowledged("TELEMETRY_HEARTBEAT", HEARTBEAT, moment)["status"] == "stored"
        node = portal.node(node_id)
        assert {"status": "online", "cpuUsage": 45.2, "ramUsage": 62.8, "uptimeSeconds": 3630}.items() <= node.items()
        (gpu,) = node["gpuDevices"]
        assert {"deviceId": "GPU-0", "utilization": 85, "temperature": 72}.items() <= gpu.items()
        assert abs(datetime.fromisoformat(node["lastHeartbeat"]) - moment) < timedelta(seconds=5)
        series = portal.history(node_id, "heartbeats", moment)
        for field in HEARTBEATS:
            assert series["", field] == [[iso(moment), HEARTBEAT[field]]], field
        for field in ("utilization", "temperature"):
            assert series["GPU-0", field] == [[iso(moment), HEARTBEAT["gpuStatus"][0][field]]], field


def test_metrics_are_read_back_in_every_field(service: Service, portal: Portal, node_id: str) -> None:
    """History shows every value of cpu, memory, disk, network and each GPU, at `data.timestamp`."""
    moment = now() - timedelta(seconds=30)
    with Worker(service.ws_url, portal.node_token(node_id)) as worker:
        worker.register()
        assert worker.acknowledged("TELEMETRY_METRICS", metrics(moment))["status"] == "stored"
        assert worker.acknowledged("TELEMETRY_METRICS", metrics(moment))["status"] == "duplicate"
    series = portal.history(node_id, "metrics", moment)
    for field, (part, name) in NODE_METRICS.items():
        assert series["", field] == [[iso(moment), METRICS[part][name]]], field
    series = portal.history(node_id, "gpus/metrics", moment)
    for field in GPU_METRICS:
        assert series["GPU-0", field] == [[iso(moment), METRICS["gpus"][0][field]]], field
    node = portal.node(node_id)
    assert node["gpuDevices"][0]["memoryFree"] == 60
    assert "lastMetricsAt" in node


def test_frames_that_ask_for_nothing_are_stored_all_the_same(service: Service, portal: Portal, node_id: str) -> None:
    """Without `ack` nothing is answered; a later acknowledged frame finds the earlier ones stored too."""
    moment = now()
    moments = [moment - timedelta(seconds=60 * number) for number in range(5, 0, -1)]
    with Worker(service.ws_url, portal.node_token(node_id)) as worker:
        worker.register()
        for earlier in moments:
            worker.send("TELEMETRY_METRICS", metrics(earlier))
        worker.send("TELEMETRY_HEARTBEAT", HEARTBEAT, moment)
        worker.acknowledged("TELEMETRY_METRICS", metrics(moment))
        worker.acknowledged("TELEMETRY_HEARTBEAT", HEARTBEAT, moment + timedelta(milliseconds=1))
        begin = moments[0]
        points = portal.history(node_id, "metrics", begin, fields="cpuUsage")["", "cpuUsage"]
        assert points == [[iso(earlier), 45.2] for earlier in [*moments, moment]]
        assert len(portal.history(node_id, "heartbeats", begin, fields="status")["", "status"]) == 2


def test_history_answers_in_the_agreed_shape(service: Service, portal: Portal, node_id: str) -> None:
    """from, to, interval, source, and series of field, agg and points."""
    with Worker(service.ws_url, portal.node_token(node_id)) as worker:
        worker.register()
        worker.acknowledged("TELEMETRY_METRICS", metrics(now()))
    answer: dict[str, Any] = portal.call("GET", f"/nodes/{node_id}/metrics", 200, fields="cpuUsage", agg="avg,max")
    assert {"from", "to", "interval", "source", "series"} <= set(answer)
    assert {(series["field"], series["agg"]) for series in answer["series"]} == {
        ("cpuUsage", "avg"),
        ("cpuUsage", "max"),
    }
    for series in answer["series"]:
        ((moment, value),) = [point for point in series["points"] if point[1] is not None]
        assert TIME.fullmatch(moment)
        assert value == 45.2


def test_nodes_are_listed_page_by_page(portal: Portal) -> None:
    """GET /nodes: data, total, page, limit; the newest first."""
    ids = [portal.create(f"listed-{number}")["_id"] for number in range(3)]
    first = portal.call("GET", "/nodes", 200, limit=2)
    assert {"page": 1, "limit": 2}.items() <= first.items()
    assert first["total"] >= 3
    second = portal.call("GET", "/nodes", 200, page=2, limit=2)
    shown = [node["_id"] for node in first["data"] + second["data"]]
    assert shown[:3] == ids[::-1]


def test_maintenance_is_an_override(service: Service, portal: Portal, node_id: str) -> None:
    """PUT maintenance holds against heartbeats, whose samples are stored; PUT online ends it."""
    moment = now()
    with Worker(service.ws_url, portal.node_token(node_id)) as worker:
        worker.register()
        changed = portal.call(
            "PUT", f"/nodes/{node_id}", 200, {"name": "GPU-Worker-01-Updated", "status": "maintenance"}
        )
        assert {"name": "GPU-Worker-01-Updated", "status": "maintenance", "_id": node_id}.items() <= changed.items()
        assert worker.acknowledged("TELEMETRY_HEARTBEAT", HEARTBEAT, moment)["status"] == "stored"
        assert portal.node(node_id)["status"] == "maintenance"
        assert portal.call("PUT", f"/nodes/{node_id}", 200, {"status": "online"})["status"] == "online"
        assert portal.history(node_id, "heartbeats", moment)["", "status"] == [[iso(moment), "online"]]


def test_a_heartbeat_brings_a_node_back_online(service: Service, portal: Portal, node_id: str) -> None:
    """A node that registered before reconnects, stays offline until its first heartbeat, and needs no registration."""
    token = portal.node_token(node_id)
    with Worker(service.ws_url, token) as worker:
        worker.register()
    portal.wait_for(node_id, status="offline", websocketConnected=False)
    with Worker(service.ws_url, token) as worker:
        worker.receive("CONNECTION_ACK")
        assert portal.wait_for(node_id, websocketConnected=True)["status"] == "offline"
        worker.acknowledged("TELEMETRY_HEARTBEAT", HEARTBEAT)
        assert portal.node(node_id)["status"] == "online"


def test_a_newer_connection_takes_over(service: Service, portal: Portal, node_id: str) -> None:
    """The older socket closes with 4409, and its end does not take the node offline."""
    token = portal.node_token(node_id)
    with ExitStack() as sockets:
        older = sockets.enter_context(Worker(service.ws_url, token))
        older.register()
        newer = sockets.enter_context(Worker(service.ws_url, token))
        newer.receive("CONNECTION_ACK")
        assert older.closed() == 4409
        newer.acknowledged("TELEMETRY_HEARTBEAT", HEARTBEAT)
        assert {"status": "online", "websocketConnected": True}.items() <= portal.node(node_id).items()


def test_deleting_a_node_closes_its_socket_and_its_door(service: Service, portal: Portal, node_id: str) -> None:
    """The open socket closes with 4404 within a second, GET answers 404, its token is NODE_NOT_FOUND."""
    token = portal.node_token(node_id)
    with Worker(service.ws_url, token) as worker:
        worker.register()
        assert portal.call("DELETE", f"/nodes/{node_id}", 200) == {"message": "Node deleted successfully"}
        assert worker.closed(seconds=1.5) == 4404
    missing = portal.call("GET", f"/nodes/{node_id}", 404)
    assert {"statusCode": 404, "error": "Not Found", "message": "Node not found"}.items() <= missing.items()
    with Worker(service.ws_url, token) as worker:
        assert worker.receive("CONNECTION_ACK")["error"]["code"] == "NODE_NOT_FOUND"
        assert worker.closed() == 4404
