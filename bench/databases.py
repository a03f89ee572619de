"""Databases of the bench, fresh each time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from app.storage import schema
from app.storage.database import Database

NAME: Final = "aiwm_bench"


@asynccontextmanager
async def fresh_database(url: str, name: str = NAME) -> AsyncIterator[Database]:
    """A migrated database that is gone afterwards."""
    await _execute(url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await _execute(url, f"CREATE DATABASE {name}")
    database = Database(urlsplit(url)._replace(path=f"/{name}").geturl())
    try:
        await schema.upgrade(database)
        yield database
    finally:
        await database.close()
        await _execute(url, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
