"""Stopped, killed, started again, started wrongly: what was acknowledged stays, and errors are sentences."""

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from websockets.exceptions import ConnectionClosed

from tests.system.client import HEARTBEAT, METRICS, Portal, Worker, iso, now
from tests.system.conftest import STOP_SECONDS, Service, free_port, processes_of

StartService = Callable[..., Service]
QUICK: Final = {
    "AIWM_HEARTBEAT_INTERVAL_MS": "500",
    "AIWM_METRICS_INTERVAL_MS": "1000",
    "AIWM_HEARTBEAT_TIMEOUT_MS": "3000",
}


class Stream:
    """A worker that sends without pause, in a thread of its own, and notes which samples were acknowledged."""

    def __init__(self, service: Service, portal: Portal) -> None:
        self.node_id = str(portal.create("streaming")["_id"])
        self.began = now() - timedelta(seconds=1)
        self.acknowledged: list[str] = []
        self.closed_with: int | None = None
        self._failure: BaseException | None = None
        self._service = service
        self._token = portal.node_token(self.node_id)
        self._wanted = 0
        self._waits: list[float] = []
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self, samples: int) -> None:
        """Send until that many samples are acknowledged, and go on sending."""
        self._wanted = samples
        self._thread.start()
        in_time = self._enough.wait(STOP_SECONDS)
        assert self._failure is None, self._failure
        assert in_time, (
            f"after {STOP_SECONDS} s {samples} samples are not acknowledged; those that are took {self._waits}"
        )

    def join(self) -> None:
        """Wait until the connection is gone."""
        self._thread.join(STOP_SECONDS)
        assert not self._thread.is_alive()
        assert self._failure is None, self._failure

    def _run(self) -> None:
        try:
            with Worker(self._service.ws_url, self._token) as worker:
                worker.register()
                self._send_on(worker)
        except ConnectionClosed as closed:
            self.closed_with = closed.rcvd.code if closed.rcvd else None
        except BaseException as failure:  # noqa: BLE001 - the thread that waits must hear of it
            self._failure = failure
            self._enough.set()

    def _send_on(self, worker: Worker) -> None:
        moment = self.began
        while True:
            moment += timedelta(milliseconds=7)
            # Heartbeats alone keep a node online; nobody waits for their acknowledgement here.
            worker.send("TELEMETRY_HEARTBEAT", HEARTBEAT)
            sent = time.monotonic()
            answer = worker.acknowledged("TELEMETRY_METRICS", {"timestamp": iso(moment), **METRICS})
            self._waits.append(round(time.monotonic() - sent, 2))
            assert answer["status"] == "stored", answer
            self.acknowledged.append(iso(moment))
            if len(self.acknowledged) >= self._wanted:
                self._enough.set()

    def check_kept(self, portal: Portal) -> None:
        """Every acknowledged sample is in the history."""
        points = portal.history(self.node_id, "gpus/metrics", self.began, fields="powerUsage")["GPU-0", "powerUsage"]
        assert set(self.acknowledged) <= {point[0] for point in points}
        assert len(points) == len({point[0] for point in points})


def test_what_was_acknowledged_survives_a_kill(start_service: StartService) -> None:
    """After `kill -9` and a start on the same directory everything is there, and no node pretends to be connected."""
    service = start_service(**QUICK)
    with service.portal() as portal:
        stream = Stream(service, portal)
        stream.start(samples=10)
        assert {"status": "online", "websocketConnected": True}.items() <= portal.node(stream.node_id).items()
        service.kill()
        stream.join()
    service.start()
    with service.portal() as portal:
        stream.check_kept(portal)
        portal.wait_for(stream.node_id, status="offline", websocketConnected=False)
        with Worker(service.ws_url, portal.node_token(stream.node_id)) as worker:
            worker.receive("CONNECTION_ACK")
            assert worker.acknowledged("TELEMETRY_HEARTBEAT", HEARTBEAT)["status"] == "stored"
            portal.wait_for(stream.node_id, status="online", websocketConnected=True)
    assert service.stop() == 0
    assert not processes_of(service.data_dir)


@pytest.mark.parametrize(
    "signals", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)], ids=["SIGTERM", "Ctrl-C twice"]
)
def test_a_stop_loses_nothing_and_leaves_nothing(start_service: StartService, signals: tuple[signal.Signals]) -> None:
    """Stopped amidst a stream of samples: a clean exit, no process left, every acknowledged sample kept."""
    service = start_service()
    with service.portal() as portal:
        stream = Stream(service, portal)
        stream.start(samples=10)
        began = time.monotonic()
        for number in signals:
            service.signal(number)
        code = service.wait()
        stream.join()
    assert code == 0, service.log
    assert time.monotonic() - began < 15
    assert "Traceback" not in service.log
    assert not processes_of(service.data_dir)
    if len(signals) == 1:
        assert stream.closed_with == 1012
    service.start()
    with service.portal() as portal:
        stream.check_kept(portal)


