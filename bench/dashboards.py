"""How long every query of the dashboards takes on the benchmark fleet, at the range that its dashboard opens with.

They are asked as Grafana asks them: by the login of its data source, expanded for a screen of 1,920 pixels, with All
chosen of each variable that has it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from statistics import median
from time import perf_counter
from typing import Any, Final, NamedTuple

from app.storage import analysts
from app.storage.analysts import Analyst
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from bench.history import loaded_fleet
from tests.dashboards.asking import Connection, ask, choices, expanded, options
from tests.dashboards.boards import Json, default_range, queries, read_boards
from tests.databases import PASSWORD, as_login

BUDGET_MS: Final = 100.0
RUNS: Final = 5
SLOWEST: Final = 20
LOGIN: Final = "aiwm_bench_grafana"

# What the samples of the fleet do not bring along, and dashboards ask for: a day of it.
_HEARTBEATS: Final = """
    INSERT INTO heartbeats (node_key, time, status, cpu_usage, ram_usage, active_deployments, uptime_seconds)
    SELECT node_key, $1::timestamptz - n * interval '30 seconds', 'online', 450, 620, 2, 3600
    FROM nodes, generate_series(0, 2879) n
"""
_STATUSES: Final = """
    UPDATE node_state SET status = CASE status WHEN 'online' THEN 'offline' ELSE 'online' END,
        status_changed_at = $1::timestamptz - make_interval(hours => $2::integer)
    WHERE node_key % 10 = $2::integer % 10
"""
_INGEST: Final = """
    INSERT INTO ingest_minutes (minute, writer, frames, rows, late_frames, duplicates, delay_ms, longest_delay_ms)
    SELECT date_trunc('minute', $1::timestamptz) - n * interval '1 minute', writer, 300, 1800, 1, 0, 60000, 900
    FROM generate_series(0, 1439) n, generate_series(1, 2) writer
"""


class Taken(NamedTuple):
    """The median time of a query in milliseconds, whose it is, and how many rows it gave."""

    milliseconds: float
    dashboard: str
    place: str
    rows: int


async def bench(url: str) -> None:
    """Print the slowest queries, and how many are over budget."""
    async with loaded_fleet(url) as (database, engine, now):
        await _fill_more(database, engine, now)
        async with _grafana(database) as connection:
            taken = [one for name, board in read_boards().items() for one in await _times(connection, name, board)]
    taken.sort(reverse=True)
    print("| dashboard | query | rows | median | budget |\n| --- | --- | --- | --- | --- |")
    for one in taken[:SLOWEST]:
        over = "over" if one.milliseconds > BUDGET_MS else ""
        print(f"| {one.dashboard} | {one.place} | {one.rows:,} | {one.milliseconds:.1f} ms | {over} |")
    over_budget = sum(one.milliseconds > BUDGET_MS for one in taken)
    print(f"\n{len(taken)} queries, {over_budget} of them over {BUDGET_MS:g} ms", flush=True)


async def _fill_more(database: Database, engine: StorageEngine, now: datetime) -> None:
    async with database.transaction() as connection:
        await engine.make_room(connection, [now.date()])
    async with database.driver_transaction() as driver:
        await driver.execute(_HEARTBEATS, now, timeout=300)
        await driver.execute(_INGEST, now)
        for hours in range(24, 0, -1):
            await driver.execute(_STATUSES, now, hours)
        await driver.execute(
            "UPDATE node_state SET status = 'online', status_changed_at = $1 WHERE status = 'offline'", now
        )
    async with database.alone("bench") as alone:
        if alone is not None:
            await alone.execute("VACUUM ANALYZE", timeout=600)


@asynccontextmanager
async def _grafana(database: Database) -> AsyncIterator[Connection]:
    """A connection of a login that sees every organisation and the views alone."""
    await analysts.make(database, Analyst(LOGIN, None), PASSWORD)
    try:
        async with as_login(database, LOGIN) as connection:
            yield connection
    finally:
        async with database.driver_transaction() as driver:
            await driver.execute(f"DROP ROLE {LOGIN}")


async def _times(connection: Connection, name: str, board: Json) -> list[Taken]:
    length = default_range(board)
    values = choices(board, await options(connection, board, length))["All"]
    found = []
    for query in queries(board):
        took: list[float] = []
        rows: list[Any] = []
        for _ in range(1 + RUNS):  # the first one warms caches and does not count
            sql = expanded(query, values, length)
            began = perf_counter()
            rows = list((await ask(connection, sql)).rows)
            took.append((perf_counter() - began) * 1000)
        found.append(Taken(median(took[1:]), name, query.place, len(rows)))
    return found
