"""TimescaleDB's community edition: hypertables in columns, continuous aggregates, and policies for all of it.

A late sample makes TimescaleDB compute its bucket anew for all nodes. So each aggregate has two refresh
policies: a frequent one over the last hours, and one an hour over the rest of what is accepted, which does
at once whatever came late meanwhile.
"""

import logging
from collections.abc import Collection, Iterable, Iterator
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from app.retention import Retention
from app.storage import dropped
from app.storage.database import NO_LIMIT
from app.storage.engines.base import Connection, Touched
from app.storage.engines.chunks import HELD, chunks
from app.storage.holdings import Columnstore, Holdings, Job

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class _Refresh(NamedTuple):
    """Of an aggregate: where its frequent refresh begins (None: it has but one) and where it ends, from now back.

    `often` and `seldom` is how often each of the two is made.
    """

    start: timedelta | None
    end: timedelta
    often: timedelta
    seldom: timedelta


_REFRESHES: Final = {
    "5m": _Refresh(2 * HOUR, timedelta(minutes=5), timedelta(minutes=5), HOUR),
    "5m_by_node": _Refresh(None, timedelta(minutes=5), timedelta(minutes=5), timedelta(minutes=5)),
    "1h": _Refresh(6 * HOUR, HOUR, HOUR / 2, HOUR),
    "1h_by_node": _Refresh(None, HOUR, HOUR / 2, HOUR / 2),
    "1d": _Refresh(None, 2 * HOUR, 3 * HOUR, 3 * HOUR),  # an aggregate of an aggregate may have but one
}
AGGREGATES: Final = {
    f"{table}_{width}": width
    for width in _REFRESHES
    for table in ("node_metrics", "gpu_metrics")
    if table == "gpu_metrics" or not width.endswith("_by_node")
}
"""In the order in which they are made: those of a day from those of hours, those of a node from those of its GPUs."""

COMPRESSED_AFTER: Final = DAY
BUCKETS_A_BATCH: Final = """
    SELECT CASE WHEN string_to_array(split_part(extversion, '-', 1), '.')::integer[] < ARRAY[2, 29] THEN 0 ELSE 10 END
    FROM pg_extension WHERE extname = 'timescaledb'
"""
"""Before 2.29 a refresh in batches forgot the bucket at whose very start the latest changed sample lies (#10221)."""

REFRESHED_WITHIN: Final = timedelta(hours=12)
"""Where a refresh has not succeeded for so long, nothing is dropped: what came late may not be rolled up yet."""

REFRESH, COLUMNSTORE, RETENTION = "policy_refresh_continuous_aggregate", "policy_compression", "policy_retention"


class Policy(NamedTuple):
    """A job of TimescaleDB's on a table; `bounds` are ages, `every` is None where TimescaleDB chooses."""

    kind: str
    table: str
    bounds: tuple[timedelta | None, ...]
    every: timedelta | None = None


_JOBS: Final = f"""
    SELECT job_id, proc_name AS kind, hypertable_name AS table_name, schedule_interval,
           (config->>'start_offset')::interval AS start_offset, (config->>'end_offset')::interval AS end_offset,
           coalesce(config->>'compress_after', config->>'drop_after')::interval AS after
    FROM timescaledb_information.jobs
    WHERE hypertable_schema = 'aiwm' AND proc_name IN ('{REFRESH}', '{COLUMNSTORE}', '{RETENTION}')
    ORDER BY job_id
"""
_ADD: Final = {
    REFRESH: "SELECT add_continuous_aggregate_policy($1::text::regclass, start_offset => $2::interval, "
    "end_offset => $3::interval, schedule_interval => $4::interval, buckets_per_batch => $5::integer)",
    COLUMNSTORE: "CALL add_columnstore_policy($1::text::regclass, after => $2::interval)",
    RETENTION: "SELECT add_retention_policy($1::text::regclass, drop_after => $2::interval, schedule_interval => $3::interval)",
}
_REFRESH_ALL: Final = "CALL refresh_continuous_aggregate($1::text::regclass, NULL, $2::timestamptz)"
_HOLD: Final = f"""
    WITH refreshes AS (
        SELECT bool_and(coalesce(last_successful_finish > now() - $1::interval, false)) AS are_recent,
               bool_and(coalesce(total_runs > 0, false)) AS have_run
        FROM timescaledb_information.jobs LEFT JOIN timescaledb_information.job_stats USING (job_id)
        WHERE jobs.hypertable_schema = 'aiwm' AND proc_name = '{REFRESH}'
    )
    SELECT job_id, are_recent, have_run, alter_job(job_id, scheduled => are_recent) IS NOT NULL
    FROM timescaledb_information.jobs, refreshes
    WHERE hypertable_schema = 'aiwm' AND proc_name = '{RETENTION}' AND scheduled IS DISTINCT FROM are_recent
"""

