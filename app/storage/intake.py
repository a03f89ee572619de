"""What comes in, minute by minute: how many rows, how late they are. Written by each flush, read by operators."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from app.storage.engines.base import Connection
from app.storage.packing import Packed

LATE_AFTER: Final = timedelta(minutes=5)
"""A sample that is older when it arrives is late: its bucket of 5 minutes is over."""

KEPT: Final = timedelta(days=30)

_ADD: Final = """
    INSERT INTO ingest_minutes AS m
        (minute, writer, frames, rows, late_frames, duplicates, delay_ms, longest_delay_ms)
    VALUES (date_trunc('minute', $1::timestamptz), pg_backend_pid(), $2, $3, $4, $5, $6, $7)
    ON CONFLICT (minute, writer) DO UPDATE SET
        frames = m.frames + excluded.frames, rows = m.rows + excluded.rows,
        late_frames = m.late_frames + excluded.late_frames, duplicates = m.duplicates + excluded.duplicates,
        delay_ms = m.delay_ms + excluded.delay_ms,
        longest_delay_ms = greatest(m.longest_delay_ms, excluded.longest_delay_ms)
"""
_FORGET: Final = "DELETE FROM ingest_minutes WHERE minute < $1"
_MILLISECOND: Final = timedelta(milliseconds=1)
_LATE_MS: Final = LATE_AFTER // _MILLISECOND


async def count(connection: Connection, batch: Iterable[Packed], *, duplicates: int = 0) -> None:
    """Within the transaction that stores a batch: add it to its minute."""
    frames = rows = late = delay_ms = longest = 0
    received_at = None
    for packed in batch:
        if packed.time is not None:
            received_at = packed.received_at
            delay = max((received_at - packed.time) // _MILLISECOND, 0)
            frames += 1
            rows += packed.rows
            late += delay > _LATE_MS
            delay_ms += delay
            longest = max(longest, delay)
    if received_at is not None:
        await connection.execute(_ADD, received_at, frames, rows, late, duplicates, delay_ms, longest)


async def forget(connection: Connection, now: datetime) -> None:
    """Drop the minutes that nobody looks at any more."""
    await connection.execute(_FORGET, now - KEPT)
