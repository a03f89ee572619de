"""TimescaleDB's jobs in a database that has existed for minutes: each has run once, and succeeded.

They are run here rather than by the server's own scheduler, which may be busy, or have no workers.
"""

from typing import Final

import asyncpg

_OURS: Final = """
    SELECT job_id, schedule_interval
    FROM timescaledb_information.jobs LEFT JOIN timescaledb_information.job_stats USING (job_id)
    WHERE jobs.hypertable_schema = 'aiwm' AND scheduled AND last_successful_finish IS NULL
    ORDER BY proc_name <> 'policy_refresh_continuous_aggregate', job_id
"""
# As the scheduler notes it; the catalog has no function for that.
_NOTED: Final = """
    INSERT INTO _timescaledb_internal.bgw_job_stat (job_id, last_start, last_finish, next_start, last_successful_finish,
        last_run_success, total_runs, total_duration, total_duration_failures, total_successes, total_failures,
        total_crashes, consecutive_failures, consecutive_crashes, flags)
    SELECT $1, $2, clock_timestamp(), clock_timestamp() + $3, clock_timestamp(),
        true, 1, clock_timestamp() - $2, interval '0', 1, 0, 0, 0, 0, 0
    ON CONFLICT (job_id) DO NOTHING
"""


async def hold(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Keep the server's scheduler out of this database."""
    await connection.execute("SELECT _timescaledb_functions.stop_background_workers()")


async def run(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Run each job that never ran; those of refreshing first, since what is not refreshed may not be compressed."""
    for job_id, interval in await connection.fetch(_OURS):
        began = await connection.fetchval("SELECT clock_timestamp()")
        await connection.execute("CALL run_job($1)", job_id, timeout=600)
        await connection.execute(_NOTED, job_id, began, interval)
