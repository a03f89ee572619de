"""The command `aiwm`. Nothing is decided here: settings are read, errors become one sentence each."""

import os
import sys
from pkgutil import resolve_name
from typing import Final

import click

from app import logs
from app.cli.tokens import client_token
from app.errors import StartupError, StorageUnavailable
from app.settings import read

_COMMANDS: Final = {
    "db": "app.cli.databases:db",
    "nodes": "app.nodes_cli.command:nodes_command",
    "serve": "app.cli.serving:serve",
    "simulate": "app.simulate.command:simulate_command",
    "token": "app.cli.tokens:token",
    "worker": "app.cli.daemon:worker",
}


class _Commands(click.Group):
    """Each command is imported when it is asked for: most of them need nothing of the service."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 – click's signature
        """In the order of the alphabet."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 – click's too
        """The command of this name; None where there is none."""
        command: click.Command | None = resolve_name(_COMMANDS[cmd_name]) if cmd_name in _COMMANDS else None
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
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
    match context.invoked_subcommand:
        case "simulate":
            context.default_map = {
                "simulate": {"url": settings.url, "token": lambda: client_token(settings, "simulator")}
            }
        case "nodes":
            terminal = {"url": settings.url, "token": lambda: client_token(settings, "terminal")}
            context.default_map = {"nodes": dict.fromkeys(resolve_name(_COMMANDS["nodes"]).commands, terminal)}


def main() -> None:
    """Run a command; what a person can mend is told in one sentence, without a traceback."""
    try:
        cli(prog_name="aiwm", auto_envvar_prefix=None)
    except (StartupError, StorageUnavailable) as error:
        click.echo(f"aiwm: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
