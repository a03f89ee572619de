"""Logins for SQL: what they may see, and that they cannot see more."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import text

from app.errors import StartupError
from app.storage import analysts, schema
from app.storage.analysts import Analyst
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from tests.databases import PASSWORD, WITH_ROLES, Native, Server, as_login
from tests.integration.fleet_of_analysts import START, seed

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def logins(database: Database, engine: StorageEngine) -> AsyncIterator[Database]:
    """A fleet of two organisations; `bound` sees the one, `free` both, `stray` is in the group without a row."""
    await seed(database, engine)
    names = ("bound", "free", "stray")
    await analysts.make(database, Analyst("bound", "acme"), PASSWORD)
    await analysts.make(database, Analyst("free", None), PASSWORD)
    async with database.transaction() as connection:
        await connection.execute(text("CREATE ROLE stray LOGIN IN ROLE aiwm_analyst"))
    yield database
    async with database.transaction() as connection:
        for name in names:
            await connection.execute(text(f"DROP ROLE {name}"))


async def views(connection: Connection, *, of_nodes: bool = True) -> list[str]:
    """The names of all views of schema history that tell of nodes, or of the platform."""
    rows = await connection.fetch(
        "SELECT viewname FROM pg_views WHERE schemaname = 'history' AND viewname <> 'login_events' ORDER BY 1"
    )
    return [row["viewname"] for row in rows if row["viewname"].startswith("platform_") is not of_nodes]


async def test_every_view_shows_a_login_its_own_organisation_alone(logins: Database) -> None:
    """Bound: one org. Free: both. In the group without a row: nothing."""
    for login, orgs in (("bound", {"acme"}), ("free", {"acme", "umbrella"}), ("stray", set[str]())):
        async with as_login(logins, login) as connection:
            names = await views(connection)
            assert len(names) == 17
            for name in names:
                rows = await connection.fetch(f"SELECT DISTINCT org_id FROM history.{name}")
                assert {row["org_id"] for row in rows} == orgs, (login, name)


async def test_the_platform_is_shown_to_those_who_see_every_organisation(logins: Database) -> None:
    """Its sizes and its load are no tenant's business."""
    for login in ("bound", "free", "stray"):
        async with as_login(logins, login) as connection:
            names = await views(connection, of_nodes=False)
            shown = [name for name in names if await connection.fetchval(f"SELECT count(*) FROM history.{name}")]
            assert ("platform_tables" in shown) is (login == "free"), login
            assert not shown or login == "free", (login, shown)


async def test_the_group_is_no_way_out(logins: Database, server: Server) -> None:
    """SET ROLE changes who asks, not whose session it is."""
    async with as_login(logins, "bound") as connection:
        await connection.execute("SET ROLE aiwm_analyst")
        assert await connection.fetchval("SELECT count(DISTINCT org_id) FROM history.nodes") == 1
        if isinstance(server, Native):  # WebAssembly's one backend is the superuser's, whoever asks
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("SET SESSION AUTHORIZATION free")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM aiwm.nodes",
        "SELECT * FROM aiwm.gpu_metrics_1h",
        "SELECT * FROM aiwm.analysts",
        "SELECT * FROM aiwm.visible_nodes",
        "UPDATE aiwm.analysts SET org_id = NULL",
        "INSERT INTO aiwm.analysts (login) VALUES ('bound')",
        "SELECT aiwm.make_analyst('bound', '', NULL, 1, 1)",
        "SELECT aiwm.platform_tables()",
        "CREATE TABLE history.mine (a integer)",
        "CREATE TABLE public.mine (a integer)",
        "CREATE SCHEMA mine",
        "CREATE OR REPLACE VIEW history.nodes AS SELECT 1",
        "ALTER VIEW history.nodes SET (security_barrier = false)",
        "SELECT * FROM pg_authid",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "CREATE ROLE another LOGIN",
        "GRANT aiwm_analyst TO stray",
    ],
)
async def test_nothing_but_the_views_is_theirs(logins: Database, statement: str) -> None:
    """Not even after the login made its session writable."""
    async with as_login(logins, "bound") as connection:
        await connection.execute("SET default_transaction_read_only = off")
        # A schema without USAGE, a table that is another's, a function of the superuser.
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_a_function_that_tells_sees_no_other_rows(logins: Database) -> None:
    """However cheap it says it is: the barrier comes first."""
    async with as_login(logins, "bound") as connection:
        await connection.execute("SET default_transaction_read_only = off")
        heard: list[str] = []
        connection.add_log_listener(lambda _, message: heard.append(message.message))
        await connection.execute("""
            CREATE FUNCTION pg_temp.tell(value text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
            $$ BEGIN RAISE NOTICE 'row of %', value; RETURN true; END $$
        """)
        for name in await views(connection):
            await connection.fetch(f"SELECT 1 FROM history.{name} WHERE pg_temp.tell(org_id)")
        assert set(heard) == {"row of acme"}
        await connection.execute("DROP FUNCTION pg_temp.tell(text)")  # WebAssembly keeps what is temporary
        # An error tells as much as a notice does.
        await connection.fetch("SELECT 1 FROM history.nodes WHERE 1 / (org_id <> 'umbrella')::int = 1")


