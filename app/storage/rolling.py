"""Rollups without continuous aggregates: tables that are kept up to date from a log of what was touched.

Up to `threshold` everything is, or is about to be, rolled up; a flush that stores a metric from before it
notes the node and the bucket. Raising the threshold waits for flushes that saw the old one, since they hold
a lock on its row until they commit: what they stored is seen when the range is rolled up, and what comes
later is noted. Up to `rolled_until` the tables tell the truth. Behind it, whatever is in them, the views read samples.
"""

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import asyncpg

from app.retention import Retention
from app.storage.database import NO_LIMIT
from app.storage.holdings import Holdings, Part
from app.storage.relations import ROLLUP_WIDTHS

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

BUCKET: Final = timedelta(minutes=5)
SETTLED_AFTER: Final = timedelta(minutes=1)
"""Samples of the last minute are still coming in: rolled up at once, they would all be late."""

STEP: Final = timedelta(hours=1)
"""As much time as one statement rolls up. On disk its rows lie in no order: longer, and an index of ranges tells little."""

SLICE: Final = 4_000
"""As many samples of nodes (or hours, for a day) as are rolled up before a rest: about a fifth of a second's work, with eight GPUs each."""
RESTS: Final = 5
"""So many times as long as a slice took: ingest has the processors meanwhile."""
STRETCH_SECONDS: Final = 900.0
"""Rests are shorter where a stretch would take longer than this: questions read samples, until all of it is rolled up."""

LATE_BUCKETS: Final = 500
"""As many touched buckets as one transaction works off, so that none lasts long, however many came late."""
LATE_TURNS: Final = 40
"""So many of these in a pass: however much comes late, what comes in time is rolled up, too."""

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
    WITH taken AS (DELETE FROM touched
                   WHERE ctid = ANY (ARRAY(SELECT ctid FROM touched ORDER BY node_key, bucket LIMIT $1))
                   RETURNING node_key, bucket)
    SELECT node_key, bucket, count(*) AS notes FROM taken GROUP BY node_key, bucket
"""
_NODES: Final = "SELECT node_key FROM nodes ORDER BY node_key"
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


async def roll(connection: Connection, now: datetime, retention: Retention) -> bool:
    """Roll up what came late, and the next stretch of time; returns whether there is more.

    The threshold is seen by all before anything is read behind it. What came late is worked off in transactions that
    take the notes and compute what they name. Of the stretch each slice of nodes is a transaction: until `rolled_until`
    has moved behind it nobody sees it, and the next pass computes it anew.
    """
    threshold, rolled_until = await connection.fetchrow(_EDGES)  # type: ignore[misc]
    if rolled_until is None:
        threshold = rolled_until = await _begin(connection, now)
    target = max(floor(now - SETTLED_AFTER, BUCKET), rolled_until)
    until = min(target, rolled_until + STEP)
    if threshold < until:
        await connection.execute(_RAISE, until)
    # Behind by an hour or more, it catches up.
    rests = RESTS if until == target else 0
    kept = {"5m": retention.five_minutes, "1h": retention.hour, "1d": retention.day}
    oldest = {width: now - age for width, age in kept.items() if age is not None}
    has_late = await _roll_late(connection, rolled_until, rests, oldest)
    nodes = [row[0] for row in await connection.fetch(_NODES)]
    for width, length in ROLLUP_WIDTHS.items():
        first, last = floor(rolled_until, length), floor(until, length)
        if nodes and first < last:
            await _roll_stretch(connection, width, nodes, first, last, rests)
    await connection.execute(_ROLLED, until)
    return until < target or has_late


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


async def _roll_late(
    connection: Connection, rolled_until: datetime, rests: int, oldest: Mapping[str, datetime]
) -> bool:
    """Compute anew what was noted, where it is rolled up already; what is not yet, will be. Returns whether there is more.

    What ended before `oldest`, by width, is no longer kept: where its rows would go may be gone, and so is it.
    """
    for _ in range(LATE_TURNS):
        began = _now()
        async with connection.transaction():
            late = await connection.fetch(_TAKE, LATE_BUCKETS)
            for width, length in ROLLUP_WIDTHS.items():
                buckets = {(node_key, floor(bucket, length)) for node_key, bucket, _ in late}
                until, since = floor(rolled_until, length), oldest.get(width, _EPOCH)
                again = [(key, start) for key, start in buckets if start < until and start + length > since]
                await _compute(connection, width, sorted((key, start, start + length) for key, start in again))
        if sum(notes for *_, notes in late) < LATE_BUCKETS:
            return False
        await _rest(rests, began)
    return True


async def _roll_stretch(
    connection: Connection, width: str, nodes: list[int], first: datetime, last: datetime, rests: int
) -> None:
    """Slice by slice. A statement for a hundred thousand nodes would keep a processor from ingest for half a minute."""
    buckets = (last - first) // ROLLUP_WIDTHS[width]
    size = max(SLICE // (_READ[width] * buckets), 1)
    for place in range(0, len(nodes), size):
        began = _now()
        await _compute(connection, width, [(node_key, first, last) for node_key in nodes[place : place + size]])
        if place + size < len(nodes):
            await _rest(rests, began, turn=STRETCH_SECONDS * size / len(nodes))


async def _compute(connection: Connection, width: str, ranges: Sequence[Range]) -> None:
    if ranges:
        for statement in _ROLL[width]:
            await connection.execute(statement, *map(list, zip(*ranges, strict=True)), timeout=NO_LIMIT)


async def _rest(rests: int, began: float, turn: float = math.inf) -> None:
    """So many times as long as what began then took; both together no longer than `turn` seconds."""
    took = _now() - began
    await asyncio.sleep(min(rests * took, turn - took))


def _now() -> float:
    return asyncio.get_running_loop().time()


def floor(moment: datetime, width: timedelta) -> datetime:
    """The start of the bucket that a moment lies in."""
    return moment - (moment - _EPOCH) % width
