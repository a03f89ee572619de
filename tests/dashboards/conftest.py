"""One database with a fleet and one without, of each engine, for every query in turn."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import product
from typing import NamedTuple

import pytest
import pytest_asyncio
from sqlalchemy import text

from app.storage import analysts
from app.storage.analysts import Analyst
from app.storage.database import Database
from app.storage.engines.choice import installed_engine
from tests.dashboards.asking import Connection
from tests.dashboards.fleet import seed
from tests.databases import PASSWORD, SERVERS, WITH_ROLES, Server, as_login


class Place(NamedTuple):
    """A database as Grafana sees it.

    `grafana` is the login that sees every organisation, `tenant` one that sees `acme` alone; where there are no
    roles (WebAssembly), `grafana` is the owner, and `tenant` is None.
    """

    engine: str
    has_fleet: bool
    grafana: Connection
    tenant: "Connection | None"


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=product(SERVERS, (True, False)),
    ids=lambda it: f"{it[0]}-{'fleet' if it[1] else 'empty'}",
)
async def place(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> AsyncIterator[Place]:
    """Made once for all queries of a module; nothing writes to it."""
    name, has_fleet = request.param
    async with AsyncExitStack() as stack:
        server = servers(name)
        database = Database(await stack.enter_async_context(server.fresh(migrated=True)), pool_size=server.pool_size)
        stack.push_async_callback(database.close)
        engine = await installed_engine(database)
        if has_fleet:
            await seed(database, engine, datetime.now(UTC))
        if name in WITH_ROLES:
            connections = [await _login(stack, database, org) for org in (None, "acme")]
            yield Place(engine.name, has_fleet, *connections)
        else:
            yield Place(engine.name, has_fleet, await stack.enter_async_context(database.own_connection()), None)


async def _login(stack: AsyncExitStack, database: Database, org: str | None) -> Connection:
    name = f"grafana_{org or 'all'}_{os.getpid()}"
    await analysts.make(database, Analyst(name, org), PASSWORD)
    stack.push_async_callback(_drop, database, name)
    return await stack.enter_async_context(as_login(database, name))


async def _drop(database: Database, role: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(f"DROP ROLE {role}"))