async def test_time_and_node_filters_reach_the_partitions(logins: Database, engine: StorageEngine) -> None:
    """Behind the barrier too: days that were not asked for are not opened, and a node is found by its index."""
    async with as_login(logins, "bound") as connection:
        node = await connection.fetchval("SELECT min(node_id) FROM history.gpu_metrics")
        whole = await plan(connection, "SELECT * FROM history.gpu_metrics")
        day = await plan(
            connection,
            f"SELECT * FROM history.gpu_metrics WHERE time >= '{START:%Y-%m-%d}Z' AND time < '{START:%Y-%m-%d}T12:00Z' "
            f"AND node_id = '{node}'",
        )
    assert len(partitions(day)) == 1 < len(partitions(whole)), day
    assert "nodes_id_key" in day, day


async def test_devices_are_looked_up_for_those_who_ask_for_them(logins: Database) -> None:
    """A question of the whole fleet that tells no GPUs apart never joins them."""
    async with as_login(logins, "free") as connection:
        for view in ("gpu_heartbeats", "gpu_metrics", "gpu_metrics_5m", "gpu_metrics_1h", "gpu_metrics_1d"):
            joined = await plan(connection, f"SELECT gpu_model, count(*) FROM history.{view} GROUP BY gpu_model")
            alone = await plan(connection, f"SELECT time, count(*) FROM history.{view} GROUP BY time")
            assert (" gpus g" in joined, " gpus g" in alone) == (True, False), (joined, alone)


async def plan(connection: Connection, query: str) -> str:
    """How a query would run. Sequential scans are made dear: tables of tests are too small for an index."""
    await connection.execute("SET enable_seqscan = off")
    return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {query}"))


def partitions(found: str) -> set[str]:
    """The partitions or chunks that a plan opens."""
    words = found.replace("(", " ").split()
    return {word for word in words if word.startswith(("gpu_metrics_p", "_hyper_")) and "_pkey" not in word}


async def test_every_column_says_its_unit(database: Database) -> None:
    """A view or a column of schema history without a comment is a mistake."""
    async with database.transaction() as connection:
        silent = await connection.scalars(
            text("""
                SELECT relname || '.' || coalesce(attname, '') FROM pg_class c
                LEFT JOIN LATERAL (
                    SELECT attname, attnum FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0
                    UNION ALL SELECT NULL, 0
                ) a ON true
                WHERE relnamespace = 'history'::regnamespace AND relkind = 'v'
                AND NOT EXISTS (SELECT FROM pg_description WHERE objoid = c.oid AND objsubid = attnum)
            """)
        )
        assert list(silent) == []


async def test_another_role_is_left_alone(database: Database) -> None:
    """A name that is somebody else's is refused, and a bound login is not widened by forgetting --org."""
    async with database.transaction() as connection:
        await connection.execute(text("CREATE ROLE somebody LOGIN"))
    try:
        with pytest.raises(StartupError, match="somebody exists and is not an analyst"):
            await analysts.make(database, Analyst("somebody", "acme"), PASSWORD)
        for name in ("aiwm_analyst", "", "x" * 64, "pg_mine"):
            with pytest.raises(StartupError, match="cannot be a login"):
                await analysts.make(database, Analyst(name, "acme"), PASSWORD)
        await analysts.make(database, Analyst('o"dd; name', "acme"), PASSWORD)
        await analysts.make(database, Analyst('o"dd; name', "umbrella"), PASSWORD)
        with pytest.raises(StartupError, match="bound to the organisation umbrella"):
            await analysts.make(database, Analyst('o"dd; name', None), PASSWORD)
    finally:
        async with database.transaction() as connection:
            await connection.execute(text("DROP ROLE somebody"))
            await connection.execute(text('DROP ROLE IF EXISTS "o""dd; name"'))


@pytest.mark.parametrize("server", WITH_ROLES, indirect=True)
async def test_a_login_has_limits_of_its_own(logins: Database) -> None:
    """A time limit, read-only, one processor, the views on the path, few connections: the group's would not be inherited."""
    async with as_login(logins, "bound") as connection:
        assert await connection.fetchval("SHOW statement_timeout") == "1min"
        assert await connection.fetchval("SHOW default_transaction_read_only") == "on"
        assert await connection.fetchval("SHOW jit") == "off"
        assert await connection.fetchval("SHOW max_parallel_workers_per_gather") == "0"
        assert await connection.fetchval("SELECT count(*) FROM nodes") == 2
        row = await connection.fetchrow("SELECT rolconnlimit, rolsuper FROM pg_roles WHERE rolname = 'bound'")
        assert tuple(row or ()) == (analysts.CONNECTIONS, False)