class TestWrongStarts:
    """A start that cannot succeed: one sentence on the error output, an exit code, no traceback, nothing left."""

    def refused(self, done: subprocess.CompletedProcess[str], *words: str) -> str:
        """Check that it was refused in one sentence with these words; the sentence."""
        assert done.returncode not in {0, None}, done.stdout
        assert "Traceback" not in done.stdout + done.stderr
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert len(lines) == 1, done.stderr
        for word in words:
            assert word in lines[0]
        return lines[0]

    def test_a_directory_in_use(self, service: Service) -> None:
        """A second service on the same data directory names the directory; the first goes on."""
        self.refused(service.run("serve", AIWM_PORT=str(free_port())), str(service.data_dir))
        with service.portal() as portal:
            portal.create()

    def test_a_port_in_use(self, service: Service, tmp_path: Path) -> None:
        """A taken port is noticed before a database is started."""
        done = service.run("serve", AIWM_DATA_DIR=str(tmp_path / "second"))
        self.refused(done, str(service.port))
        assert not (tmp_path / "second" / "postgres").exists()

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("AIWM_PORT", "ninety"),
            ("AIWM_JWT_SECRET", "too-short-for-a-secret"),
            ("AIWM_DATABASE_URL", "mysql://localhost/aiwm"),
        ],
    )
    def test_a_malformed_setting(self, tmp_path: Path, variable: str, value: str) -> None:
        """The sentence names the variable and does not repeat its value."""
        service = Service(tmp_path, free_port())
        sentence = self.refused(service.run("serve", **{variable: value}), variable)
        assert value not in sentence

    def test_a_certificate_that_is_none(self, tmp_path: Path) -> None:
        """Noticed before a database is made."""
        service = Service(tmp_path, free_port())
        done = service.run("serve", AIWM_TLS_CERT="/no/cert.pem", AIWM_TLS_KEY="/no/key.pem")
        self.refused(done, "AIWM_TLS_CERT", "AIWM_TLS_KEY", "/no/cert.pem")
        assert not (service.data_dir / "postgres").exists()

    def test_an_address_of_another_machine(self, tmp_path: Path) -> None:
        """It is the address that is to be changed, not the port."""
        service = Service(tmp_path, free_port())
        sentence = self.refused(service.run("serve", AIWM_HOST="192.0.2.1"), "AIWM_HOST")
        assert "AIWM_PORT" not in sentence

    def test_a_database_of_ones_own_without_a_secret(self, tmp_path: Path) -> None:
        """With AIWM_DATABASE_URL the secret must be given."""
        service = Service(tmp_path, free_port())
        url = f"postgresql://aiwm@localhost:{free_port()}/aiwm"
        self.refused(service.run("serve", AIWM_DATABASE_URL=url), "AIWM_JWT_SECRET")

    def test_a_database_that_is_away(self, tmp_path: Path) -> None:
        """It says that it waits, gives up after the time that was set, and never shows the password."""
        service = Service(tmp_path, free_port())
        began = time.monotonic()
        done = service.run(
            "serve",
            AIWM_DATABASE_URL=f"postgresql://aiwm:hunter2hunter2@localhost:{free_port()}/aiwm",
            AIWM_DATABASE_WAIT_MS="1500",
            AIWM_JWT_SECRET="s" * 32,
        )
        assert time.monotonic() - began > 1.5
        assert done.returncode not in {0, None}
        waiting, *_, gave_up = done.stderr.splitlines()
        assert "Waiting for the database" in waiting
        assert "AIWM_DATABASE_URL" in gave_up
        assert "Traceback" not in done.stderr
        assert "hunter2" not in done.stdout + done.stderr


def test_a_misspelt_setting_is_a_warning(tmp_path: Path) -> None:
    """An unknown AIWM_ variable is named, and the command works all the same."""
    service = Service(tmp_path, free_port())
    done = service.run("token", "--sub", "a", "--org", "b", "--role", "viewer", AIWM_HEARTBEAT="1")
    assert done.returncode == 0
    assert "AIWM_HEARTBEAT" in done.stderr
    assert done.stdout.count(".") == 2


def test_a_port_taken_from_elsewhere(tmp_path: Path) -> None:
    """Whoever has the port, the sentence is the same."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = Service(tmp_path, taken.getsockname()[1])
        done = service.run("serve")
    assert done.returncode not in {0, None}
    assert "AIWM_PORT" in done.stderr
    assert "Traceback" not in done.stderr
