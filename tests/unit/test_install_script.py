"""The installation script is the document's with its TODO done; nothing that stands in it can break out of it."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.install.script import Download, install_script

NOW = datetime(2025, 11, 21, 10, 0, tzinfo=UTC)
NODE_ID = "673e7a1f5c9d8e001234abcd"
TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9..."
NASTY = "$(rm -rf /)\"';"
# What a shell can be given: no NUL.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
TODO = "# TODO"


def script(
    name: str = "GPU-Worker-01",
    token: str = TOKEN,
    endpoint: str = "ws://localhost:3305",
    sha256: str = "0" * 64,
) -> str:
    download = Download("http://localhost:3305/install/x.pyz", sha256)
    return install_script(node_id=NODE_ID, name=name, token=token, endpoint=endpoint, download=download, now=NOW)


def header(text: str) -> str:
    """What stands above that which is the same for every node."""
    return text.partition("# From here on POSIX sh")[0]


def run(text: str, *options: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a person does who pastes it."""
    return subprocess.run(
        ["sh", "-s", "--", *options],
        input=text,
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_it_is_the_documents_example_with_its_todo_done(shared_document: Path) -> None:
    """Every line of it to the letter and in its order, but for the TODO."""
    found = re.search(r'"installScript": (".*")', shared_document.read_text())
    assert found is not None
    example = json.loads(found[1])
    before, _, after = example.partition(TODO)
    end = after[after.index('echo "Installation complete!"') :]
    made = script()
    assert made.startswith(before)
    assert end in made
    assert TODO not in made


@pytest.mark.parametrize("name", ["a\ntouch pwned", "a\r\ntouch pwned", "a\u2028b", "a\x85b", "a\x1b[2J", "\u202eevil"])
def test_a_name_stays_on_its_line(name: str) -> None:
    """Line ends, controls and what reorders text become blanks."""
    lines = script(name).splitlines()
    assert len(lines) == len(script("x").splitlines())
    assert lines[3].startswith("# Node: ")
    assert lines[3].isprintable()


@pytest.mark.parametrize("shell", ["sh", "bash"])
@settings(deadline=None, max_examples=50)  # it starts programs
@given(name=st.one_of(TEXT, st.just(NASTY)), token=TEXT, endpoint=TEXT)
def test_nothing_in_it_means_anything_to_a_shell(shell: str, name: str, token: str, endpoint: str) -> None:
    """Whatever it is made with is what its variables hold; and nothing else is run."""
    text = script(name, token, endpoint)
    assert subprocess.run([shell, "-n"], input=text, text=True, check=False).returncode == 0
    show = 'printf \'%s\\0\' "$HYDRA_NODE_TOKEN" "$HYDRA_CONTROLLER_ENDPOINT" "$HYDRA_NODE_ID"'
    # Only what the shell has itself: a command that a name smuggled in would not be found, and say so.
    done = subprocess.run(
        [f"/bin/{shell}", "-c", header(text) + show], env={"PATH": "/nowhere"}, capture_output=True, check=True
    )
    assert done.stdout.decode().removeprefix("Installing Hydra Node Daemon...\n").split("\0")[:-1] == [
        token,
        endpoint,
        NODE_ID,
    ]
    assert done.stderr == b""


def test_a_hostile_name_runs_nothing(tmp_path: Path) -> None:
    """Bash takes it for a comment."""
    done = run(
        script("x\ntouch pwned; $(touch pwned) `touch pwned`"),
        "--dry-run",
        cwd=tmp_path,
        HYDRA_PYTHON=os.path.realpath(sys.executable),
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dialect", ["sh", "bash"])
def test_shellcheck_has_nothing_to_say(dialect: str) -> None:
    """Neither of the shell that its first line names, nor of any other."""
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [shellcheck, f"--shell={dialect}", "-"],
        input=script(NASTY),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_a_controller_without_the_file_says_so() -> None:
    """Nothing is begun that cannot be ended."""
    done = run(script(sha256=""), "--dry-run")
    assert done.returncode == 1
    assert "This controller has no daemon to give" in done.stderr


@pytest.mark.parametrize(
    ("option", "variable", "value", "sentence"),
    [
        ("--dryrun", "HYDRA_ROOT", "", "--dryrun is no option of this script"),
        ("--dry-run", "HYDRA_ROOT", "relative", "HYDRA_ROOT is relative: give it from / on."),
        ("--dry-run", "HYDRA_ROOT", "/a b", "HYDRA_ROOT may have letters, digits"),
        ("--dry-run", "HYDRA_PYTHON", "/bin/false", "no Python 3.9 or newer"),
        ("--dry-run", "HYDRA_PYTHON", "/bin/x y", "HYDRA_PYTHON may have letters, digits"),
    ],
)
def test_what_it_is_told_wrong_it_says(option: str, variable: str, value: str, sentence: str) -> None:
    """In a sentence, and with exit code 1."""
    done = run(script(), option, cwd=None, **{variable: value})
    assert done.returncode == 1
    assert sentence in done.stderr
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        ({"id": "echo 1000"}, "This needs root"),
        ({"id": "echo 0", "uname": "[ $1 = -s ] && echo Linux || echo riscv64"}, "this is Linux on riscv64"),
        ({"id": "echo 0", "uname": "[ $1 = -s ] && echo Darwin || echo aarch64"}, "this is Darwin on aarch64"),
    ],
)
def test_where_it_cannot_install_it_says_what_is_needed(tmp_path: Path, says: dict[str, str], sentence: str) -> None:
    """Nothing is changed."""
    for program, line in says.items():
        (tmp_path / program).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / program).chmod(0o755)
    done = run(script(), PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert sentence in done.stderr