_COMPRESSED: Final = f"""
    WITH {HELD} SELECT name, coalesce(sum(before_compression_total_bytes), 0)::bigint AS before,
                       coalesce(sum(after_compression_total_bytes), 0)::bigint AS after
    FROM held LEFT JOIN LATERAL hypertable_columnstore_stats(hypertable) ON true GROUP BY name
"""
# The watermark of an aggregate without rows is older than any calendar of Python's.
_ROLLED_UNTIL: Final = """
    SELECT user_view_name AS name, CASE WHEN until > '1970-01-01' THEN until END AS until
    FROM _timescaledb_catalog.continuous_agg
    CROSS JOIN LATERAL _timescaledb_functions.to_timestamp(
        _timescaledb_functions.cagg_watermark(mat_hypertable_id)) AS until
    WHERE user_view_schema = 'aiwm'
"""
_NEXT_JOBS: Final = f"""
    SELECT CASE proc_name WHEN '{REFRESH}' THEN 'refresh' WHEN '{COLUMNSTORE}' THEN 'compress' ELSE 'drop' END AS what,
           jobs.hypertable_name AS table_name, scheduled, nullif(job_stats.next_start, '-infinity') AS next_start,
           nullif(last_successful_finish, '-infinity') AS last_success, coalesce(total_failures, 0) AS failures
    FROM timescaledb_information.jobs LEFT JOIN timescaledb_information.job_stats USING (job_id)
    WHERE jobs.hypertable_schema = 'aiwm' AND proc_name IN ('{REFRESH}', '{COLUMNSTORE}', '{RETENTION}')
    ORDER BY scheduled DESC, next_start, job_id
"""

_log = logging.getLogger(__name__)


class Timescale:
    """Whatever can be a policy is one; what is left is to see that they are those of the settings, and that they run."""

    name = "TimescaleDB"

    async def make_room(self, connection: AsyncConnection, days: Collection[date]) -> None:
        """Nothing to do: a chunk is made by the first row that needs it."""

    async def note(self, connection: Connection, touched: Iterable[Touched]) -> None:
        """Nothing to do: TimescaleDB notes by itself what aggregates have to heed."""

    async def maintain(self, connection: Connection, retention: Retention, now: datetime) -> bool:
        """Set policies up where they differ from the settings; hold back dropping while refreshes fail."""
        jobs = await connection.fetch(_JOBS)
        for aggregate, width in AGGREGATES.items():
            if not any(job["kind"] == REFRESH and job["table_name"] == aggregate for job in jobs):
                # Before anything may be dropped: what is there already is older than any policy looks.
                await connection.execute(_REFRESH_ALL, aggregate, now - _REFRESHES[width].end, timeout=NO_LIMIT)
        await dropped.note(
            connection, {job["table_name"]: now - job["after"] for job in jobs if job["kind"] == RETENTION}
        )
        wanted = list(policies(retention, retention.since(await dropped.read(connection), now)))
        for kind, table in dict.fromkeys((policy.kind, policy.table) for policy in wanted):
            there = [job for job in jobs if (job["kind"], job["table_name"]) == (kind, table)]
            asked = [policy for policy in wanted if (policy.kind, policy.table) == (kind, table)]
            if {_bounds(job) for job in there} != {policy.bounds for policy in asked}:
                await _replace(connection, [job["job_id"] for job in there], asked)
        for job in jobs:
            if job["kind"] == RETENTION and retention.by_table.get(job["table_name"]) is None:
                await connection.execute("SELECT delete_job($1)", job["job_id"])
        held = await connection.fetch(_HOLD, REFRESHED_WITHIN)
        if held and held[0]["have_run"] and not held[0]["are_recent"]:
            _log.warning(
                "Nothing is dropped for now: not every continuous aggregate was refreshed in the last %s. "
                "See timescaledb_information.job_stats, and whether background workers run.",
                REFRESHED_WITHIN,
            )
        return False

    async def holdings(self, connection: Connection) -> Holdings:
        """Chunks in rows and in columns, the watermarks of aggregates, and policies."""
        compressed = await connection.fetch(_COMPRESSED)
        return Holdings(
            parts=await chunks(connection),
            columnstore={name: Columnstore(before, after) for name, before, after in compressed},
            rolled_until=dict(await connection.fetch(_ROLLED_UNTIL)),  # type: ignore[arg-type]
            touched=None,
            jobs=[Job(*row) for row in await connection.fetch(_NEXT_JOBS)],
        )


def policies(retention: Retention, left: Retention) -> Iterator[Policy]:
    """All that there should be: refreshes first, since what is not refreshed may be neither compressed nor dropped.

    Refreshes go by what is `left` of what would be kept: over chunks that are gone they would erase rollups.
    """
    for aggregate, width in AGGREGATES.items():
        start, end, often, seldom = _REFRESHES[width]
        oldest = left.refreshed_for[width]
        if start is None or (oldest is not None and oldest <= start + 2 * end):
            yield Policy(REFRESH, aggregate, (oldest, end), often)
        else:
            yield Policy(REFRESH, aggregate, (start, end), often)
            yield Policy(REFRESH, aggregate, (oldest, start), seldom)
    for table, kept in retention.by_table.items():
        yield Policy(COLUMNSTORE, table, (COMPRESSED_AFTER,))
        if kept is not None:
            yield Policy(RETENTION, table, (kept,), DAY / 4)


def _bounds(job: asyncpg.Record) -> tuple[timedelta | None, ...]:
    return (job["start_offset"], job["end_offset"]) if job["kind"] == REFRESH else (job["after"],)


async def _replace(connection: Connection, old: list[int], new: list[Policy]) -> None:
    async with connection.transaction():
        for job_id in old:
            await connection.execute("SELECT delete_job($1)", job_id)
        for policy in new:
            arguments: list[Any] = [policy.table, *policy.bounds, *([] if policy.every is None else [policy.every])]
            if policy.kind == REFRESH:
                arguments.append(await connection.fetchval(BUCKETS_A_BATCH))
            await connection.execute(_ADD[policy.kind], *arguments)
