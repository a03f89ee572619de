"""Alembic's entry: it gets a connection from `app.storage.schema`, or opens one from AIWM_DATABASE_URL."""

import asyncio
import os
from typing import Any

from alembic import context
from sqlalchemy import Connection

from app.settings import read
from app.storage import schema, tables
from app.storage.database import Database


def _is_ours(_object: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:  # noqa: FBT001
    """What only some storage engines have is no part of the metadata."""
    return not (kind == "table" and reflected and compare_to is None and schema.is_of_engine(name or ""))


def run(connection: Connection) -> None:
    """Migrate over a connection whose search path starts with our private schema."""
    context.configure(
        connection=connection,
        target_metadata=tables.metadata,
        include_object=_is_ours,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_by_hand() -> None:
    """`alembic upgrade head` without the service."""
    settings, _ = read(os.environ)
    if settings.database_url is None:
        raise SystemExit("Set AIWM_DATABASE_URL; the embedded database is migrated by `aiwm serve`.")
    database = Database(settings.database_url)
    try:
        async with database.transaction() as connection:
            await schema.prepare(connection)
            await connection.run_sync(run)
    finally:
        await database.close()


given = context.config.attributes.get("connection")
if given is None:
    asyncio.run(run_by_hand())
else:
    run(given)
