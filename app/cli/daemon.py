"""`aiwm worker`: the daemon of GPU machines, beside the service's own commands."""

import click

from app.worker import command


@click.command(
    "worker", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def worker(arguments: tuple[str, ...]) -> None:
    """The daemon that runs on a GPU machine: `aiwm worker run`."""
    # Its own command line, since on GPU machines there is no click.
    command.main(arguments, program="aiwm worker")
