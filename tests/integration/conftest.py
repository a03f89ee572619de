"""The fixtures that put every integration test on each storage engine."""

from collections.abc import AsyncIterator, Callable

import pytest

from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.engines.choice import installed_engine
from tests.databases import SERVERS, Server


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Server:
    """A database server of each kind that this machine can run."""
    return servers(request.param)


@pytest.fixture
async def database(server: Server) -> AsyncIterator[Database]:
    """A migrated database in which nothing happened yet."""
    async with server.fresh(migrated=True) as url:
        database = Database(url, pool_size=server.pool_size)
        yield database
        await database.close()


@pytest.fixture
async def empty_database(server: Server) -> AsyncIterator[Database]:
    """A database in which nothing was ever made."""
    async with server.fresh(migrated=False) as url:
        database = Database(url, pool_size=server.pool_size)
        yield database
        await database.close()


@pytest.fixture
async def engine(database: Database) -> StorageEngine:
    """The database's storage engine."""
    return await installed_engine(database)
