"""The installation script as a person runs it: the text that the API gave, the file that it downloads, a real daemon."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from zipfile import ZipFile

import pytest

from tests.system.client import Portal, iso
from tests.system.conftest import ROOT, Service, free_port, running

WAIT_SECONDS: Final = 90.0
PYTHON: Final = str(Path(sys.executable).resolve())
"""As a machine has it: under a path without spaces, wherever this checkout lies."""
NASTY: Final = "$(rm -rf /)\"';"
FAKE_SYSTEMD: Final = ROOT / "tests" / "system" / "fake_systemd.py"
FOLDERS: Final = ("etc/systemd/system", "opt", "run", "var/lib")
"""What every machine has."""
QUICK: Final = {"AIWM_HEARTBEAT_INTERVAL_MS": "1000", "AIWM_METRICS_INTERVAL_MS": "1000"}


class Machine:
    """A root folder on which nothing was installed, and the node that it is to be. Owned by its fixture."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.root = folder / "root"
        self.state = self.root / "var" / "lib" / "hydra-node"
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True)
        self.began = datetime.now(UTC) - timedelta(minutes=1)
        self._service = service
        with service.portal() as portal:
            self.node_id = str(portal.create(NASTY)["_id"])
        self.tokens: list[str] = []
        self._bin = folder / "bin"
        self._log = folder / "install.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> str:
        """What the script and the daemon printed, over all runs."""
        journal = self.root / "run" / "journal"
        return self._log.read_text() + (journal.read_text() if journal.exists() else "")

    @property
    def environment(self) -> dict[str, str]:
        """A person's at this machine; systemctl is the fake one where the machine has systemd."""
        return {
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "HYDRA_ROOT": str(self.root),
            "HYDRA_PYTHON": PYTHON,
            "FAKE_SYSTEMD": str(self.root / "run"),
        }

    def has_systemd(self) -> None:
        """From now on."""
        (self.root / "run" / "systemd" / "system").mkdir(parents=True)
        self.has_program("systemctl", f'exec "{sys.executable}" "{FAKE_SYSTEMD}" "$@"')

    def has_program(self, name: str, line: str) -> None:
        """One that is found before the system's own."""
        self._bin.mkdir(exist_ok=True)
        (self._bin / name).write_text(f"#!/bin/sh\n{line}\n")
        (self._bin / name).chmod(0o755)

    def script(self) -> str:
        """A new script for this machine, as the API gives it."""
        with self._service.portal() as portal:
            made = portal.call("POST", f"/nodes/{self.node_id}/token", 200)
        self.tokens.append(made["token"])
        return str(made["installScript"])

    def run(self, script: str, *options: str, **variables: str) -> int:
        """Run it to its end: its exit code."""
        self.start(script, *options, **variables)
        assert self._process is not None
        return self._process.wait(WAIT_SECONDS)

    def start(self, script: str, *options: str, **variables: str) -> None:
        """Run it; without systemd it goes on as the daemon."""
        file = self.root.parent / "install.sh"
        file.write_text(script)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", str(file), *options], env=self.environment | variables, stdout=log, stderr=log
            )

    def stop(self) -> int:
        """End what `start` began, politely: its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(WAIT_SECONDS)

    def end(self) -> None:
        """Leave nothing running, whatever the test left."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        subprocess.run([sys.executable, str(FAKE_SYSTEMD), "disable"], env=self.environment, check=True)

    def files(self) -> set[str]:
        """Every file and folder there is, but for what the fake systemd keeps in /run."""
        names = {str(path.relative_to(self.root)) for path in self.root.rglob("*")}
        return {name for name in names if not name.startswith("run/")}

    def processes(self) -> str:
        """What `ps` shows of the daemon, with `e` too: command lines and environments."""
        shown = ""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes()
                if str(self.root).encode() in command:
                    shown += (command + (folder / "environ").read_bytes()).replace(b"\0", b" ").decode()
            except OSError:
                continue
        return shown

    def spooled(self) -> set[str]:
        """The times of metrics that wait on disk, once the daemon has ended."""
        with closing(sqlite3.connect(self.state / self.node_id / "spool.sqlite")) as spool:
            rows = spool.execute("SELECT moment FROM sample WHERE kind = 'TELEMETRY_METRICS'").fetchall()
        return {iso(datetime.fromtimestamp(moment / 1000, UTC)) for (moment,) in rows}

    def stored(self, portal: Portal) -> set[str]:
        """The times of metrics that the API has."""
        series = portal.history(self.node_id, "metrics", self.began, fields="memoryTotal", agg="last")
        return {moment for moment, _ in series.get(("", "memoryTotal"), [])}


