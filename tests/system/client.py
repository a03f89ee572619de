"""A portal and a worker that know the user's document and nothing else: no import of `app` here."""

import json
import time
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

ANSWER_SECONDS: Final = 15.0
Message = dict[str, Any]


def iso(moment: datetime) -> str:
    """A moment as the document writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> datetime:
    """The present, in whole milliseconds."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


REGISTER: Final[Message] = {
    "hostname": "gpu-server-01",
    "ipAddress": "192.168.1.100",
    "publicIpAddress": "203.0.113.10",
    "os": "Ubuntu 22.04 LTS",
    "cpuCores": 32,
    "cpuModel": "AMD EPYC 7742",
    "ramTotal": 256,
    "diskTotal": 2048,
    "gpuDevices": [
        {
            "deviceId": "GPU-0",
            "model": "NVIDIA A100",
            "memoryTotal": 80,
            "memoryFree": 80,
            "utilization": 0,
            "temperature": 35,
        }
    ],
    "daemonVersion": "1.0.0",
    "uptimeSeconds": 3600,
    "containerRuntime": "docker",
}
HEARTBEAT: Final[Message] = {
    "status": "online",
    "uptimeSeconds": 3630,
    "cpuUsage": 45.2,
    "ramUsage": 62.8,
    "activeDeployments": 2,
    "gpuStatus": [{"deviceId": "GPU-0", "utilization": 85, "temperature": 72}],
}
METRICS: Final[Message] = {
    "cpu": {"usage": 45.2, "cores": 32, "temperature": 55},
    "memory": {"total": 256, "used": 160, "free": 96, "usage": 62.5},
    "disk": {"total": 2048, "used": 1024, "free": 1024, "usage": 50.0},
    "network": {"bytesIn": 1000000, "bytesOut": 500000},
    "gpus": [
        {
            "deviceId": "GPU-0",
            "model": "NVIDIA A100",
            "memoryTotal": 80,
            "memoryUsed": 20,
            "memoryFree": 60,
            "utilization": 85,
            "temperature": 72,
            "powerUsage": 250,
        }
    ],
}


class Portal:
    """The REST API, with one portal token. Owned by whoever enters it."""

    def __init__(self, url: str, token: str) -> None:
        self.http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=ANSWER_SECONDS, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def call(self, method: str, path: str, status: int, body: Message | None = None, **query: Any) -> Any:
        """One request whose answer must have that status; its body."""
        answer = self.http.request(method, path, json=body, params=query)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def create(self, name: str = "GPU-Worker-01") -> Message:
        """A new node."""
        body = {"name": name, "role": ["worker"], "isLocal": False, "vpnIp": "10.0.1.5"}
        node: Message = self.call("POST", "/nodes", 201, body)
        return node

    def node_token(self, node_id: str) -> str:
        """A token for a node's worker."""
        return str(self.call("POST", f"/nodes/{node_id}/token", 200, {"expiresIn": 31536000})["token"])

    def node(self, node_id: str) -> Message:
        """GET /nodes/:id."""
        node: Message = self.call("GET", f"/nodes/{node_id}", 200)
        return node

    def wait_for(self, node_id: str, seconds: float = 10.0, **wanted: Any) -> Message:
        """The node, as soon as its fields are as wanted; fails when they still are not after that time."""
        until = time.monotonic() + seconds
        while True:
            node = self.node(node_id)
            if wanted.items() <= node.items():
                return node
            assert time.monotonic() < until, f"not {wanted} after {seconds} s: {node}"
            time.sleep(0.05)

    def history(self, node_id: str, what: str, begin: datetime, **query: Any) -> dict[tuple[str, str], list[Any]]:
        """Raw series from `begin` until a while after now: (deviceId or "", field) to points."""
        answer = self.call(
            "GET",
            f"/nodes/{node_id}/{what}",
            200,
            **({"from": iso(begin), "to": iso(now() + timedelta(minutes=1)), "interval": "raw"} | query),
        )
        return {(series.get("deviceId", ""), series["field"]): series["points"] for series in answer["series"]}


class Worker:
    """One connection of a worker. Owned by whoever enters it."""

    def __init__(self, ws_url: str, token: str, *, in_header: bool = True) -> None:
        headers = {"Authorization": f"Bearer {token}"} if in_header else None
        self._connection = connect(
            f"{ws_url}/ws/node", additional_headers=headers, open_timeout=ANSWER_SECONDS, proxy=None
        )
        self._first_frame = None if in_header else json.dumps({"auth": {"token": token}})
        self.socket: ClientConnection

    def __enter__(self) -> Self:
        self.socket = self._connection.__enter__()
        if self._first_frame is not None:
            self.socket.send(self._first_frame)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.__exit__(kind, error, trace)

    def receive(self, kind: str) -> Message:
        """The next frame, which must be of that type."""
        frame: Message = json.loads(self.socket.recv(timeout=ANSWER_SECONDS))
        assert frame["type"] == kind, frame
        return frame

    def send(self, kind: str, data: Message, at: datetime | None = None, **more: Any) -> str:
        """One frame of the document; its messageId."""
        message_id = str(uuid4())
        frame = {"type": kind, "messageId": message_id, "timestamp": iso(at or now()), "data": data} | more
        self.socket.send(json.dumps(frame))
        return message_id

    def register(self) -> Message:
        """CONNECTION_ACK, NODE_REGISTER, REGISTER_ACK: the last one."""
        greeting = self.receive("CONNECTION_ACK")
        assert greeting["status"] == "success", greeting
        self.send("NODE_REGISTER", REGISTER)
        return self.receive("REGISTER_ACK")

    def acknowledged(self, kind: str, data: Message, at: datetime | None = None) -> Message:
        """Send one frame and wait for its acknowledgement: `data` of that."""
        message_id = self.send(kind, data, at, ack=True)
        answer: Message = self.receive("TELEMETRY_ACK")["data"]
        assert answer["ackFor"] == message_id, answer
        return answer

    def closed(self, seconds: float = 5.0) -> int:
        """Wait for the other end to close the socket: its code. Frames that come before are passed over."""
        until = time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0:
                self.socket.recv(timeout=left)
        except TimeoutError:
            pass
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
        raise AssertionError(f"the socket is still open after {seconds} s")
