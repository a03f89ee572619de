"""A login of one organisation with a connection of its own, and all that PostgreSQL lets it say."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import asyncpg
import pytest
from sqlalchemy import text

from app.domain.maintenance import JOB
from app.storage import analysts, gateways, schema
from app.storage.analysts import Analyst
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.news import listening
from tests.databases import PASSWORD, SERVERS, as_login
from tests.integration.fleet_of_analysts import NODES, seed
from tests.security.sql_attacks import SQL_ATTACKS, SqlAttack

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

MARKS = ("umbrella", "gpu-03", "GPU-3-", f"{3:024x}")
"""What stands in the other organisation's rows and nowhere else."""

pytestmark = pytest.mark.parametrize("database", SERVERS, indirect=True)


@pytest.fixture
async def logins(database: Database, engine: StorageEngine) -> AsyncIterator[Database]:
    """A fleet of two organisations, with statistics; `bound` sees the one, `free` both."""
    await seed(database, engine)
    async with database.driver_transaction() as connection:
        await connection.execute("ANALYZE")
    await analysts.make(database, Analyst("bound", "acme"), PASSWORD)
    await analysts.make(database, Analyst("free", None), PASSWORD)
    yield database
    async with database.transaction() as connection:
        for name in ("bound", "free"):
            await connection.execute(text(f"DROP OWNED BY {name} CASCADE"))
            await connection.execute(text(f"DROP ROLE {name}"))


async def told(connection: Connection, statement: str) -> list[str]:
    """What comes back of a statement: rows, notices, or an error with all that it has to say."""
    heard: list[str] = []

    def hear(_: object, message: asyncpg.PostgresLogMessage) -> None:
        heard.extend(str(each) for each in message.as_dict().values())

    connection.add_log_listener(hear)
    try:
        heard.extend(str(tuple(row)) for row in await connection.fetch(statement))
    except asyncpg.PostgresError as error:
        heard.extend(str(each) for each in error.as_dict().values() if each != statement)
    finally:
        connection.remove_log_listener(hear)
    return heard


@pytest.mark.parametrize("attack", SQL_ATTACKS, ids=lambda each: each.name)
async def test_no_attack_tells_of_another_organisation(logins: Database, attack: SqlAttack) -> None:
    """Not by rows, notices, errors nor plans; and where it should work on the own rows, it does."""
    if logins.pool_size == 1 and attack.name == "another role":
        return  # this server has one backend, which began as its superuser's: it may become anybody
    async with as_login(logins, "bound") as connection:
        await connection.execute("SET default_transaction_read_only = off")
        heard = [line for statement in attack.script for line in await told(connection, statement)]
    assert not {mark for mark in MARKS if any(mark in line for line in heard)}
    assert attack.tells is None or any(attack.tells in line for line in heard), heard


async def test_whoever_sees_all_would_have_been_told(logins: Database) -> None:
    """The attacks are held against marks that are really there to be seen."""
    async with as_login(logins, "free") as connection:
        await connection.execute("SET default_transaction_read_only = off")
        for attack in SQL_ATTACKS[:2]:
            heard = [line for statement in attack.script for line in await told(connection, statement)]
            assert any("gpu-03" in line for line in heard), attack.name


async def test_nothing_that_can_be_read_has_another_organisations_rows(logins: Database) -> None:
    """Every table and view of every schema that the login may read, catalogues and those of extensions included."""
    async with as_login(logins, "bound") as connection:
        rows = await connection.fetch("""
            SELECT c.oid::regclass::text AS name FROM pg_class c
            WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND has_table_privilege(c.oid, 'SELECT')
            AND has_schema_privilege(c.relnamespace, 'USAGE')
        """)
        names = [row["name"] for row in rows]
        assert {"history.nodes", "pg_stats", "pg_stat_activity"} <= {
            f"history.{each}" if each == "nodes" else each for each in names
        }
        for name in sorted(names):
            async with connection.transaction():
                heard = await told(connection, f"SELECT whole::text FROM {name} AS whole")
            assert not {mark for mark in MARKS if any(mark in line for line in heard)}, name


async def test_the_private_schema_is_closed(logins: Database) -> None:
    """Neither a table of it can be read nor a function run, those of its partitions and chunks included."""
    async with as_login(logins, "bound") as connection:
        open_to_it = await connection.fetch("""
            SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE (nspname = 'aiwm' OR nspname LIKE '\\_timescaledb%' AND relname ~ '^(_hyper|_materialized|_partial|_direct|compress_hyper)')
            AND relkind IN ('r', 'p', 'v', 'm') AND has_table_privilege(c.oid, 'SELECT')
            AND has_schema_privilege(n.oid, 'USAGE')
        """)
        assert [row["name"] for row in open_to_it] == []
        assert not await connection.fetchval("SELECT has_schema_privilege('aiwm', 'USAGE')")