def wait_for(look: Callable[[], bool], what: str) -> None:
    """Until it is so."""
    until = time.monotonic() + WAIT_SECONDS
    while not look():
        assert time.monotonic() < until, f"after {WAIT_SECONDS:.0f} s still not: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that wants to hear from its nodes every second. Who stops it starts it again."""
    with running(tmp_path_factory.mktemp("service"), free_port(), **QUICK) as service:
        yield service


@pytest.fixture
def machine(service: Service, tmp_path: Path) -> Iterator[Machine]:
    """A machine of that service's."""
    machine = Machine(tmp_path, service)
    yield machine
    print(f"--- the script and the daemon ---\n{machine.output}")
    machine.end()


def test_without_systemd_the_script_becomes_the_daemon(service: Service, machine: Machine) -> None:
    """Its node is online, its metrics are there; `--uninstall` leaves nothing; nobody saw the token."""
    before = machine.files()
    machine.start(machine.script())
    with service.portal() as portal:
        portal.wait_for(machine.node_id, WAIT_SECONDS, status="online", websocketConnected=True)
        wait_for(lambda: len(machine.stored(portal)) >= 3, "three samples")
    token = machine.root / "etc" / "hydra-node" / "token"
    assert token.read_text().strip() == machine.tokens[0]
    assert (token.stat().st_mode & 0o777, token.stat().st_uid) == (0o600, os.getuid())
    shown = machine.processes()
    assert "hydra-node/current" in shown
    assert machine.tokens[0] not in shown
    assert machine.stop() == 0
    assert machine.run(machine.script(), "--uninstall") == 0
    assert machine.files() == before
    assert not any(token in machine.output for token in machine.tokens)


def test_with_systemd_the_script_ends_when_the_node_is_online(service: Service, machine: Machine) -> None:
    """The service runs from its unit alone, and once more is no harm; then nothing is left of it."""
    machine.has_systemd()
    before = machine.files()
    with service.portal() as portal:
        for _ in range(2):
            assert machine.run(machine.script()) == 0
            assert portal.node(machine.node_id)["status"] == "online"
    assert (machine.root / "run" / "enabled").exists()
    assert "is in" in machine.output.rpartition("Installing")[2]  # not downloaded again
    assert f"Installation complete!\nNode ID: {machine.node_id}\nController: {service.ws_url}\n" in machine.output
    assert machine.run(machine.script(), "--uninstall") == 0
    assert machine.files() == before
    assert not (machine.root / "run" / "enabled").exists()
    with service.portal() as portal:
        portal.wait_for(machine.node_id, WAIT_SECONDS, websocketConnected=False)
    assert not any(token in machine.output for token in machine.tokens)


def test_a_dry_run_changes_nothing(machine: Machine) -> None:
    """It says what would be done; the machine is as it was, before an installation and after."""
    machine.has_systemd()
    before = machine.files()
    assert machine.run(machine.script(), "--dry-run") == 0
    assert machine.files() == before
    steps = re.findall(r"^Would: (\w+)", machine.output, re.MULTILINE)
    assert steps == ["Download", "Unpack", "Point", "Write", "Write", "Start"]
    assert "Installation complete!" not in machine.output
    assert machine.run(machine.script()) == 0
    installed = machine.files()
    assert machine.run(machine.script(), "--uninstall", "--dry-run") == 0
    assert machine.files() == installed


def test_who_gets_another_file_installs_nothing(machine: Machine) -> None:
    """A download that is not what the script was made for is thrown away."""
    before = machine.files()
    script = re.sub(r'(?<=^daemon_sha256=")\w{8}', "deadbeef", machine.script(), flags=re.MULTILINE)
    assert machine.run(script) == 1
    assert "is not what this script was made for" in machine.output
    assert machine.files() - before == {"opt/hydra-node"}
    assert machine.run(re.sub(r"(?m)^(daemon_url=).*", rf'\1"http://127.0.0.1:{free_port()}/x"', script)) == 1
    assert "Is that the controller's address" in machine.output


