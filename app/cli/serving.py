"""`aiwm serve`: the service, and what it says when it answers."""

import sys
from typing import Final

import click
import msgspec

from app import gateways
from app.cli.tokens import portal_token
from app.model import CallerRole
from app.settings import MAX_WORKERS, Settings, with_secret

ADMIN_TOKEN_SECONDS: Final = 7 * 86_400


@click.command()
@click.option("--workers", type=click.IntRange(1, MAX_WORKERS), help="Gateway processes (AIWM_WORKERS).")
@click.option("--show-token", is_flag=True, help="Print an administrator token also where this is no terminal.")
@click.pass_obj
def serve(settings: Settings, workers: int | None, show_token: bool) -> None:  # noqa: FBT001
    """Run the service until Ctrl-C or SIGTERM."""
    settings = with_secret(settings if workers is None else msgspec.structs.replace(settings, workers=workers))
    gateways.serve(settings, lambda: _announce(settings, show_token=show_token or sys.stdout.isatty()))


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
        admin = portal_token(settings, "admin", CallerRole.ADMIN, "local", ADMIN_TOKEN_SECONDS)
        lines += ["  Administrator token, good for 7 days:", "", admin]
    lines += ["", "Ctrl-C stops everything.", ""]
    click.echo("\n".join(lines))
