"""The command `aiwm`. Nothing is decided here: settings are read, errors become one sentence each."""

import asyncio
import os
import sys
from pathlib import Path

import click
import msgspec

from app import gateways, logs, server, status_report
from app.clock import SystemClock
from app.domain.auth import Tokens
from app.errors import StartupError, StorageUnavailable
from app.model import CallerRole, Owner
from app.nodes_cli.command import nodes_command
from app.settings import MAX_WORKERS, Settings, read, with_secret
from app.simulate.command import simulate_command
from app.storage import analysts, schema, status
from app.storage.database import Database
from app.storage.engines.choice import installed_engine
from app.worker import command

ADMIN_TOKEN_SECONDS = 7 * 86_400


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aiwm-node-telemetry", message="%(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """AIWM Node Telemetry: the status and the telemetry of GPU nodes, kept in TimescaleDB."""
    settings, warnings = read(os.environ)
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    logs.configure(settings.log_level)
    context.obj = settings
    # Signing is the service's business, not a client's: clients are handed what they default to.
    simulator = {"url": settings.url, "token": lambda: _client_token(settings, "simulator")}
    terminal = {"url": settings.url, "token": lambda: _client_token(settings, "terminal")}
    context.default_map = {"simulate": simulator, "nodes": dict.fromkeys(nodes_command.commands, terminal)}


@cli.command()
@click.option("--workers", type=click.IntRange(1, MAX_WORKERS), help="Gateway processes (AIWM_WORKERS).")
@click.option("--show-token", is_flag=True, help="Print an administrator token also where this is no terminal.")
@click.pass_obj
def serve(settings: Settings, workers: int | None, show_token: bool) -> None:  # noqa: FBT001
    """Run the service until Ctrl-C or SIGTERM."""
    settings = with_secret(settings if workers is None else msgspec.structs.replace(settings, workers=workers))
    gateways.serve(settings, lambda: _announce(settings, show_token=show_token or sys.stdout.isatty()))


@cli.command()
@click.option("--sub", "subject", required=True, help="User id: becomes createdBy and updatedBy.")
@click.option("--org", "org_id", help="Organisation id; an admin may go without.")
@click.option("--role", type=click.Choice([role.value for role in CallerRole]), default=CallerRole.VIEWER.value)
@click.option("--expires-in", type=click.IntRange(1), default=3600, show_default=True, help="Seconds.")
@click.pass_obj
def token(settings: Settings, subject: str, org_id: str | None, role: str, expires_in: int) -> None:
    """Print one portal token and nothing else."""
    if org_id is None and role != CallerRole.ADMIN:
        raise click.UsageError("--org is required: only an admin may go without an organisation.")
    if not settings.trust.takes_own:
        click.echo(
            "Warning: the service refuses this token, since AIWM_JWT_JWKS_URL is set: take one of the identity "
            "provider's, or set AIWM_JWT_ALLOW_HS256=true.",
            err=True,
        )
    click.echo(_portal_token(settings, subject, CallerRole(role), org_id, expires_in))


@cli.group()
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
@click.pass_obj
def analyst(settings: Settings, login: str, org_id: str | None, password_file: Path | None) -> None:
    """Make a read-only login for SQL, or give it a new password."""
    password = analysts.read_password(password_file) if password_file else analysts.new_password()
    with server.visited_url(settings) as url:
        asyncio.run(_make_analyst(url, settings, analysts.Analyst(login, org_id), password))
    click.echo(f"The login {login} sees {'organisation ' + org_id if org_id else 'every organisation'}.", err=True)
    if password_file is None:
        click.echo(password)


cli.add_command(simulate_command)
cli.add_command(nodes_command)


@cli.command(
    "worker", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def worker(arguments: tuple[str, ...]) -> None:
    """The daemon that runs on a GPU machine: `aiwm worker run`."""
    # Its own command line, since on GPU machines there is no click.
    command.main(arguments, program="aiwm worker")


def main() -> None:
    """Run a command; what a person can mend is told in one sentence, without a traceback."""
    try:
        cli(prog_name="aiwm", auto_envvar_prefix=None)
    except (StartupError, StorageUnavailable) as error:
        click.echo(f"aiwm: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _announce(settings: Settings, *, show_token: bool) -> None:
    lines = [
        "",
        "AIWM Node Telemetry answers.",
        f"  REST       {settings.url}",
        f"  WebSocket  {settings.websocket_url}/ws/node",
        f"  OpenAPI    {settings.url}/schema",
        f"  Database   {'embedded PostgreSQL in ' + str(settings.data_dir.resolve()) if settings.embedded else 'yours'}",
    ]
    if settings.embedded and show_token and settings.trust.takes_own:
        admin = _portal_token(settings, "admin", CallerRole.ADMIN, "local", ADMIN_TOKEN_SECONDS)
        lines += ["  Administrator token, good for 7 days:", "", admin]
    lines += ["", "Ctrl-C stops everything.", ""]
    click.echo("\n".join(lines))


def _client_token(settings: Settings, subject: str) -> str:
    """For a client on the service's own machine. A client never makes a secret: the service would not know it."""
    if settings.token is not None:
        return settings.token
    return _portal_token(with_secret(settings, may_generate=False), subject, CallerRole.OPERATOR, "local", 86_400)


def _portal_token(settings: Settings, subject: str, role: CallerRole, org_id: str | None, expires_in: int) -> str:
    tokens = Tokens(with_secret(settings).jwt_secret, SystemClock())
    return tokens.issue_portal(subject, role, Owner(org_id=org_id), expires_in)


async def _make_analyst(url: str, settings: Settings, analyst: analysts.Analyst, password: str) -> None:
    database = Database(url, pool_size=1)
    try:
        await server.wait_for(database, settings, SystemClock())
        await analysts.make(database, analyst, password)
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


if __name__ == "__main__":
    main()