@pytest.mark.parametrize("server", WITH_ROLES, indirect=True)
async def test_an_upgrade_reaches_the_logins_that_there_are(logins: Database) -> None:
    """They run on one processor from then on; on the way down they are as they were."""
    settings = text("SELECT rolconfig FROM pg_roles WHERE rolname = 'bound'")
    await schema.downgrade(logins, "0017")
    async with logins.transaction() as connection:
        before = await connection.scalar(settings)
    await schema.upgrade(logins)
    async with logins.transaction() as connection:
        after = await connection.scalar(settings)
    assert after == [*(before or ()), "jit=off", "max_parallel_workers_per_gather=0"]


@pytest.mark.parametrize("server", WITH_ROLES, indirect=True)
async def test_who_may_not_make_roles_is_told_what_to_do(empty_database: Database) -> None:
    """The migration goes through with a warning where the group is not there and cannot be made."""
    async with empty_database.transaction() as connection:
        await connection.execute(text("DROP ROLE IF EXISTS plain"))
        await connection.execute(text("CREATE ROLE plain LOGIN"))
        name = await connection.scalar(text("SELECT current_database()"))
        await connection.execute(text(f"GRANT ALL ON DATABASE {name} TO plain"))
        if await connection.scalar(text("SELECT count(*) FROM pg_available_extensions WHERE name = 'timescaledb'")):
            await connection.execute(text("CREATE EXTENSION timescaledb"))
    parts = urlsplit(empty_database.url)
    plain = Database(parts._replace(netloc=f"plain@{parts.netloc.rpartition('@')[2]}").geturl(), pool_size=1)
    try:
        await schema.upgrade(plain)
        with pytest.raises(StartupError, match="may not make roles"):
            await analysts.make(plain, Analyst("anybody", None), PASSWORD)
    finally:
        await plain.close()
        async with empty_database.transaction() as connection:
            await connection.execute(text("DROP OWNED BY plain CASCADE"))
            await connection.execute(text("DROP ROLE plain"))


@pytest.mark.parametrize("server", WITH_ROLES, indirect=True)
async def test_who_does_not_own_the_database_is_told_so(empty_database: Database) -> None:
    """In a sentence, not by a traceback."""
    async with empty_database.transaction() as connection:
        await connection.execute(text("CREATE ROLE stranger LOGIN"))
    parts = urlsplit(empty_database.url)
    stranger = Database(parts._replace(netloc=f"stranger@{parts.netloc.rpartition('@')[2]}").geturl(), pool_size=1)
    try:
        with pytest.raises(StartupError, match="It has to own the database"):
            await schema.upgrade(stranger)
    finally:
        await stranger.close()
        async with empty_database.transaction() as connection:
            await connection.execute(text("DROP ROLE stranger"))


def test_a_password_file_must_hold_a_password(tmp_path: Path) -> None:
    """Its first line, long enough."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\nmore\n")
    assert analysts.read_password(file) == PASSWORD
    file.write_text("short\n")
    with pytest.raises(StartupError, match="is no password"):
        analysts.read_password(file)


TOLD = "SELECT login, org_id, kind, actor FROM history.login_events WHERE login LIKE 'told%' ORDER BY time, kind"


async def test_logins_have_an_audit_of_their_own(logins: Database) -> None:
    """Who made, changed, bound anew and dropped them, as the org may read it, and nobody can take it away."""
    for org in ("acme", "acme", "umbrella"):
        await analysts.make(logins, Analyst("told", org), PASSWORD)
    await analysts.make(logins, Analyst("told_all", None), PASSWORD)
    for login in ("told", "told_all"):
        await analysts.drop(logins, login)
    async with logins.driver_transaction() as connection:
        owner = await connection.fetchval("SELECT session_user::text")
        told = Counter(tuple(row) for row in await connection.fetch(TOLD))
    acme = [("told", "acme", kind, owner) for kind in ("login_made", "login_changed", "login_dropped")]
    umbrella = [("told", "umbrella", kind, owner) for kind in ("login_made", "login_dropped")]
    everybody = [("told_all", None, kind, owner) for kind in ("login_made", "login_dropped")]
    assert told == Counter([*acme, *umbrella, *everybody])
    for login, seen in (("bound", [*acme]), ("free", [*acme, *umbrella, *everybody]), ("stray", [])):
        async with as_login(logins, login) as connection:
            assert Counter(tuple(row) for row in await connection.fetch(TOLD)) == Counter(seen)
    for statement in ("DELETE FROM login_events", "UPDATE login_events SET actor = ''", "TRUNCATE login_events"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="not for login_events"):
            async with logins.driver_transaction() as connection:
                await connection.execute(statement)


@pytest.mark.parametrize("server", WITH_ROLES, indirect=True)
async def test_what_is_dropped_is_gone(logins: Database) -> None:
    """Nobody comes in by it again, and who is in sees nothing more; of another role, or of none, it is a sentence."""
    await analysts.make(logins, Analyst("gone", "acme"), PASSWORD)
    async with as_login(logins, "gone") as connection:
        await analysts.drop(logins, "gone")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM history.nodes")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        async with as_login(logins, "gone"):
            pass
    for name in ("gone", "stray", "postgres"):
        with pytest.raises(StartupError, match=f"There is no login {name} of an analyst"):
            await analysts.drop(logins, name)
