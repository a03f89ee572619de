"""One gateway process by itself, as its parent starts it."""

from multiprocessing import get_context
from pathlib import Path

import pytest

from app import gateways
from app.settings import Settings
from tests.system.conftest import free_port


def test_one_that_begins_while_the_database_is_away_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In a sentence, and its parent tries again: no traceback."""
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/nowhere"
    settings = Settings(port=free_port(), database_url=url, jwt_secret=("s" * 32,))
    spawn = get_context("spawn")
    _, said = spawn.Pipe(duplex=False)
    process = spawn.Process(target=gateways._run, args=(settings, url, tmp_path, 0, said))
    process.start()
    process.join(60)
    assert process.exitcode == 1
    told = capfd.readouterr().err
    assert "Gateway process 0 stops: The database cannot be reached" in told
    assert "Traceback" not in told
