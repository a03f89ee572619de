"""The service as a user starts it: a process of its own, a data directory of its own, a free port."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.system.client import Portal

ROOT: Final = Path(__file__).parents[2]
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
ORG: Final = "68dd05b175d9e3c17bf97f60"


def aiwm() -> list[str]:
    """The command as it is installed beside this Python, else the module behind it."""
    script = Path(sys.executable).with_name("aiwm")
    return [str(script)] if script.exists() else [sys.executable, "-m", "app.cli"]


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without its own AIWM_ settings, with these."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIWM_")}
    return clean | {"PYTHONUNBUFFERED": "1"} | settings


def command_lines() -> list[str]:
    """Of all processes that this user may see."""
    if not Path("/proc/self/cmdline").exists():
        return subprocess.check_output(["ps", "-A", "-o", "args="], text=True).splitlines()
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return lines


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes that name this folder."""
    return [line for line in command_lines() if str(folder) in line]


class Service:
    """One data directory and the service on it, started any number of times. Owned by its fixture."""

    def __init__(
        self,
        folder: Path,
        port: int,
        settings: Mapping[str, str] | None = None,
        *,
        command: list[str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self._command = command or aiwm()
        self._cwd = cwd
        self.data_dir = folder / "data"
        self.port = port
        self.url = f"http://localhost:{port}"
        self.ws_url = f"ws://localhost:{port}"
        self.env = environment(AIWM_PORT=str(port), AIWM_DATA_DIR=str(self.data_dir), **(settings or {}))
        self._log = folder / "service.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._tokens: dict[tuple[str, str, str], str] = {}

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the service printed so far, over all starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "serve"], cwd=self._cwd, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            assert self._process.poll() is None, f"the service ended with {self._process.returncode}:\n{self.log}"
            assert time.monotonic() < until, f"not ready after {READY_SECONDS} s:\n{self.log}"
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended: its exit code."""
        assert self._process is not None
        return self._process.wait(STOP_SECONDS)

    def stop(self) -> int:
        """Stop it politely: its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Kill it as `kill -9` does; its database server, if it brought one, stays."""
        self.signal(signal.SIGKILL)
        self.wait()

    def end(self) -> None:
        """Leave nothing running, whatever the test left."""
        if self._process is not None and self._process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
        # A test that failed after `kill` leaves the database server behind.
        with suppress(OSError, ValueError):
            pid = int((self.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
            if processes_of(self.data_dir):
                os.kill(pid, signal.SIGQUIT)

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Another `aiwm` command in the same environment, to its end."""
        return subprocess.run(
            [*self._command, *arguments],
            cwd=self._cwd,
            env=self.env | settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=READY_SECONDS,
            check=False,
        )

    def token(self, role: str = "operator", org: str = ORG, subject: str = "68dcf365f6a92c0d4911b619") -> str:
        """A portal token, as `aiwm token` prints it; the same one when asked again."""
        if (role, org, subject) not in self._tokens:
            self._tokens[role, org, subject] = self._make_token(role, org, subject)
        return self._tokens[role, org, subject]

    def _make_token(self, role: str, org: str, subject: str) -> str:
        done = self.run("token", "--sub", subject, "--org", org, "--role", role)
        assert done.returncode == 0, done.stderr
        token = done.stdout.removesuffix("\n")
        assert token.count(".") == 2, done.stdout
        assert not set(token) & set(" \n")
        return token

    def portal(self, role: str = "operator") -> Portal:
        """A portal with a token of its own; enter it."""
        return Portal(self.url, self.token(role))


@contextmanager
def running(folder: Path, port: int, **settings: str) -> Iterator[Service]:
    """A started service; pytest shows its log if the test fails."""
    service = Service(folder, port, settings)
    try:
        service.start()
        yield service
    finally:
        service.end()
        print(f"--- log of the service on port {port} ---\n{service.log}")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service that tests share which do not stop it."""
    with running(tmp_path_factory.mktemp("service"), free_port()) as service:
        yield service


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start a service of the test's own, with settings of the test's own."""
    services: list[Service] = []

    def start(**settings: str) -> Service:
        folder = tmp_path / f"service-{len(services)}"
        folder.mkdir()
        services.append(Service(folder, free_port(), settings))
        services[-1].start()
        return services[-1]

    yield start
    for service in services:
        service.end()
        print(f"--- log of the service on port {service.port} ---\n{service.log}")


@pytest.fixture
def portal(service: Service) -> Iterator[Portal]:
    """The portal of an operator."""
    with service.portal() as portal:
        yield portal


@pytest.fixture
def node_id(portal: Portal) -> str:
    """A node that was just created."""
    return str(portal.create()["_id"])
