"""The run of a simulation: create the fleet, connect it, walk, wait for the acknowledgements, leave."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

from rich.console import Console

from app.errors import StartupError
from app.portal import Portal
from app.simulate.fleet import Credentials, create_fleet
from app.simulate.gate import Gate
from app.simulate.machine import Machine
from app.simulate.progress import Progress
from app.simulate.report import Report, Stopwatch, Tally
from app.simulate.schedule import Walk
from app.simulate.worker import Surroundings, Worker

_DAY: Final = 86_400
_YEAR: Final = 365 * _DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to simulate. `duration` is in seconds of sending; None: until interrupted."""

    nodes: int
    gpus: int
    url: str
    token: str
    speed: float = 1.0
    duration: float | None = None
    drain_seconds: float = 30.0
    seed: int = 0
    console: Console = field(default_factory=Console)


class Interruption:
    """Ctrl-C: once to stop sending, twice to stop waiting for acknowledgements as well."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()

    def request(self) -> None:
        """One Ctrl-C."""
        (self.hurry if self.stop.is_set() else self.stop).set()


async def simulate(options: Options, interruption: Interruption | None = None) -> Report:
    """Run a fleet against a service; returns when it has left.

    Raises StartupError with a sentence where the fleet cannot be made, or the walk would begin before
    what the service still takes.
    """
    websocket_url = _websocket_url(options.url)
    interruption = interruption or Interruption()
    tally = Tally()
    progress = Progress(options.console, tally, options.nodes)
    async with progress.shown():
        fleet = await _create_fleet(options, interruption, progress)
        return await _Simulation(options, interruption, tally, progress).run(fleet, websocket_url)


async def _create_fleet(options: Options, interruption: Interruption, progress: Progress) -> list[Credentials]:
    """Nodes with tokens; none if interrupted meanwhile."""
    made = 0

    def created() -> None:
        nonlocal made
        made += 1

    progress.stage(lambda: f"creating nodes: {made:,} of {options.nodes:,}")
    token_seconds = _YEAR if options.duration is None else int(options.duration) + _DAY
    async with Portal(options.url, options.token) as portal:
        creating = asyncio.create_task(create_fleet(portal, uuid4().hex[:8], options.nodes, token_seconds, created))
        await _until(interruption.stop.wait(), creating)
        return [] if creating.cancelled() else creating.result()


class _Simulation:
    """One run of a fleet that exists. Owns the workers' tasks."""

    def __init__(self, options: Options, interruption: Interruption, tally: Tally, progress: Progress) -> None:
        self._options = options
        self._interruption = interruption
        self._tally = tally
        self._progress = progress
        self._gate = Gate()
        self._walk: asyncio.Future[Walk] = asyncio.get_running_loop().create_future()
        self._workers: list[Worker] = []

    async def run(self, fleet: list[Credentials], websocket_url: str) -> Report:
        """From connecting to leaving."""
        options = self._options
        around = Surroundings(websocket_url, options.speed, self._gate, self._tally, self._walk)
        self._workers = [
            Worker(credentials, Machine(number, options.gpus, options.seed), around)
            for number, credentials in enumerate(fleet)
        ]
        running = [asyncio.create_task(worker.run()) for worker in self._workers]
        # No TaskGroup: it would wrap the sentence of a StartupError in a group.
        try:
            await self._connect()
            report = await self._send(running)
            await self._drain(running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        self._tally.unsent = sum(worker.unsent for worker in self._workers)
        return report

    async def _connect(self) -> None:
        """Wait until every worker is registered or refused; those that need longer join the walk late."""
        self._progress.stage(lambda: "connecting")

        async def all_settled_in() -> None:
            for worker in self._workers:
                await worker.settled_in.wait()

        await _until(all_settled_in(), self._interruption.stop.wait(), seconds=60 + len(self._workers) / 50)

    async def _send(self, running: list[asyncio.Task[None]]) -> Report:
        """Let the fleet walk until the end, or until interrupted."""
        options, now = self._options, time.time()
        walk = Walk(now, None if options.duration is None else now + options.duration, options.speed)
        self._check_age(walk)
        self._progress.stage(lambda: _how_far(walk))
        stopwatch = Stopwatch(self._tally)
        if not self._interruption.stop.is_set():
            self._walk.set_result(walk)
            all_gone = asyncio.gather(*(asyncio.shield(task) for task in running))
            await _until(self._interruption.stop.wait(), all_gone, seconds=options.duration)
        seconds, cpu_seconds, frames = stopwatch.read()
        return Report(
            nodes=options.nodes,
            gpus=options.gpus,
            tally=self._tally,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            span=walk.span,
            sent_while_walking=frames,
            ended_early=self._interruption.stop.is_set(),
        )

    def _check_age(self, walk: Walk) -> None:
        ages = [age for worker in self._workers if (age := worker.controller.max_sample_age_ms) is not None]
        if ages and walk.span * 1000 >= min(ages):
            raise StartupError(
                f"--speed {self._options.speed:g} with --duration {self._options.duration:g} would fill in "
                f"{walk.span / 3600:,.1f} hours of past, but the service takes samples of the last "
                f"{min(ages) / 3_600_000:,.1f} hours only: choose a smaller speed or duration."
            )

    async def _drain(self, running: list[asyncio.Task[None]]) -> None:
        """Stop sending and wait, for a bounded time, until every frame is acknowledged and every socket closed."""
        self._progress.stage(lambda: "waiting for acknowledgements")
        cut = self._options.duration is None or self._interruption.stop.is_set()
        leaving = asyncio.gather(*(worker.finish(cut=cut) for worker in self._workers))
        all_gone = asyncio.gather(leaving, *(asyncio.shield(task) for task in running))
        await _until(all_gone, self._interruption.hurry.wait(), seconds=self._options.drain_seconds)


async def _until(*awaitables: Awaitable[object], seconds: float | None = None) -> None:
    """Wait for whichever comes first, at most so long; the others are cancelled, and errors are raised."""
    futures = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        done, _ = await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            future.result()
    finally:
        for future in futures:
            future.cancel()
        await asyncio.gather(*futures, return_exceptions=True)


def _websocket_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise StartupError(f"--url must be a URL that starts with http:// or https://, not {url!r}.")
    return "ws" + url.removeprefix("http").rstrip("/") + "/ws/node"


def _how_far(walk: Walk) -> str:
    passed = time.time() - walk.begins_at
    if walk.ends_at is None:
        return f"sending for {passed:,.0f} s, until Ctrl-C"
    return f"sending: {min(passed, walk.ends_at - walk.begins_at):,.0f} of {walk.ends_at - walk.begins_at:,.0f} s"
