"""Rollups without continuous aggregates: tables that are kept up to date from a log of what was touched.

Up to `threshold` everything is, or is about to be, rolled up; a flush that stores a metric from before it
notes the node and the bucket. Raising the threshold waits for flushes that saw the old one, since they hold
a lock on its row until they commit: what they stored is seen when the range is rolled up, and what comes
later is noted. Up to `rolled_until` the tables tell the truth, behind it the views read samples.
"""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import asyncpg

from app.storage.database import NO_LIMIT
from app.storage.holdings import Holdings, Part
from app.storage.relations import ROLLUP_WIDTHS

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

BUCKET: Final = timedelta(minutes=5)
SETTLED_AFTER: Final = timedelta(minutes=1)
"""Samples of the last minute are still coming in: rolled up at once, they would all be late."""

STEP: Final = timedelta(hours=1)
"""As much time as one transaction rolls up. On disk its rows lie in no order: longer, and an index of ranges tells little."""

SLICE: Final = 10_000
"""As many samples of nodes (or hours, for a day) as are rolled up before a rest: half a second's work, with eight GPUs each."""
RESTS: Final = 2
"""So many times as long as a slice took: ingest has the processors meanwhile."""

LATE_BUCKETS: Final = 20_000
"""As many touched buckets as one transaction works off."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_NOTE: Final = """
    INSERT INTO touched (node_key, bucket)
    SELECT node_key, bucket FROM unnest($1::integer[], $2::timestamptz[]) AS metric (node_key, bucket),
        (SELECT threshold FROM rolling FOR SHARE) AS edge
    WHERE bucket < threshold
"""
_EDGES: Final = "SELECT nullif(threshold, '-infinity'), nullif(rolled_until, '-infinity') FROM rolling"
_OLDEST: Final = "SELECT least((SELECT min(time) FROM node_metrics), (SELECT min(time) FROM gpu_metrics))"
_RAISE: Final = "UPDATE rolling SET threshold = $1"
_ROLLED: Final = "UPDATE rolling SET rolled_until = $1, threshold = greatest(threshold, $1)"
_TAKE: Final = """
    WITH taken AS (DELETE FROM touched WHERE ctid = ANY (ARRAY(SELECT ctid FROM touched LIMIT $1))
                   RETURNING node_key, bucket)
    SELECT DISTINCT node_key, bucket FROM taken
"""
_NODES: Final = "SELECT node_key FROM nodes"
_ROLLUPS: Final = {
    "5m": ("node_metrics_5m", "gpu_metrics_5m", "gpu_metrics_5m_by_node"),
    "1h": ("node_metrics_1h", "gpu_metrics_1h", "gpu_metrics_1h_by_node"),
    "1d": ("node_metrics_1d", "gpu_metrics_1d"),
}
_READ: Final = {"5m": 5, "1h": 60, "1d": 24}
"""How many rows of a node a bucket is made of, where a sample comes each minute."""
_MADE_ALONG: Final = "gpu_metrics_5m_by_node"
"""By the function for `gpu_metrics_5m`: then a program that does not know of it keeps it up to date, too."""
_ROLL: Final = {
    width: [f"SELECT roll_{rollup}($1, $2, $3)" for rollup in rollups if rollup != _MADE_ALONG]
    for width, rollups in _ROLLUPS.items()
}

Range = tuple[int, datetime, datetime]


async def note(connection: Connection, touched: Iterable[tuple[int, datetime]]) -> None:
    """Note metrics that came after their time was rolled up, in the transaction that stores them."""
    buckets = {(node_key, floor(time, BUCKET)) for node_key, time in touched}
    if buckets:
        await connection.execute(_NOTE, *map(list, zip(*buckets, strict=True)))


async def roll(connection: Connection, now: datetime) -> bool:
    """Roll up the next stretch of time, and what came late; returns whether there is more.

    In two transactions, so that the threshold is seen by all before anything is read behind it; the second
    does all of the work or none.
    """
    threshold, rolled_until = await connection.fetchrow(_EDGES)  # type: ignore[misc]
    if rolled_until is None:
        threshold = rolled_until = await _begin(connection, now)
    target = max(floor(now - SETTLED_AFTER, BUCKET), rolled_until)
    until = min(target, rolled_until + STEP)
    if threshold < until:
        await connection.execute(_RAISE, until)
    async with connection.transaction():
        late = await connection.fetch(_TAKE, LATE_BUCKETS)
        nodes = [row[0] for row in await connection.fetch(_NODES)]
        for width, length in ROLLUP_WIDTHS.items():
            first, last = floor(rolled_until, length), floor(until, length)
            again = {(node_key, floor(bucket, length)) for node_key, bucket in late}
            ranges = [(node_key, start, start + length) for node_key, start in again if start < first]
            ranges += [(node_key, first, last) for node_key in nodes if first < last]
            ranges.sort()
            # Behind by an hour or more, it catches up.
            await _compute(connection, width, ranges, rests=RESTS if until == target else 0)
        await connection.execute(_ROLLED, until)
    return until < target or len(late) > 0


async def is_pending(connection: Connection, start: datetime, end: datetime) -> bool:
    """Whether anything between two moments still has to be rolled up."""
    pending: bool = await connection.fetchval(
        "SELECT rolled_until < $2 OR EXISTS (SELECT FROM touched WHERE bucket >= $1 AND bucket < $2) FROM rolling",
        start,
        end,
    )
    return pending


async def holdings(connection: Connection, parts: Mapping[str, list[Part]]) -> Holdings:
    """These parts, up to where each rollup's buckets are all there, and how many notes wait for a pass."""
    _, until = await connection.fetchrow(_EDGES)  # type: ignore[misc]
    return Holdings(
        parts=parts,
        columnstore=None,
        rolled_until={
            rollup: until and floor(until, ROLLUP_WIDTHS[width])
            for width, rollups in _ROLLUPS.items()
            for rollup in rollups
        },
        touched=await connection.fetchval("SELECT count(*) FROM touched"),
        jobs=[],
    )


async def _begin(connection: Connection, now: datetime) -> datetime:
    """Where to begin in a database in which nothing was ever rolled up.

    From here on whatever comes is noted: only then it is sure which sample is the oldest that was not.
    """
    await connection.execute(_RAISE, floor(now - SETTLED_AFTER, BUCKET))
    oldest = await connection.fetchval(_OLDEST, timeout=NO_LIMIT)
    begin = floor(oldest or now - SETTLED_AFTER, ROLLUP_WIDTHS["1d"] if oldest else BUCKET)
    await connection.execute(_ROLLED, begin)
    return begin


async def _compute(connection: Connection, width: str, ranges: list[Range], rests: int) -> None:
    """Slice by slice. A statement for a hundred thousand nodes would keep a processor from ingest for half a minute."""
    loop = asyncio.get_running_loop()
    longest = max((end - start for _, start, end in ranges), default=ROLLUP_WIDTHS[width])
    size = max(SLICE // (_READ[width] * (longest // ROLLUP_WIDTHS[width])), 1)
    for statement in _ROLL[width]:
        for first in range(0, len(ranges), size):
            began = loop.time()
            slice_ = ranges[first : first + size]
            await connection.execute(statement, *map(list, zip(*slice_, strict=True)), timeout=NO_LIMIT)
            if first + size < len(ranges):
                await asyncio.sleep(rests * (loop.time() - began))


def floor(moment: datetime, width: timedelta) -> datetime:
    """The start of the bucket that a moment lies in."""
    return moment - (moment - _EPOCH) % width
