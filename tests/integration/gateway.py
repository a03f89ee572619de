"""The whole service inside a test: real sockets, a real database, the test's own clock."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from app.asgi import service
from app.domain.auth import Tokens
from app.model import CallerRole, Owner
from app.server import http_server
from app.settings import Settings
from app.storage.database import Database
from tests.fakes import FakeClock
from tests.worker import Worker

SECRET = "s" * 32
ORG = "68dd05b175d9e3c17bf97f60"


class Gateway:
    """A service that answers: what tests say to it by REST and by WebSocket."""

    def __init__(
        self,
        settings: Settings,
        clock: FakeClock,
        http: httpx.AsyncClient,
        database: Database,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.settings = settings
        self._tls = tls
        self.clock = clock
        self.http = http
        self.database = database

    def worker(self, token: str | None) -> Worker:
        """A worker that is about to connect."""
        return Worker(f"{self.settings.websocket_url}/ws/node", token, self._tls)

    async def create_node(self) -> str:
        """A new pending node's `_id`."""
        answer = await self.http.post("/nodes", json={"name": "n", "role": ["worker"]})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["_id"])

    async def make_token(self, node_id: str, **body: Any) -> str:
        """A new token of a node."""
        answer = await self.http.post(f"/nodes/{node_id}/token", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    async def node(self, node_id: str) -> dict[str, Any]:
        """The node as the API shows it."""
        answer = await self.http.get(f"/nodes/{node_id}")
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    async def status(self, node_id: str) -> tuple[str, bool]:
        """The node's status, and whether its socket is open."""
        node = await self.node(node_id)
        return node["status"], node["websocketConnected"]

    async def passes(self, seconds: float) -> None:
        """Let time pass in steps, and a sweep with each: who sweeps too seldom stood still, and has heard nobody."""
        await self.clock.all_asleep("liveness")
        while seconds > 0:
            self.clock.advance(min(seconds, 10))
            await self.clock.all_asleep("liveness")
            seconds -= 10

    async def becomes(self, node_id: str, status: str, *, connected: bool) -> None:
        """Wait until the node shows this."""
        await eventually(lambda: self.status(node_id), (status, connected))


async def eventually(look: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Look until what is wanted is there, for at most ten seconds."""
    seen: Any = None
    try:
        async with asyncio.timeout(10):
            while (seen := await look()) != wanted:
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{seen!r} has not become {wanted!r}") from None


@asynccontextmanager
async def running_gateway(
    database: Database, clock: FakeClock, *, tls: ssl.SSLContext | None = None, **changes: Any
) -> AsyncIterator[Gateway]:
    """A gateway on a free port, stopped in the end as a signal would.

    With `tls`, which its clients have in a certificate among the settings, it is spoken to by TLS.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        # `seat` may be another's: it is named for the port that the settings say, not for the one that is bound.
        port = listener.getsockname()[1]
        settings = Settings(
            port=changes.pop("seat_port", port),
            public_url=f"http{'s' if tls else ''}://127.0.0.1:{port}",
            jwt_secret=changes.pop("jwt_secret", (SECRET,)),
            database_url="postgresql://the.test/s",
            flush_interval_ms=changes.pop("flush_interval_ms", 20),
            **changes,
        )
        async with service(settings, database, clock, on_failure=lambda: None) as app:
            ready = asyncio.Event()
            server = http_server(app, settings, ready.set)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            admin = Tokens(settings.jwt_secret, clock).issue_portal(
                "admin", CallerRole.ADMIN, Owner(org_id=ORG), 365 * 86_400
            )
            headers = {"Authorization": f"Bearer {admin}"}
            try:
                await ready.wait()
                async with httpx.AsyncClient(
                    base_url=settings.url, headers=headers, trust_env=False, verify=tls or True
                ) as http:
                    yield Gateway(settings, clock, http, database, tls)
            finally:
                server.should_exit = True
                await serving
