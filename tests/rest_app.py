"""The REST API over a real database, as the composition root puts it together, without sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import msgspec
from httpx import ASGITransport, AsyncClient, Response
from litestar import Litestar
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.asgi import application
from app.clock import Clock
from app.domain.auth import Tokens
from app.domain.peers import Peers
from app.domain.provider import Callers
from app.errors import AiwmError
from app.install.daemon_file import DaemonFile
from app.meters import Meters
from app.model import CallerRole, GpuDevice, Hardware, Owner
from app.rest.headers import with_security_headers
from app.settings import Settings
from app.storage import connections
from app.storage.connections import Admission
from app.storage.database import Database
from app.trust import OWN_ALONE
from app.ws.endpoint import Gateway

SECRET = "a secret of at least 32 bytes, for tests"
ORG, OTHER_ORG = "68dd05b175d9e3c17bf97f60", "68dd05b175d9e3c17bf97f61"
USER = "68dcf365f6a92c0d4911b619"


class FakeConnections:
    """Remembers which sockets were to be closed."""

    def __init__(self) -> None:
        self.revoked: list[tuple[str, int, int | None]] = []

    async def tell_others(self, connection: AsyncConnection, node_key: int) -> None:
        """There are no others."""

    async def revoke(self, node_id: str, error: AiwmError, *, below_generation: int | None = None) -> None:
        """Remember the node, the close code and the generation."""
        self.revoked.append((node_id, error.close_code, below_generation))


class Api:
    """A client that speaks as a caller of some role."""

    def __init__(self, app: Litestar, client: AsyncClient, tokens: Tokens, sockets: FakeConnections) -> None:
        self.app = app
        self.client = client
        self.tokens = tokens
        self.sockets = sockets

    def token(self, role: CallerRole = CallerRole.OPERATOR, org: str | None = ORG) -> str:
        """A portal token."""
        return self.tokens.issue_portal(USER, role, Owner(org_id=org), 3600)

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        role: CallerRole = CallerRole.OPERATOR,
        org: str | None = ORG,
        **request: Any,
    ) -> Response:
        """Send a request with a token and, where there is one, a JSON body."""
        headers = {"Authorization": f"Bearer {self.token(role, org)}", **request.pop("headers", {})}
        if body is not None:
            request["content"] = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return await self.client.request(method, path, headers=headers, **request)

    async def new_node(self, name: str = "GPU-Worker-01", **fields: Any) -> dict[str, Any]:
        """Create a node in ORG and return it."""
        answer = await self("POST", "/nodes", {"name": name, "role": ["worker"]} | fields)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


@asynccontextmanager
async def rest_api(
    database: Database, clock: Clock, daemon: DaemonFile | None = None, *, address: str = "127.0.0.1", **settings: Any
) -> AsyncIterator[Api]:
    """The API as it is composed, served in memory to a client at an address; sockets are only remembered."""
    tokens, sockets = Tokens((SECRET,), clock), FakeConnections()
    gateway = cast(Gateway, SimpleNamespace(registry=sockets))
    told = Settings(**settings)
    callers = Callers(tokens, OWN_ALONE, None, clock)
    app = application(told, database, clock, tokens, callers, gateway, Peers(Meters(), None, 0), daemon)
    served = with_security_headers(app, told.url)
    transport = ASGITransport(app=cast(Any, served), raise_app_exceptions=False, client=(address, 4711))
    async with AsyncClient(transport=transport, base_url="http://localhost:3305") as client:
        yield Api(app, client, tokens, sockets)


async def worker_did(database: Database, node_id: str, **state: Any) -> None:
    """Set columns of `node_state`, as what a worker sends would."""
    assignments = ", ".join(f"{name} = :{name}" for name in state)
    statement = text(
        f"UPDATE node_state SET {assignments} WHERE node_key = (SELECT node_key FROM nodes WHERE id = :node_id)"
    )
    async with database.transaction() as connection:
        await connection.execute(statement, {"node_id": node_id, **state})


async def register(database: Database, node_id: str, *gpus: GpuDevice, now: datetime) -> None:
    """Connect and register a node, as its worker would."""
    hardware = Hardware(
        hostname="gpu-server-01", os="Ubuntu 22.04 LTS", cpu_cores=32, ram_total=256, gpus=gpus, uptime_seconds=3600
    )
    async with database.transaction() as connection:
        (claim,) = await connections.claim(connection, [Admission(node_id, 0)], 1, now)
        assert claim is not None
        assert claim.epoch is not None
        await connections.register(connection, claim.node_key, claim.epoch, hardware, now)
