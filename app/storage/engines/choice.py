"""Which engine a database was installed with, held against what it offers today."""

from typing import Final

from sqlalchemy import text

from app.errors import StartupError
from app.storage.database import Database
from app.storage.engines.apache import TimescaleApache
from app.storage.engines.base import StorageEngine
from app.storage.engines.postgres import Postgres
from app.storage.engines.timescale import Timescale

_ENGINES: Final[dict[tuple[str, str | None], type[StorageEngine]]] = {
    ("timescaledb", "community"): Timescale,
    ("timescaledb", "apache"): TimescaleApache,
    ("postgresql", None): Postgres,
}


async def installed_engine(database: Database) -> StorageEngine:
    """The engine that the migrations recorded.

    Raises StartupError where the database no longer offers it.
    """
    async with database.transaction() as connection:
        name, edition = (await connection.execute(text("SELECT engine, edition FROM installation"))).one()
        version = await connection.scalar(text("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"))
        licence = await connection.scalar(text("SELECT current_setting('timescaledb.license', true)"))
    if (name, edition) not in _ENGINES:
        made_for = " ".join(filter(None, (name, edition)))
        raise StartupError(
            f"This database was made for the storage engine {made_for!r}, which this version does not know."
        )
    if name == "timescaledb" and version is None:
        raise StartupError(
            "This database was made with TimescaleDB, but the extension is no longer there: "
            "install timescaledb again before the service starts."
        )
    if edition == "community" and licence != "timescale":
        raise StartupError(
            "This database was made with TimescaleDB's community edition, but timescaledb.license is "
            f"{licence!r}: set it to 'timescale', and install the community edition where it is missing."
        )
    return _ENGINES[name, edition]()
