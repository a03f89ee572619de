"""A controller for clients to talk to: the document's REST and WebSocket on one port, misbehaving on request.

A bare ASGI program under uvicorn, so that client tests need neither the service nor its database.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import uvicorn

from app.clock import SystemClock, timestamp

START_SECONDS: Final = 10.0
Message = dict[str, Any]


@dataclass
class Received:
    """A frame from a worker: as text and decoded, and the number of the connection it came by."""

    node_id: str
    connection: int
    text: str
    message: Message


def acknowledge(received: Received, status: str = "stored", code: str | None = None) -> Message:
    """A TELEMETRY_ACK for a frame."""
    data: Message = {"ackFor": received.message["messageId"], "status": status}
    if code is not None:
        data["error"] = {"code": code, "message": "because the test says so"}
    return reply("TELEMETRY_ACK", data=data)


def reply(kind: str, **fields: Any) -> Message:
    """A frame from the controller."""
    return {"type": kind, "messageId": "reply", "timestamp": timestamp(SystemClock().now()), **fields}


class Close(Exception):
    """Raised by `answer`: close the socket with this code instead of answering."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class FakeController:
    """What it is told to do, and what it was told by its clients."""

    answer: Callable[[Received], Message | None] = acknowledge
    busy: int = 0
    """How many REST requests to answer with 429 first."""
    refusal: str | None = None
    """An error code for CONNECTION_ACK."""
    heartbeat_interval: int = 200
    metrics_interval: int = 400
    max_sample_age_ms: int | None = 30 * 86_400_000
    """None: a controller of the document alone."""
    extensions: list[str] = field(default_factory=list)
    portal_token: str = "portal"
    created: list[Message] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    """The code of each connection's end, as the client gave it or saw it."""
    connections: int = 0
    url: str = ""

    def of(self, kind: str, node_id: str | None = None) -> list[Received]:
        """The frames of one type, of one node or of all."""
        return [it for it in self.received if it.message["type"] == kind and node_id in {None, it.node_id}]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request or one connection, by ASGI."""
        if scope["type"] == "http":
            await self._answer_http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._converse(scope, receive, send)

    async def _answer_http(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (event := await receive())["type"] == "http.request":
            body += event["body"]
            if not event["more_body"]:
                break
        status, answer = self._respond(dict(scope["headers"]), scope["path"], json.loads(body or b"{}"))
        headers = [(b"content-type", b"application/json"), (b"retry-after", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _respond(self, headers: dict[bytes, bytes], path: str, body: Message) -> tuple[int, Message]:
        if headers.get(b"authorization") != f"Bearer {self.portal_token}".encode():
            return 401, {"statusCode": 401, "error": "Unauthorized", "message": "Missing or invalid JWT token"}
        if self.busy:
            self.busy -= 1
            return 429, {"statusCode": 429, "error": "Too Many Requests", "message": "Slowly"}
        if path == "/nodes":
            self.created.append(body)
            return 201, {"_id": f"{len(self.created):024x}", **body}
        return 200, {"token": f"token-of-{path.split('/')[2]}", "expiresAt": "2030-01-01T00:00:00.000Z"}

    async def _converse(self, scope: Any, receive: Any, send: Any) -> None:
        node_id = dict(scope["headers"])[b"authorization"].decode().removeprefix("Bearer token-of-")
        self.connections += 1
        connection = self.connections
        await receive()
        await send({"type": "websocket.accept"})

        async def say(message: Message) -> None:
            await send({"type": "websocket.send", "text": json.dumps(message)})

        if self.refusal is not None:
            await say(reply("CONNECTION_ACK", status="error", error={"code": self.refusal, "message": "No"}))
            await send({"type": "websocket.close", "code": 4403})
            return
        await say(reply("CONNECTION_ACK", status="success", nodeId=node_id))
        while (event := await receive())["type"] == "websocket.receive":
            received = Received(node_id, connection, event["text"], json.loads(event["text"]))
            self.received.append(received)
            try:
                answer = self._registered() if received.message["type"] == "NODE_REGISTER" else self.answer(received)
            except Close as close:
                await send({"type": "websocket.close", "code": close.code})
                return
            if answer is not None:
                await say(answer)
        self.closed.append(event["code"])

    def _registered(self) -> Message:
        info: Message = {
            "controllerId": "controller-main",
            "heartbeatInterval": self.heartbeat_interval,
            "metricsInterval": self.metrics_interval,
            "timezone": "UTC",
        }
        if self.max_sample_age_ms is not None:
            info |= {"maxSampleAgeMs": self.max_sample_age_ms, "extensions": self.extensions}
        return reply("REGISTER_ACK", data={"status": "success", "controllerInfo": info, "pendingCommands": []})


@asynccontextmanager
async def running(controller: FakeController) -> AsyncIterator[FakeController]:
    """Serve it on a free port, in this event loop, for as long as the block lasts."""
    config = uvicorn.Config(controller, port=0, lifespan="off", ws="websockets-sansio", log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(START_SECONDS):
            while not server.started:
                await asyncio.sleep(0.01)
        controller.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield controller
    finally:
        server.should_exit = True
        await serving
