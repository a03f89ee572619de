"""What the storage engine is and holds: from catalogs, and the oldest sample by index."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Table

from app.errors import StartupError
from app.retention import Retention
from app.storage import relations, schema, tables
from app.storage.database import Database
from app.storage.engines.base import Connection, StorageEngine
from app.storage.holdings import Holdings, Job, Part

FIRST_WITH_ROLLUPS: Final = "0004"

RAW: Final = (
    *(tables.heartbeats, tables.gpu_heartbeats),
    *(tables.node_metrics, tables.gpu_metrics, tables.gpu_details),
)
ROLLUPS: Final = tuple(
    rollups[width]
    for width in relations.ROLLUP_WIDTHS
    for rollups in (relations.node_rollups, relations.gpu_rollups, relations.gpu_rollups_by_node)
    if width in rollups
)

_INSTALLED: Final = """
    SELECT engine, edition, current_setting('server_version') AS postgresql,
           (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescaledb
    FROM installation
"""
# The primary key begins with the node: a look into it for each.
_OLDEST: Final = """
    SELECT min(first.time) FROM {owners} owner CROSS JOIN LATERAL (
        SELECT time FROM {part} s WHERE s.node_key = owner.node_key {of_owner} ORDER BY time LIMIT 1) AS first
"""
# In columns a node's samples lie by GPU, then by time: each node's first one is one batch, and of all
# other batches only those are read whose noted minimum is as old as what was found.
_OLDEST_IN_COLUMNS: Final = """
    SELECT min(time) FROM {part} WHERE time <= (
        SELECT min(first.time) FROM nodes CROSS JOIN LATERAL (
            SELECT time FROM {part} s WHERE s.node_key = nodes.node_key ORDER BY {order} LIMIT 1) AS first)
"""


class TableStatus(msgspec.Struct, frozen=True, rename="camel"):
    """A table of samples or a rollup. `parts` are its chunks or partitions; kept for None is for ever."""

    name: str
    parts: int
    bytes: int
    row_bytes: int
    bytes_before_compression: int | None
    bytes_after_compression: int | None
    oldest: datetime | None
    kept_for_seconds: int | None


class RollupStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Up to where a rollup is computed, and how long ago that was; None where nothing is rolled up yet.

    On TimescaleDB that is the end of the last bucket with a sample: while a fleet is silent, the lag grows.
    """

    name: str
    rolled_until: datetime | None
    lag_seconds: int | None


class DatabaseStatus(msgspec.Struct, frozen=True, rename="camel"):
    """All of it. `touched` counts notes of late metrics; None where TimescaleDB keeps them."""

    engine: str
    edition: str | None
    postgresql: str
    timescaledb: str | None
    revision: str
    head: str
    tables: list[TableStatus]
    rollups: list[RollupStatus]
    touched: int | None
    jobs: list[Job]


async def revision(database: Database) -> str:
    """The schema's revision. Raises StartupError where there is no schema, or one without rollups."""
    found = await schema.current(database)
    if found is None:
        raise StartupError("The database was never migrated: run `aiwm db upgrade` first.")
    if found < FIRST_WITH_ROLLUPS:
        raise StartupError(
            f"The database's schema is at revision {found}, which has no rollups yet: run `aiwm db upgrade` first."
        )
    return found


async def read(
    database: Database, engine: StorageEngine, revision: str, retention: Retention, now: datetime
) -> DatabaseStatus:
    """The status of a database at that revision."""
    async with database.driver_transaction() as connection:
        installed = await connection.fetchrow(_INSTALLED)
        held = await engine.holdings(connection)
        return DatabaseStatus(
            **dict(installed or {}),
            revision=revision,
            head=schema.head(),
            tables=[await _table(connection, table, held, retention) for table in (*RAW, *ROLLUPS)],
            rollups=[_rollup(str(table.name), held, now) for table in ROLLUPS],
            touched=held.touched,
            jobs=held.jobs,
        )


async def _table(connection: Connection, table: Table, held: Holdings, retention: Retention) -> TableStatus:
    parts, kept = held.parts.get(table.name, []), retention.by_table[table.name]
    columns = held.columnstore and held.columnstore.get(table.name)
    return TableStatus(
        name=str(table.name),
        parts=len(parts),
        bytes=sum(part.bytes for part in parts),
        row_bytes=sum(part.row_bytes for part in parts),
        bytes_before_compression=columns.before if columns else None,
        bytes_after_compression=columns.after if columns else None,
        oldest=await _oldest(connection, parts, per_gpu="gpu" in table.c),
        kept_for_seconds=None if kept is None else int(kept.total_seconds()),
    )


async def _oldest(connection: Connection, parts: Sequence[Part], *, per_gpu: bool) -> datetime | None:
    """From the oldest part that has rows: only few have none."""
    for part in parts:
        statement = _OLDEST_IN_COLUMNS if part.in_columns else _OLDEST
        found: datetime | None = await connection.fetchval(
            statement.format(
                part=part.relation,
                owners="gpus" if per_gpu else "nodes",
                of_owner="AND s.gpu = owner.gpu" if per_gpu else "",
                order="gpu, time" if per_gpu else "time",
            )
        )
        if found is not None:
            return found
    return None


def _rollup(name: str, held: Holdings, now: datetime) -> RollupStatus:
    until = held.rolled_until.get(name)
    return RollupStatus(name, until, None if until is None else max(0, int((now - until).total_seconds())))
