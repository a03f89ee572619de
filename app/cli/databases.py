"""`aiwm db`: the schema of the database, what it holds, and who else may read it."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from app import server, status_report
from app.clock import SystemClock
from app.settings import Settings
from app.storage import analysts, schema, status
from app.storage.database import Database
from app.storage.engines.choice import installed_engine


@click.group()
def db() -> None:
    """The database's schema."""


@db.command()
@click.pass_obj
def upgrade(settings: Settings) -> None:
    """Bring the schema up to this program's revision."""
    with server.visited_url(settings) as url:
        asyncio.run(_with_database(url, settings, upgrade=True))
    click.echo(f"The schema is at revision {schema.head()}.")


@db.command()
@click.pass_obj
def current(settings: Settings) -> None:
    """Print the revision of the schema; exit 1 where it is not this program's."""
    with server.visited_url(settings) as url:
        revision = asyncio.run(_with_database(url, settings, upgrade=False))
    click.echo(revision or "none")
    sys.exit(0 if revision == schema.head() else 1)


@db.command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
@click.pass_obj
def db_status(settings: Settings, as_json: bool) -> None:  # noqa: FBT001
    """Print what the storage engine is and holds: sizes, compression, rollups, jobs."""
    with server.visited_url(settings) as url:
        found = asyncio.run(_status(url, settings))
    click.echo((status_report.as_json if as_json else status_report.as_text)(settings, url, found))


@db.command()
@click.option("--role", "login", required=True, help="Name of the login.")
@click.option("--org", "org_id", help="The one organisation it sees; without, all of them.")
@click.option("--password-file", type=click.Path(path_type=Path, exists=True), help="Else one is made and printed.")
@click.option("--drop", is_flag=True, help="Drop the login instead.")
@click.pass_obj
def analyst(settings: Settings, login: str, org_id: str | None, password_file: Path | None, drop: bool) -> None:  # noqa: FBT001
    """Make a read-only login for SQL, give it a new password, or drop it."""
    if drop:
        if org_id is not None or password_file is not None:
            raise click.UsageError("--drop goes with --role alone.")
        with server.visited_url(settings) as url:
            asyncio.run(_with_analysts(url, settings, lambda database: analysts.drop(database, login)))
        click.echo(f"The login {login} is dropped.", err=True)
        return
    password = analysts.read_password(password_file) if password_file else analysts.new_password()
    with server.visited_url(settings) as url:
        made = analysts.Analyst(login, org_id)
        asyncio.run(_with_analysts(url, settings, lambda database: analysts.make(database, made, password)))
    click.echo(f"The login {login} sees {'organisation ' + org_id if org_id else 'every organisation'}.", err=True)
    if password_file is None:
        click.echo(password)


async def _with_analysts(url: str, settings: Settings, act: Callable[[Database], Awaitable[None]]) -> None:
    database = Database(url, pool_size=1)
    try:
        await server.wait_for(database, settings, SystemClock())
        await act(database)
    finally:
        await database.close()


async def _status(url: str, settings: Settings) -> status.DatabaseStatus:
    database, clock = Database(url, pool_size=1), SystemClock()
    try:
        await server.wait_for(database, settings, clock)
        revision = await status.revision(database)
        return await status.read(database, await installed_engine(database), revision, settings.retention, clock.now())
    finally:
        await database.close()


async def _with_database(url: str, settings: Settings, *, upgrade: bool) -> str | None:
    database = Database(url)
    try:
        await server.wait_for(database, settings, SystemClock())
        if upgrade:
            await schema.upgrade(database)
        return await schema.current(database)
    finally:
        await database.close()
