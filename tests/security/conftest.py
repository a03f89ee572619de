"""The database of tests that ask who may do what: the one that is there on every machine."""

from collections.abc import AsyncIterator, Callable

import pytest

from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.engines.choice import installed_engine
from tests.databases import Server


@pytest.fixture
async def database(servers: Callable[[str], Server], request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """A migrated database in which nothing happened yet; on PostgreSQL unless a test is for several servers."""
    server = servers(getattr(request, "param", "postgresql"))
    async with server.fresh(migrated=True) as url:
        database = Database(url, pool_size=server.pool_size)
        yield database
        await database.close()


@pytest.fixture
async def engine(database: Database) -> StorageEngine:
    """The database's storage engine."""
    return await installed_engine(database)
