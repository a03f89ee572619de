"""`aiwm simulate`: options in, progress and a table out, exit code 1 if a frame was refused or lost."""

import asyncio
import signal
import sys
from typing import Final

import click

from app.errors import StartupError
from app.protocol.wire import MAX_GPUS
from app.simulate.report import Report
from app.simulate.simulation import Interruption, Options, simulate

if sys.platform != "win32":
    import resource

    import uvloop

# Beside the sockets: the event loop's own files, REST connections, the libraries.
_OTHER_FILES: Final = 64


@click.command("simulate")
@click.option("--nodes", type=click.IntRange(1, 100_000), required=True, help="How many workers to simulate.")
@click.option("--gpus", type=click.IntRange(0, MAX_GPUS), required=True, help="GPUs of each worker.")
@click.option(
    "--speed",
    type=click.FloatRange(0.01, 1000),
    default=1.0,
    show_default=True,
    help="Send at X times the document's cadence.",
)
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    help="Seconds of sending. With a speed above 1 the metrics fill in the past, X times as long, up to now. "
    "Without it: until Ctrl-C, and always of the present.",
)
@click.option("--url", envvar="AIWM_PUBLIC_URL", default="http://localhost:3305", help="The service's address.")
@click.option(
    "--token",
    envvar="AIWM_TOKEN",
    help="Portal token of an operator or admin; else AIWM_TOKEN, else one signed with the configured secret.",
)
def simulate_command(nodes: int, gpus: int, speed: float, duration: float | None, url: str, token: str | None) -> None:
    """Simulate a fleet: real WebSocket clients that register and send the document's messages.

    Every frame asks for its acknowledgement; exit code 1 if one was refused or never acknowledged. The
    nodes stay when it is done; their names begin with `simulated-`.
    """
    # What --url and --token default to is handed in by `cli` through the context's default_map, whose
    # values may be callables: signing a token is the service's business, not a client's.
    if not token:
        raise StartupError("There is no portal token: give one with --token or in AIWM_TOKEN.")
    _allow_files(nodes)
    options = Options(nodes=nodes, gpus=gpus, speed=speed, duration=duration, url=url.rstrip("/"), token=token)
    report = _run(options)
    options.console.print(report.table())
    sys.exit(report.exit_code)


def _run(options: Options) -> Report:
    async def interruptible() -> Report:
        interruption = Interruption()
        loop = asyncio.get_running_loop()
        if sys.platform != "win32":
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, interruption.request)
        return await simulate(options, interruption)

    factory = uvloop.new_event_loop if sys.platform != "win32" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(interruptible())


def _allow_files(nodes: int) -> None:
    """Raise this process's limit of open files as far as it may, and see whether that is enough."""
    if sys.platform == "win32":
        return
    needed = nodes + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise StartupError(
            f"{nodes:,} connections need about {needed:,} open files and this process may have {hard:,}: "
            "start several simulations with fewer nodes each, or raise the limit (ulimit -n)."
        )
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
