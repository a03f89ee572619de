"""Several gateway processes on one port, and the parent that starts them, restarts them, and stops them.

The parent owns the database, where it is the embedded one, and holds the port without listening; each gateway
listens on it by SO_REUSEPORT, so that the kernel spreads connections over them. Gateways share nothing but the
database. A gateway whose parent is gone stops.
"""

import asyncio
import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import uvloop

from app import logs, server
from app.clock import SystemClock
from app.errors import StartupError, StorageUnavailable
from app.settings import Settings

RESTART_SECONDS: Final = (1.0, 30.0)
_LOOK_SECONDS: Final = 0.5

_log = logging.getLogger(__name__)
_spawn = multiprocessing.get_context("spawn")


def serve(settings: Settings, announce: Callable[[], None]) -> None:
    """Serve until a signal says stop; `announce` is called once, when every gateway answers.

    Raises StartupError where the service cannot start.
    """
    server.check_tls(settings)
    if settings.workers == 1:
        _serve_alone(settings, announce)
        return
    with server.reserved(settings), server.database_url(settings) as url:
        asyncio.run(server.prepare(settings, url, SystemClock()))
        with TemporaryDirectory(prefix="aiwm-") as peers:
            _Supervisor(settings, url, Path(peers), announce).run()


def _serve_alone(settings: Settings, announce: Callable[[], None]) -> None:
    clock = SystemClock()
    with (
        server.taken(settings) as listener,
        server.database_url(settings) as url,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(server.prepare(settings, url, clock))
        with server.wishes_to_stop() as stop:
            runner.run(server.gateway(settings, url, server.Process(0, listener, stop), announce, clock))


class _Gateway:
    """One process, again and again."""

    def __init__(self, settings: Settings, url: str, peers: Path, number: int) -> None:
        self._arguments = settings, url, peers, number
        self.number = number
        self.is_ready = False
        self.delay = RESTART_SECONDS[0]
        self.start()

    def start(self) -> None:
        """Start the process; `said` gets a word when it answers."""
        self.said, theirs = _spawn.Pipe(duplex=False)
        self.process: BaseProcess = _spawn.Process(target=_run, args=(*self._arguments, theirs), daemon=False)
        self.process.start()
        theirs.close()
        self.is_ready = False

    def hear(self) -> None:
        """Whether it answers by now."""
        if not self.is_ready and self.said.poll():
            try:
                self.is_ready = bool(self.said.recv())
                self.delay = RESTART_SECONDS[0]
            except EOFError:
                pass  # it ended before it answered; its sentinel says so


class _Supervisor:
    """The parent's loop. Signals are wishes: each is passed on once to every gateway."""

    def __init__(self, settings: Settings, url: str, peers: Path, announce: Callable[[], None]) -> None:
        self._settings = settings
        self._url = url
        self._peers = peers
        self._announce = announce
        self._is_announced = False
        self._restarts: dict[int, float] = {}
        self._clock = SystemClock()

    def run(self) -> None:
        """Until every gateway has ended. Raises StartupError where one ends before it ever answered."""
        with server.wishes_to_stop() as stop:
            gateways = [
                _Gateway(self._settings, self._url, self._peers, number) for number in range(self._settings.workers)
            ]
            told = 0
            try:
                while running := [gateway for gateway in gateways if gateway.process.is_alive()] or (
                    [] if stop.wishes else gateways
                ):
                    wait([gateway.process.sentinel for gateway in running if gateway.process.is_alive()], _LOOK_SECONDS)
                    if stop.wishes > told:
                        told = stop.wishes
                        for gateway in running:
                            gateway.process.terminate()
                    if not stop.wishes:
                        self._look_after(gateways)
            finally:
                for gateway in gateways:
                    gateway.process.terminate()
                    gateway.process.join()

    def _look_after(self, gateways: list[_Gateway]) -> None:
        now = self._clock.monotonic()
        for gateway in gateways:
            gateway.hear()
            if gateway.process.is_alive():
                continue
            if not self._is_announced:
                raise StartupError(f"Gateway process {gateway.number} could not start: what it said stands above.")
            due = self._restarts.get(gateway.number)
            if due is None:
                self._restarts[gateway.number] = now + gateway.delay
                _log.error(
                    "Gateway process %d ended (exit code %s); another takes its place in %.0f s.",
                    gateway.number,
                    gateway.process.exitcode,
                    gateway.delay,
                )
                gateway.delay = min(gateway.delay * 2, RESTART_SECONDS[1])
            elif now >= due:
                del self._restarts[gateway.number]
                gateway.start()
        if not self._is_announced and all(gateway.is_ready for gateway in gateways):
            self._is_announced = True
            self._announce()


def _run(settings: Settings, url: str, peers: Path, number: int, ready: Connection) -> None:
    """A gateway process. Ctrl-C reaches a terminal's whole foreground group: it is the parent's to pass on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.configure(settings.log_level)
    with (
        server.wishes_to_stop(signal.SIGTERM) as stop,
        server.shared(settings) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        _stop_without_parent(stop.request)
        process = server.Process(number, listener, stop, peers)
        try:
            runner.run(server.gateway(settings, url, process, lambda: ready.send(True), SystemClock()))
        except (StartupError, StorageUnavailable) as error:
            _log.error("Gateway process %d stops: %s.", number, error)
            sys.exit(1)


def _stop_without_parent(stop: Callable[[], None]) -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("a gateway process is started by its parent")

    def watch() -> None:
        wait([parent.sentinel])
        stop()

    threading.Thread(target=watch, name="parent", daemon=True).start()
