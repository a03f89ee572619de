"""The daemon's command line: `aiwm worker …` and `python -m app.worker …`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, NoReturn

from app import VERSION
from app.worker import config, daemon, journal
from app.worker.backoff import Patience
from app.worker.machine import open_machine
from app.worker.sampler import Sampler
from app.worker.systemd import Systemd


def main(
    arguments: Sequence[str] | None = None,
    program: str = "aiwm-node-daemon",
    open_sampler: Callable[[Path | None, float | None], Sampler] = open_machine,
    patience: Patience | None = None,
) -> NoReturn:
    """Run a command and end the process with its exit code. `open_sampler` is given a trace's path and speed."""
    options = _parser(program).parse_args(arguments)
    if options.command == "version":
        print(VERSION)
        sys.exit(0)
    journal.configure()
    try:
        settings = config.read(os.environ, options.config)
        sampler = open_sampler(options.trace, options.speed)
    except (config.ConfigError, OSError, ValueError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(1)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_until_signal(settings, sampler, patience))
    logging.shutdown()
    # Python would wait for threads, and the look-up of a name or a driver may hang in one for minutes.
    os._exit(0)


async def _until_signal(settings: config.Config, sampler: Sampler, patience: Patience | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await daemon.run(settings, sampler, stop, Systemd(), patience)


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description="The daemon that runs on a GPU machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="Connect this machine to its controller until SIGTERM or Ctrl-C.")
    run.add_argument(
        "--config",
        type=Path,
        default=config.CONFIG_DIR,
        metavar="DIR",
        help=f"Folder of config.env and token (default: {config.CONFIG_DIR}); the environment comes first.",
    )
    run.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="Play a recorded CSV of nvidia-smi or dcgm columns in the place of GPUs.",
    )
    run.add_argument(
        "--speed",
        type=float,
        metavar="X",
        help="Play the trace at X times its speed; without, each sample is the next recorded moment.",
    )
    commands.add_parser("version", help="Print the version.")
    return parser