@pytest.mark.parametrize("missing", [("curl",), ("curl", "wget")])
def test_it_downloads_with_what_there_is(machine: Machine, missing: tuple[str, ...]) -> None:
    """wget does what curl would have done, and Python what both would."""
    hidden = machine.root.parent / "programs"
    hidden.mkdir()
    for program in ("cat", "chmod", "chown", "id", "ln", "mkdir", "mv", "rm", "sed", "sh", "sleep", "uname", "wget"):
        if program not in missing:
            (hidden / program).symlink_to(found(program))
    assert machine.run(machine.script(), "--no-start", PATH=str(hidden)) == 0
    assert "This runs the daemon" in machine.output


def found(program: str) -> Path:
    """Where the system has it."""
    for folder in ("/usr/bin", "/bin"):
        if (path := Path(folder, program)).exists():
            return path
    pytest.fail(f"this machine has no {program}")


def test_a_controller_that_does_not_take_the_node_is_told(service: Service, machine: Machine) -> None:
    """The daemon is there and goes on trying; the script says so, and ends with 1."""
    machine.has_systemd()
    script = machine.script()
    with service.portal() as portal:
        portal.call("DELETE", f"/nodes/{machine.node_id}/token", 200)
    assert machine.run(script, HYDRA_WAIT_SECONDS="2") == 1
    assert "the controller has not taken it yet. Not connected." in machine.output
    assert "Installation complete!" not in machine.output


@pytest.fixture
def older(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Makes of a script that of an older controller, whose daemon says that it is 0.9.0."""
    folder = tmp_path / "older"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever).start()

        def make(script: str) -> str:
            version = re.search(r'^daemon_version="(.+)"$', script, re.MULTILINE)
            assert version
            file = folder / "aiwm-node-daemon-0.9.0.pyz"
            (now,) = (ROOT / "app" / "install").glob(f"*-{version[1]}.pyz")
            with ZipFile(now) as source, ZipFile(file, "w") as target:
                for name in source.namelist():
                    text = source.read(name)
                    target.writestr(
                        name, text.replace(version[1].encode(), b"0.9.0") if name == "app/__init__.py" else text
                    )
            script = re.sub(r"(?m)^(daemon_version=).*", r'\1"0.9.0"', script)
            script = re.sub(r"(?m)^(daemon_url=).*", rf'\1"http://127.0.0.1:{server.server_port}/{file.name}"', script)
            return re.sub(r"(?m)^(daemon_sha256=).*", rf'\1"{sha256(file.read_bytes()).hexdigest()}"', script)

        yield make
        server.shutdown()


def test_a_newer_daemon_sends_what_the_older_one_could_not(
    service: Service, machine: Machine, older: Callable[[str], str]
) -> None:
    """The script again, of a newer controller: another version, and no sample is missing."""
    machine.has_systemd()
    newer = machine.script()
    (machine.root / "etc" / "hydra-node").mkdir()
    (machine.root / "etc" / "hydra-node" / "config.env").write_text("HYDRA_SPOOL_MEGABYTES=7\n")
    assert machine.run(older(newer)) == 0
    assert (machine.root / "opt" / "hydra-node" / "current").resolve().name == "0.9.0"
    service.kill()
    spool = machine.state / machine.node_id / "spool.sqlite-wal"
    size = spool.stat().st_size
    wait_for(lambda: spool.stat().st_size > size + 20_000, "some samples in the spool")
    subprocess.run([sys.executable, str(FAKE_SYSTEMD), "disable"], env=machine.environment, check=True)
    left = machine.spooled()
    assert left
    service.start()
    assert machine.run(newer) == 0
    with service.portal() as portal:
        wait_for(lambda: left <= machine.stored(portal), "all that was spooled")
    assert {path.name for path in (machine.root / "opt" / "hydra-node").iterdir()} > {"current"}
    assert not (machine.root / "opt" / "hydra-node" / "0.9.0").exists()
    assert "HYDRA_SPOOL_MEGABYTES=7\n" in (machine.root / "etc" / "hydra-node" / "config.env").read_text()
    with service.portal() as portal:
        assert portal.node(machine.node_id)["daemonVersion"] != "0.9.0"
