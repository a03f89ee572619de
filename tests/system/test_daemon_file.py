"""The file that GPU machines download, as `make daemon` makes it."""

import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final
from zipfile import ZipFile

import pytest

from app import VERSION
from app.install.daemon_file import NAME
from tests.system.conftest import ROOT

FILE: Final = ROOT / "app" / "install" / NAME
# ELF's e_machine, two bytes at offset 18.
MACHINES: Final = {"x86_64": 62, "aarch64": 183}


@pytest.fixture(scope="module")
def archive() -> ZipFile:
    """The file of this checkout."""
    assert FILE.exists(), "make daemon"
    return ZipFile(FILE)


@pytest.fixture(scope="module")
def unpacked(archive: ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the installation script unpacks it."""
    folder = tmp_path_factory.mktemp("daemon")
    archive.extractall(folder)
    return folder


def pythons() -> list[str]:
    """The Pythons of this machine that the daemon is for: this one, and what else can be started."""
    names = [found for minor in range(9, 15) if (found := shutil.which(f"python3.{minor}"))]
    check = [
        name for name in names if subprocess.run([name, "-c", ""], capture_output=True, check=False).returncode == 0
    ]
    return [sys.executable, *check]


def test_the_same_sources_make_the_same_bytes(tmp_path: Path) -> None:
    """Whoever makes it, wherever."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    subprocess.run([sys.executable, "deploy/worker/build.py", uv, str(tmp_path)], cwd=ROOT, check=True)
    assert (tmp_path / NAME).read_bytes() == FILE.read_bytes()


def test_it_has_what_is_compiled_for_each_machine_and_nothing_else_compiled(archive: ZipFile) -> None:
    """psutil, for whatever Python; the rest is Python."""
    compiled = [name for name in archive.namelist() if not name.endswith(".py") and not name.startswith("licenses/")]
    assert compiled == [f"lib/{machine}/psutil/_psutil_linux.abi3.so" for machine in sorted(MACHINES)]
    for name in compiled:
        assert int.from_bytes(archive.read(name)[18:20], "little") == MACHINES[name.split("/")[1]]


def test_it_has_nothing_of_the_service_and_the_licence_of_all(archive: ZipFile) -> None:
    """Of `app` the daemon, what goes over the wire, how a fault is told once, and when to come back."""
    names = archive.namelist()
    ours = {name for name in names if name.startswith("app/") and not name.startswith("app/worker/")}
    protocol = {"app/protocol/__init__.py", "app/protocol/wire.py"}
    assert ours == {"app/__init__.py", "app/repeats.py", "app/retry_after.py"} | protocol
    packages = {name.split("/")[0] for name in names} - {"app", "lib", "licenses", "__main__.py"}
    assert packages == {"pynvml.py", "websockets"}
    licences = {name.split("/")[1].rpartition("-")[0] for name in names if name.startswith("licenses/")}
    assert licences == {"aiwm-node", "nvidia_ml_py", "psutil", "websockets"}


@pytest.mark.parametrize("python", pythons())
def test_it_runs_on_every_python_of_this_machine(unpacked: Path, python: str) -> None:
    """All that it needs is in it: neither the environment nor installed packages are looked at."""
    done = subprocess.run([python, "-I", "-S", str(unpacked), "version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == VERSION


def test_it_says_that_it_must_be_unpacked() -> None:
    """A zip cannot give the system what is compiled."""
    done = subprocess.run([sys.executable, str(FILE), "version"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"python3 -m zipfile -e {NAME}" in done.stderr


def test_it_says_for_which_machines_it_is(unpacked: Path, tmp_path: Path) -> None:
    """On another one."""
    folder = tmp_path / "elsewhere"
    shutil.copytree(unpacked, folder)
    shutil.rmtree(folder / "lib" / platform.machine())
    done = subprocess.run([sys.executable, str(folder), "version"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"This machine is {platform.machine()}; the daemon is made for " in done.stderr
