"""The gateways of this database: who sits where, who is dead, and the one sweep for silent nodes."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import DateTime, Interval, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.model import NodeStatus
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


_BEAT: Final = text("""
    UPDATE gateways SET seen_at = :now, hearing_since = :hearing_since WHERE gateway_id = :gateway_id
    RETURNING gateway_id
""")


async def beat(connection: AsyncConnection, gateway_id: int, now: datetime, hearing_since: datetime) -> bool:
    """Say that this gateway lives, and since when it hears its nodes; False where it was taken for dead meanwhile."""
    told = {"now": now, "gateway_id": gateway_id, "hearing_since": hearing_since}
    return (await connection.execute(_BEAT, told)).first() is not None


_RETAKE_SEAT: Final = text("""
    INSERT INTO gateways (gateway_id, seat, started_at, seen_at) OVERRIDING SYSTEM VALUE
    VALUES (:gateway_id, :seat, :now, :now) ON CONFLICT DO NOTHING RETURNING gateway_id
""")


async def retake_seat(connection: AsyncConnection, gateway_id: int, seat: str, now: datetime) -> bool:
    """Take the same seat again; False where a successor has it."""
    taken = await connection.execute(_RETAKE_SEAT, {"gateway_id": gateway_id, "seat": seat, "now": now})
    return taken.first() is not None


_SWEEPER: Final = text("SELECT 1 FROM jobs WHERE job = 'aiwm.sweep' FOR UPDATE SKIP LOCKED")
# A clock that is ahead of this one must not put it off.
_DUE: Final = text("""
    UPDATE jobs SET done_at = :now
    WHERE job = 'aiwm.sweep' AND (done_at IS NULL OR done_at <= :now - :every OR done_at > :now) RETURNING true
""").bindparams(bindparam("now", type_=DateTime(timezone=True)), bindparam("every", type_=Interval))
_CLEAR_DEAD_GATEWAYS: Final = text("""
    WITH dead AS (DELETE FROM gateways WHERE seen_at < :dead_before RETURNING gateway_id)
    UPDATE node_state SET gateway_id = NULL, updated_at = :now
    WHERE gateway_id IN (SELECT gateway_id FROM dead)
""")
# A node whose gateway does not read, or cannot store, is not silent: only unheard.
_SWEEP: Final = text(f"""
    UPDATE node_state s SET {moves("true", NodeStatus.OFFLINE, "heartbeat timeout", ":now")}, updated_at = :now
    WHERE coalesce(alive_at, last_seen_at, status_changed_at) < :silent_before
      AND (status = 'online' OR status = 'installing' AND gateway_id IS NULL)
      AND NOT EXISTS (
          SELECT FROM gateways g WHERE g.gateway_id = s.gateway_id AND g.hearing_since >= :silent_before)
    RETURNING node_key
""")


async def sweep(
    connection: AsyncConnection,
    now: datetime,
    dead_before: datetime | None,
    silent_before: datetime | None,
    every: timedelta,
) -> int:
    """As the one sweeper of all, find dead gateways, and silent nodes unless one of all gateways did so just now.

    Each limit is None while silence proves nothing of that kind: who can't judge at all leaves it to others. Returns
    how many nodes went offline.
    """
    if (dead_before is None and silent_before is None) or not (await connection.execute(_SWEEPER)).all():
        return 0
    if dead_before is not None:
        await connection.execute(_CLEAR_DEAD_GATEWAYS, {"now": now, "dead_before": dead_before})
    if silent_before is None or not (await connection.execute(_DUE, {"now": now, "every": every})).all():
        return 0
    silent = await connection.execute(_SWEEP, {"now": now, "silent_before": silent_before})
    return len(silent.all())
