"""The installation script is the document's, and a name can't break out of it."""

import json
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.domain.install_script import install_script

NOW = datetime(2025, 11, 21, 10, 0, tzinfo=UTC)
NODE_ID = "673e7a1f5c9d8e001234abcd"


def script(name: str) -> str:
    return install_script(
        node_id=NODE_ID,
        name=name,
        token="eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9...",
        endpoint="ws://localhost:3305",
        now=NOW,
    )


def test_it_is_the_documents_example(shared_document: Path) -> None:
    """To the letter."""
    found = re.search(r'"installScript": (".*")', shared_document.read_text())
    assert found is not None
    assert script("GPU-Worker-01") == json.loads(found[1])


@pytest.mark.parametrize("name", ["a\ntouch pwned", "a\r\ntouch pwned", "a\u2028b", "a\x85b", "a\x1b[2J", "\u202eevil"])
def test_a_name_stays_on_its_line(name: str) -> None:
    """Line ends, controls and what reorders text become blanks."""
    lines = script(name).splitlines()
    assert len(lines) == len(script("x").splitlines())
    assert lines[3].startswith("# Node: ")
    assert lines[3].isprintable()


def test_a_hostile_name_runs_nothing(tmp_path: Path) -> None:
    """Bash takes it for a comment."""
    subprocess.run(["bash", "-c", script("x\ntouch pwned; $(touch pwned) `touch pwned`")], cwd=tmp_path, check=True)
    assert not list(tmp_path.iterdir())
