"""The daemon as a process of its own against the real service: whoever is killed, no sample is missing."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from tests.system.client import iso
from tests.system.conftest import ROOT, Service

WAIT_SECONDS: Final = 150.0
SIGTERM_SECONDS: Final = 5.0
StartService = Callable[..., Service]
QUICK: Final = {
    "AIWM_HEARTBEAT_INTERVAL_MS": "1000",
    "AIWM_METRICS_INTERVAL_MS": "1000",
    "AIWM_HEARTBEAT_TIMEOUT_MS": "3000",
}


FAKE: Final = ("-m", "tests.samplers", "run")
"""A daemon of a machine that does not exist."""


class Daemon:
    """A daemon, of fake GPUs or of a recording, started any number of times. Owned by its fixture."""

    def __init__(self, folder: Path, service: Service, command: Sequence[str] = FAKE) -> None:
        with service.portal() as portal:
            self.node_id = str(portal.create("daemon")["_id"])
            self.token = portal.node_token(self.node_id)
        self.began = datetime.now(UTC) - timedelta(minutes=1)
        self._service = service
        self._command = command
        self._state = folder / "state"
        self._log = folder / "daemon.log"
        folder.mkdir(exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it printed so far."""
        return self._log.read_text() if self._log.exists() else ""

    def start(self) -> None:
        """Start it; whether it connects is another matter."""
        known = {
            "HYDRA_NODE_TOKEN": self.token,
            "HYDRA_NODE_ID": self.node_id,
            "HYDRA_CONTROLLER_ENDPOINT": self._service.ws_url,
            "HYDRA_STATE_DIR": str(self._state),
        }
        with self._log.open("ab") as log:
            command = [sys.executable, *self._command, "--config", str(self._state / "etc")]
            self._process = subprocess.Popen(command, cwd=ROOT, env=os.environ | known, stdout=log, stderr=log)

    def end(self, number: int) -> int:
        """Send it a signal and wait for its end: its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(SIGTERM_SECONDS)

    def kill_if_running(self) -> None:
        """Leave nothing running, whatever the test left."""
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGKILL)

    def measures(self, more: int) -> None:
        """Wait until it has measured so many times more."""
        wanted = self.log.count("measured ") + more
        wait_for(lambda: self.log.count("measured ") >= wanted, f"{more} more measurements")

    def spooled(self) -> set[str]:
        """The times of all metrics on disk, once it is dead."""
        with closing(sqlite3.connect(self._state / self.node_id / "spool.sqlite")) as spool:
            rows = spool.execute("SELECT moment FROM sample WHERE kind = 'TELEMETRY_METRICS'").fetchall()
        return {iso(datetime.fromtimestamp(moment / 1000, UTC)) for (moment,) in rows}

    def stored(self) -> dict[str, int]:
        """What the API has: the time of each sample, and which measurement of its process it is."""
        with self._service.portal() as portal:
            series = portal.history(self.node_id, "metrics", self.began, fields="networkBytesIn", agg="last")
        return dict(series.get(("", "networkBytesIn"), []))

    def stored_without_a_hole(self, measured: int) -> dict[str, int] | None:
        """What the API has, if that is each measurement once, the first so many at least."""
        stored = self.stored()
        is_whole = sorted(stored.values()) == list(range(1, len(stored) + 1)) and len(stored) >= measured
        return stored if is_whole else None


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """A daemon of a new node of a service; `command` is for Python."""
    daemons: list[Daemon] = []

    def start(service: Service, command: Sequence[str] = FAKE) -> Daemon:
        daemons.append(Daemon(tmp_path, service, command))
        daemons[-1].start()
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.kill_if_running()
        print(f"--- log of the daemon ---\n{daemon.log}")


def wait_for(look: Callable[[], Any], what: str) -> Any:
    """What is looked for, as soon as it is there."""
    until = time.monotonic() + WAIT_SECONDS
    while not (found := look()):
        assert time.monotonic() < until, f"after {WAIT_SECONDS:.0f} s still not: {what}"
        time.sleep(0.1)
    return found


def test_the_service_is_killed_for_a_while_and_no_sample_is_missing(
    start_service: StartService, start_daemon: Callable[[Service], Daemon]
) -> None:
    """One sample a second, before, meanwhile and after: each is stored, each once, at its own second."""
    service = start_service(**QUICK)
    daemon = start_daemon(service)
    wait_for(lambda: len(daemon.stored()) >= 3, "three samples")
    service.kill()
    daemon.measures(4)
    service.start()
    back = iso(datetime.now(UTC))
    wait_for(lambda: sum(moment > back for moment in daemon.stored()) >= 3, "three samples after the return")
    measured = daemon.log.count("measured ")
    stored = wait_for(lambda: daemon.stored_without_a_hole(measured), "all that was measured, without a hole")
    assert all(moment.endswith(".000Z") for moment in stored)
    assert daemon.end(signal.SIGTERM) == 0
    assert not daemon.spooled()
    with service.portal() as portal:
        portal.wait_for(daemon.node_id, status="offline", websocketConnected=False)
    assert daemon.token not in daemon.log
    assert "Traceback" not in daemon.log


def test_the_daemon_is_killed_while_it_is_alone_and_nothing_is_lost(
    start_service: StartService, start_daemon: Callable[[Service], Daemon]
) -> None:
    """What was not acknowledged at `kill -9` is on disk, and stored when daemon and service are back."""
    service = start_service(**QUICK)
    daemon = start_daemon(service)
    wait_for(lambda: len(daemon.stored()) >= 2, "two samples")
    service.kill()
    daemon.measures(4)
    daemon.end(signal.SIGKILL)
    left = daemon.spooled()
    assert len(left) >= 3
    daemon.start()
    service.start()
    wait_for(lambda: left <= set(daemon.stored()), "all that was left")


def test_a_recording_is_read_back_as_it_was_recorded(
    start_service: StartService, start_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """A sample a second of a recording of one a minute is 60 times its speed: every value of every GPU, in its order."""
    dice = Random(6)
    recorded = {
        f"GPU-{gpu}": [(dice.randint(0, 100), dice.randint(0, 81920), dice.randint(30, 90)) for _ in range(5)]
        for gpu in range(2)
    }
    rows = [
        f"2025/11/21 10:{minute:02}:00.000, {device}, NVIDIA A100, {busy} %, 81920 MiB, {used} MiB, {celsius}"
        for minute in range(5)
        for device, (busy, used, celsius) in ((device, moments[minute]) for device, moments in recorded.items())
    ]
    header = "timestamp, uuid, name, utilization.gpu [%], memory.total [MiB], memory.used [MiB], temperature.gpu"
    trace = tmp_path / "trace.csv"
    trace.write_text("\n".join([header, *rows]) + "\n")
    service = start_service(**QUICK)
    daemon = start_daemon(service, ("-m", "app.worker", "run", "--trace", str(trace)))

    def read_back() -> dict[str, list[tuple[float, ...]]]:
        with service.portal() as portal:
            series = portal.history(
                daemon.node_id, "gpus/metrics", daemon.began, fields="utilization,memoryUsed,temperature", agg="last"
            )
        return {
            device: list(
                zip(
                    *(
                        [value for _, value in series.get((device, field), [])]
                        for field in ("utilization", "memoryUsed", "temperature")
                    ),
                    strict=True,
                )
            )
            for device in recorded
        }

    wait_for(lambda: min(map(len, read_back().values())) >= 5, "the whole recording")
    expected: dict[str, Any] = {
        device: [(busy, pytest.approx(used / 1024, abs=0.0006), celsius) for busy, used, celsius in moments]
        for device, moments in recorded.items()
    }
    assert {device: moments[:5] for device, moments in read_back().items()} == expected


def test_it_stops_at_once_while_nobody_answers(
    start_service: StartService, start_daemon: Callable[[Service], Daemon]
) -> None:
    """SIGTERM is heard while a connection stands to a service that hangs."""
    service = start_service(**QUICK)
    daemon = start_daemon(service)
    wait_for(lambda: "Connected to" in daemon.log, "the connection")
    service.signal(signal.SIGSTOP)
    try:
        assert daemon.end(signal.SIGTERM) == 0
    finally:
        service.signal(signal.SIGCONT)
    assert "The daemon stops" in daemon.log


def test_the_command_speaks_for_itself(service: Service) -> None:
    """`aiwm worker` has its own help and version, and a sentence for what is missing."""
    assert service.run("worker", "version").stdout.strip() == service.run("--version").stdout.strip()
    assert "--trace" in service.run("worker", "run", "--help").stdout
    refused = service.run("worker", "run", "--config", "/nowhere")
    assert refused.returncode == 1
    assert "HYDRA_CONTROLLER_ENDPOINT is not set" in refused.stderr
    assert "Traceback" not in refused.stderr