@pytest.mark.parametrize("absent", ["umbrell", "umbrella's", "nowhere"])
async def test_what_is_foreign_answers_as_what_is_not_there(logins: Database, absent: str) -> None:
    """The same rows and the same errors for another organisation's names as for nobody's."""
    questions = (
        "SELECT count(*) FROM history.nodes WHERE org_id = $1",
        "SELECT count(*) FROM history.gpu_metrics WHERE org_id = $1",
        "SELECT 1 / count(*) FROM history.nodes WHERE org_id = $1",
        "SELECT max(time) FROM history.node_metrics WHERE org_id LIKE $1",
        "SELECT (org_id || $1)::integer FROM history.nodes ORDER BY node_id LIMIT 1",
    )
    async with as_login(logins, "bound") as connection:
        for question in questions:
            assert await answer(connection, question, "umbrella") == await answer(connection, question, absent)


async def answer(connection: Connection, question: str, asked: str) -> str:
    try:
        return str(await connection.fetchval(question, asked))
    except asyncpg.PostgresError as error:
        return str(error).replace(asked, "…")


async def test_news_between_gateways_cannot_be_overheard(logins: Database) -> None:
    """Everybody may LISTEN and NOTIFY: the channel's name is what keeps others out."""
    heard: list[str] = []
    overheard: list[str] = []
    async with as_login(logins, "bound") as connection, listening(logins, 1, heard.append):
        for channel in ("aiwm_gateway_1", "aiwm_1", "aiwm"):
            await connection.add_listener(channel, lambda *news: overheard.append(str(news)))
            await connection.execute(f"NOTIFY {channel}, 'forged'")
        async with logins.transaction() as told_by:
            await told_by.execute(text("SELECT pg_notify(gateway_channel(1), 'a node')"))
        async with asyncio.timeout(10):
            while not heard:
                await asyncio.sleep(0.01)
        await connection.execute("SELECT 1")
        assert await told(connection, "SELECT aiwm.gateway_channel(1)") != []
    assert heard == ["a node"]
    assert not any("a node" in each for each in overheard)


@pytest.mark.parametrize("view", ["nodes", "gpus", "gpu_metrics", "node_metrics_1h", "heartbeats", "node_events"])
async def test_what_runs_on_rows_runs_on_the_own_ones_alone(logins: Database, view: str) -> None:
    """Whether it is an error, a wait or a cast that a clock could tell of: a sequence counts how often it came to it."""
    for login in ("bound", "free"):
        async with as_login(logins, login) as connection:
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute("CREATE TEMP SEQUENCE tried")
            own = await connection.fetchval(f"SELECT count(*) FROM history.{view}")
            await connection.fetch(f"SELECT 1 FROM history.{view} WHERE nextval('tried') < 0")
            assert await connection.fetchval("SELECT last_value FROM tried") == own > 0
            await connection.execute("DROP SEQUENCE tried")


async def test_no_login_holds_up_the_service(logins: Database, engine: StorageEngine) -> None:
    """Everybody may take any advisory lock, and keep it: the sweep, maintenance, partitions and migrations ask for none."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    names = ("aiwm.sweep", JOB, "aiwm.make_partitions", "aiwm.migrate")
    async with as_login(logins, "bound") as connection:
        for name in names:
            assert await connection.fetchval("SELECT pg_try_advisory_lock(hashtext($1))", name) is True
        for statement in (
            "SELECT * FROM aiwm.jobs",
            "SELECT FROM aiwm.jobs FOR UPDATE",
            "DO $$ BEGIN LOCK TABLE aiwm.alembic_version; END $$",
        ):
            assert "permission denied" in str(await told(connection, statement))
        async with asyncio.timeout(20):
            await schema.upgrade(logins)
            async with logins.transaction() as own:
                await engine.make_room(own, [now.date()])
                await own.execute(text("UPDATE node_state SET alive_at = :then"), {"then": now - timedelta(days=1)})
            async with logins.driver_transaction() as own_driver:
                assert await gateways.sweep(own_driver, now, None, now, timedelta(0)) == len(NODES)
            async with logins.alone(JOB) as job:
                assert job is not None


async def test_a_job_ends_with_the_connection_of_whoever_was_at_it(logins: Database) -> None:
    """As an advisory lock does: a process that died holds up nobody."""
    async with logins.alone(JOB) as job:
        assert job is not None
        job.terminate()
    async with asyncio.timeout(20):
        while True:
            async with logins.alone(JOB) as job:
                if job is not None:
                    return
            await asyncio.sleep(0.01)
