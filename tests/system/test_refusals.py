"""What the service refuses, and how it says so: to a program that knows only the user's document."""

import json

from websockets.sync.client import connect

from tests.system.client import ANSWER_SECONDS, HEARTBEAT, Portal, Worker, now
from tests.system.conftest import Service


def test_a_wrong_token_is_answered_and_closed(service: Service) -> None:
    """CONNECTION_ACK with the document's error, then 4401."""
    with Worker(service.ws_url, "no.token.atall") as worker:
        greeting = worker.receive("CONNECTION_ACK")
        assert greeting["status"] == "error"
        assert greeting["error"]["code"] == "INVALID_TOKEN"
        assert greeting["error"]["timestamp"].endswith("Z")
        assert worker.closed() == 4401


def test_a_frame_of_the_wrong_shape_is_answered_and_the_connection_stays(
    service: Service, portal: Portal, node_id: str
) -> None:
    """ERROR names the frame and the field; the next good frame is stored."""
    with Worker(service.ws_url, portal.node_token(node_id)) as worker:
        worker.register()
        message_id = worker.send("TELEMETRY_METRICS", {"cpu": {}})
        error = worker.receive("ERROR")
        assert error["messageId"] == message_id
        assert error["error"]["code"] == "INVALID_MESSAGE"
        assert "timestamp" in error["error"]["message"]
        worker.send("NO_SUCH_TYPE", {})
        assert worker.receive("ERROR")["error"]["code"] == "UNKNOWN_TYPE"
        assert worker.acknowledged("TELEMETRY_HEARTBEAT", HEARTBEAT)["status"] == "stored"


def test_telemetry_before_registration_is_refused(service: Service, portal: Portal, node_id: str) -> None:
    """ERROR with REGISTRATION_FAILED, and nothing is stored."""
    begin = now()
    with Worker(service.ws_url, portal.node_token(node_id)) as worker:
        worker.receive("CONNECTION_ACK")
        worker.send("TELEMETRY_HEARTBEAT", HEARTBEAT, ack=True)
        assert worker.receive("ERROR")["error"]["code"] == "REGISTRATION_FAILED"
        assert not any(portal.history(node_id, "heartbeats", begin).values())


def test_a_portal_token_is_no_node_token_nor_the_other_way_round(
    service: Service, portal: Portal, node_id: str
) -> None:
    """Neither door takes the other's key."""
    with Portal(service.url, portal.node_token(node_id)) as intruder:
        intruder.call("GET", "/nodes", 401)
    with connect(
        f"{service.ws_url}/ws/node", additional_headers=[("Authorization", f"Bearer {service.token()}")], proxy=None
    ) as socket:
        assert json.loads(socket.recv(timeout=ANSWER_SECONDS))["error"]["code"] == "INVALID_TOKEN"


def test_a_viewer_reads_and_does_not_write(service: Service, node_id: str) -> None:
    """403 for every change, 200 for every read."""
    with service.portal("viewer") as viewer:
        assert viewer.node(node_id)["_id"] == node_id
        viewer.call("POST", "/nodes", 403, {"name": "x", "role": ["worker"]})
        viewer.call("PUT", f"/nodes/{node_id}", 403, {"name": "x"})
        viewer.call("DELETE", f"/nodes/{node_id}", 403)
        viewer.call("POST", f"/nodes/{node_id}/token", 403, {})
