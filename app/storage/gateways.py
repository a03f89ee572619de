"""The gateways of this database: who sits where, who is dead, and the one sweep for silent nodes."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.model import NodeStatus
from app.storage.engines.base import Connection
from app.storage.transitions import moves

_OPEN_GATEWAY: Final = text("""
    WITH predecessor AS (DELETE FROM gateways WHERE seat = :seat RETURNING gateway_id)
    UPDATE node_state SET gateway_id = NULL, updated_at = :now
    WHERE gateway_id IN (SELECT gateway_id FROM predecessor)
""")
_SEAT_GATEWAY: Final = text("""
    INSERT INTO gateways (seat, started_at, seen_at) VALUES (:seat, :now, :now) RETURNING gateway_id
""")


async def open_gateway(connection: AsyncConnection, seat: str, now: datetime) -> int:
    """Take a seat; connections that its previous holder left behind are nobody's now."""
    await connection.execute(_OPEN_GATEWAY, {"seat": seat, "now": now})
    return int((await connection.execute(_SEAT_GATEWAY, {"seat": seat, "now": now})).scalar_one())


_CLOSE_GATEWAY: Final = text("""
    WITH gone AS (DELETE FROM gateways WHERE gateway_id = :gateway_id)
    UPDATE node_state SET gateway_id = NULL, updated_at = :now WHERE gateway_id = :gateway_id
""")


async def close_gateway(connection: AsyncConnection, gateway_id: int, now: datetime) -> None:
    """Leave the seat; the nodes' statuses stay, since they will be back within the timeout."""
    await connection.execute(_CLOSE_GATEWAY, {"gateway_id": gateway_id, "now": now})


_DUE: Final = """
    job = 'aiwm.sweep' AND (done_at IS NULL OR done_at <= $1::timestamptz - $2::interval OR done_at > $1)
"""
"""A clock that is ahead of this one must not put the sweep off."""
_BEAT: Final = f"""
    WITH beat AS (UPDATE gateways SET seen_at = $1, hearing_since = $4 WHERE gateway_id = $3 RETURNING gateway_id)
    SELECT EXISTS (SELECT FROM beat), EXISTS (SELECT FROM jobs WHERE {_DUE})
"""


class Beat(NamedTuple):
    """Whether this gateway still has its seat, and whether it is time for the one sweep of all."""

    is_seated: bool
    sweep_is_due: bool


async def beat(
    connection: Connection, gateway_id: int, now: datetime, hearing_since: datetime, every: timedelta
) -> Beat:
    """Say that this gateway lives, and since when it hears its nodes. It lost its seat where it was taken for dead."""
    return Beat(*await connection.fetchrow(_BEAT, now, every, gateway_id, hearing_since))  # type: ignore[misc]


_RETAKE_SEAT: Final = text("""
    INSERT INTO gateways (gateway_id, seat, started_at, seen_at) OVERRIDING SYSTEM VALUE
    VALUES (:gateway_id, :seat, :now, :now) ON CONFLICT DO NOTHING RETURNING gateway_id
""")


async def retake_seat(connection: AsyncConnection, gateway_id: int, seat: str, now: datetime) -> bool:
    """Take the same seat again; False where a successor has it."""
    taken = await connection.execute(_RETAKE_SEAT, {"gateway_id": gateway_id, "seat": seat, "now": now})
    return taken.first() is not None


_SWEEPER: Final = f"SELECT true FROM jobs WHERE {_DUE} FOR UPDATE SKIP LOCKED"
_SWEPT: Final = "UPDATE jobs SET done_at = $1 WHERE job = 'aiwm.sweep'"
_CLEAR_DEAD_GATEWAYS: Final = """
    WITH dead AS (DELETE FROM gateways WHERE seen_at < $2 RETURNING gateway_id)
    UPDATE node_state SET gateway_id = NULL, updated_at = $1
    WHERE gateway_id IN (SELECT gateway_id FROM dead)
"""
# A node whose gateway does not read, or cannot store, is not silent: only unheard.
_SWEEP: Final = f"""
    UPDATE node_state s SET {moves("true", NodeStatus.OFFLINE, "heartbeat timeout", "$1")}, updated_at = $1
    WHERE coalesce(alive_at, last_seen_at, status_changed_at) < $2
      AND (status = 'online' OR status = 'installing' AND gateway_id IS NULL)
      AND NOT EXISTS (SELECT FROM gateways g WHERE g.gateway_id = s.gateway_id AND g.hearing_since >= $2)
    RETURNING node_key
"""


async def sweep(
    connection: Connection,
    now: datetime,
    dead_before: datetime | None,
    silent_before: datetime | None,
    every: timedelta,
) -> int:
    """As the one sweeper of all, unless another is or was at it just now, find dead gateways and silent nodes.

    Each limit is None while silence proves nothing of that kind: who can't judge nodes leaves them to others. Returns
    how many nodes went offline.
    """
    if (dead_before is None and silent_before is None) or not await connection.fetchval(_SWEEPER, now, every):
        return 0
    if dead_before is not None:
        await connection.execute(_CLEAR_DEAD_GATEWAYS, now, dead_before)
    if silent_before is None:
        return 0
    silent = await connection.fetch(_SWEEP, now, silent_before)
    await connection.execute(_SWEPT, now)
    return len(silent)
