"""Up to when rows of each table were dropped, or may have been. Settings that keep more bring none of them back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_READ: Final = "SELECT table_name, before FROM dropped"
# Where policies drop, every pass notes it anew: by the hour is often enough.
_NOTE: Final = """
    INSERT INTO dropped (table_name, before) SELECT * FROM unnest($1::text[], $2::timestamptz[])
    ON CONFLICT (table_name) DO UPDATE SET before = excluded.before
    WHERE excluded.before > dropped.before + interval '1 hour'
"""


async def read(connection: Connection) -> Mapping[str, datetime]:
    """Of each table of which anything was dropped: before when."""
    return dict(await connection.fetch(_READ))  # type: ignore[arg-type]


async def note(connection: Connection, before: Mapping[str, datetime]) -> None:
    """Note what is about to be dropped of which tables; what was noted before stays where it is more."""
    if before:
        await connection.execute(_NOTE, list(before), list(before.values()))
