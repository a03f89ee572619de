"""The wheel alone, in an environment where nothing of this checkout is."""

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from app.install.daemon_file import NAME
from tests.system.conftest import ROOT, Service, free_port


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an empty environment into which the wheel was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (wheel,) = folder.glob("*.whl")
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    run(uv, "venv", "--quiet", "--python", sys.executable, str(folder / "venv"))
    python = folder / "venv" / "bin" / "python"
    run(uv, "pip", "install", "--quiet", "--python", str(python), "-c", str(ROOT / "requirements.lock"), str(wheel))
    return python.parent


def run(*command: str) -> None:
    """Run a command in the checkout; its output is the failure's text."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_alone_serves(installed: Path, tmp_path: Path) -> None:
    """From a folder that is not the checkout it migrates its database, answers, and has the daemon to give."""
    service = Service(tmp_path, free_port(), command=[str(installed / "aiwm")], cwd=tmp_path)
    try:
        service.start()
        assert service.token().count(".") == 2
        assert httpx.get(f"{service.url}/install/{NAME}", trust_env=False).status_code == 200
        assert service.stop() == 0
    finally:
        service.end()
