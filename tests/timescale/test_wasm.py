"""The harness itself: a TimescaleDB server that starts, comes clean, and does not outlive its parent."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.timescale.wasm import WasmError, WasmServer, timescale_wasm, wasm_server

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECONDS = 20.0

HYPERTABLE = """
    CREATE EXTENSION IF NOT EXISTS timescaledb;
    CREATE SCHEMA aiwm;
    CREATE TABLE aiwm.readings (
        node_key integer, gpu smallint, time timestamptz, value float8, PRIMARY KEY (node_key, gpu, time)
    );
    SELECT create_hypertable('aiwm.readings', by_range('time', interval '1 day'), create_default_indexes => false);
"""
HOURLY = """
    CREATE MATERIALIZED VIEW aiwm.hourly WITH (timescaledb.continuous) AS
    SELECT node_key, time_bucket('1 hour', time) AS hour, avg(value) AS value
    FROM aiwm.readings GROUP BY 1, 2 WITH NO DATA
"""
INSERT = "INSERT INTO aiwm.readings VALUES (1, 0, $1, 1.0)"
CHUNKS = "SELECT count(*) FROM show_chunks('aiwm.readings')"

# A process of its own, so that it can be killed; its query keeps the server busy for longer than the test.
PARENT = """
import asyncio, asyncpg
from tests.timescale.wasm import wasm_server

async def keep_busy(url):
    connection = await asyncpg.connect(url)
    busy = asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))
    await asyncio.sleep(0.2)
    print(url, flush=True)
    await busy

with wasm_server() as server:
    asyncio.run(keep_busy(server.url))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[WasmServer]:
    """One server for the tests of this module; each begins by cleaning it."""
    with wasm_server() as running:
        yield running


@asynccontextmanager
async def connected(url: str, **settings: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection of one's own."""
    connection = await asyncpg.connect(url, timeout=SECONDS, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close(timeout=SECONDS)


async def test_community_features_work_from_the_url_alone() -> None:
    """A hypertable takes a COPY, refuses a duplicate, and its continuous aggregate refreshes."""
    rows = [(1, 0, NOON, 1.0), (1, 1, NOON, 2.0)]
    with timescale_wasm() as url:
        async with connected(url) as connection:
            await connection.execute(HYPERTABLE)
            await connection.execute(HOURLY)
            await connection.copy_records_to_table("readings", schema_name="aiwm", records=rows)
            with pytest.raises(asyncpg.UniqueViolationError):
                await connection.copy_records_to_table("readings", schema_name="aiwm", records=rows)
            await connection.execute("CALL refresh_continuous_aggregate('aiwm.hourly', NULL, NULL)")
            assert await connection.fetchval("SHOW timescaledb.license") == "timescale"
            assert await connection.fetchval("SELECT value FROM aiwm.hourly") == 1.5


async def test_restore_goes_back_to_what_was_kept(server: WasmServer) -> None:
    """Rows, tables and roles made since then are gone, what was dropped is back; a hypertable that was kept still is one."""
    server.clear()
    async with connected(server.url) as connection:
        await connection.execute(HYPERTABLE)
    server.keep()
    for _ in range(2):
        async with connected(server.url) as connection:
            assert await connection.fetchval("SELECT to_regclass('public.litter')") is None
            await connection.execute(INSERT, NOON)
            await connection.execute("CREATE TABLE public.litter (); CREATE ROLE passer_by")
            assert await connection.fetchval(CHUNKS) == 1
            await connection.execute(
                "BEGIN; DROP EXTENSION timescaledb CASCADE; COMMIT; BEGIN; DROP SCHEMA aiwm CASCADE"
            )
        server.restore()


async def test_files_and_memory_go_back_together(server: WasmServer) -> None:
    """What was written, cut off and deleted in between is all as it was, be it in memory or already in its file."""
    server.clear()
    async with connected(server.url) as connection:
        await connection.execute("CREATE TABLE many AS SELECT n, repeat('x', 500) FROM generate_series(1, 9999) AS n")
        await connection.execute("CREATE TABLE few AS SELECT n FROM generate_series(1, 9) AS n; CHECKPOINT")
    server.keep()
    for _ in range(2):
        async with connected(server.url) as connection:
            assert await connection.fetchval("SELECT sum(n) FROM many") == 9999 * 5000
            assert await connection.fetchval("SELECT sum(n) FROM few") == 45
            await connection.execute("TRUNCATE many; DROP TABLE few; CHECKPOINT")
            await connection.execute("CREATE TABLE others AS SELECT repeat('y', 500) FROM generate_series(1, 9999)")
        server.restore()


async def test_what_was_loaded_since_is_told() -> None:
    """A library cannot be taken out again: better an error than a backend that jumps into nothing."""
    with wasm_server() as spoilt:
        async with connected(spoilt.url) as connection:
            await connection.execute("LOAD 'utf8_and_win'")
        with pytest.raises(WasmError, match="a library was loaded since"):
            spoilt.restore()


async def test_clear_drops_everything_and_hangs_up(server: WasmServer) -> None:
    """Even one that a transaction is busy with; after it the same schema can be made again."""
    server.clear()
    for _ in range(2):
        connection = await asyncpg.connect(server.url, timeout=SECONDS)
        await connection.execute(HYPERTABLE)
        await connection.execute(HOURLY)
        await connection.execute("BEGIN; CREATE ROLE passer_by")
        await connection.execute(INSERT, NOON)
        server.clear()
        with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
            await connection.execute("COMMIT")


async def test_connections_take_turns_and_keep_to_themselves(server: WasmServer) -> None:
    """A statement waits for the end of another's transaction; settings are each connection's own."""
    async with (
        connected(server.url, application_name="first") as first,
        connected(server.url, application_name="second") as second,
    ):
        async with first.transaction():
            await first.execute("SELECT 1")
            waiting = asyncio.create_task(second.fetchval("SHOW application_name"))
            assert await first.fetchval("SHOW application_name") == "first"
            assert not waiting.done()
        assert await asyncio.wait_for(waiting, SECONDS) == "second"


def test_the_server_dies_with_its_parent() -> None:
    """Also of a parent that was killed, also in the midst of a query."""
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url = urlsplit(parent.stdout.readline().strip())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + SECONDS
    while _answers(url.hostname or "", url.port or 0):
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.05)


def test_a_dead_server_says_so() -> None:
    """An order to a server that is gone is an error, not a wait."""
    with wasm_server() as doomed:
        os.kill(doomed.pid, signal.SIGKILL)
        with pytest.raises(WasmError, match="TimescaleDB server"):
            doomed.restore()


def _answers(host: str, port: int) -> bool:
    try:
        with closing(socket.create_connection((host, port), timeout=SECONDS)):
            return True
    except OSError:
        return False
