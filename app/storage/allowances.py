"""What callers may still create: one moment each, when the allowance will be whole again.

The generic cell rate algorithm: each creation moves the moment on by one creation's share of a minute, and none may
move it more than a minute ahead. It is one row, locked by whoever moves it, so that it holds for all gateways.
"""

from datetime import datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy import func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage import tables
from app.storage.engines.base import Connection

MINUTE: Final = timedelta(minutes=1)
_FORGET: Final = "DELETE FROM allowances WHERE whole_at < $1"
_allowances = tables.allowances


class Creation(msgspec.Struct, frozen=True):
    """Who creates what."""

    org_id: str
    subject: str
    kind: str


async def take(connection: AsyncConnection, creation: Creation, per_minute: int, now: datetime) -> timedelta:
    """Take one of so many a minute; zero where it was taken, else how long until there is one again."""
    share = MINUTE / per_minute
    latest = now + MINUTE - share
    moved = func.greatest(_allowances.c.whole_at, now) + literal(share)
    statement = (
        insert(_allowances)
        .values(**msgspec.structs.asdict(creation), whole_at=now + share)
        .on_conflict_do_update(
            constraint=_allowances.primary_key,
            set_={"whole_at": moved},
            where=_allowances.c.whole_at <= latest,
        )
        .returning(_allowances.c.whole_at)
    )
    if (await connection.execute(statement)).first() is not None:
        return timedelta(0)
    of_caller = (_allowances.c[name] == value for name, value in msgspec.structs.asdict(creation).items())
    whole_at: datetime = (await connection.execute(select(_allowances.c.whole_at).where(*of_caller))).scalar_one()
    return max(whole_at - latest, timedelta(0))


async def forget(connection: Connection, now: datetime) -> None:
    """Forget those that are whole."""
    await connection.execute(_FORGET, now)
