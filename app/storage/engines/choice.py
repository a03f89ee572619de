"""Which engine a database was installed with, held against what it offers today."""

from typing import Final

from sqlalchemy import text

from app.errors import StartupError
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.engines.postgres import Postgres
from app.storage.engines.timescale import Timescale

_ENGINES: Final[dict[str, type[StorageEngine]]] = {"timescaledb": Timescale, "postgresql": Postgres}


async def installed_engine(database: Database) -> StorageEngine:
    """The engine that the first migration recorded.

    Raises StartupError where the database no longer offers it.
    """
    async with database.transaction() as connection:
        name = await connection.scalar(text("SELECT engine FROM installation"))
        has_timescale = await connection.scalar(
            text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')")
        )
    if name not in _ENGINES:
        raise StartupError(f"This database was made for the storage engine {name!r}, which this version does not know.")
    if name == "timescaledb" and not has_timescale:
        raise StartupError(
            "This database was made with TimescaleDB, but the extension is no longer there: "
            "install timescaledb again before the service starts."
        )
    return _ENGINES[name]()
