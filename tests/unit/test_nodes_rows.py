"""Files of nodes to be imported."""

import stat
from pathlib import Path

import pytest

from app.errors import StartupError
from app.nodes_cli import scripts
from app.nodes_cli.rows import read_rows


def test_one_name_a_line() -> None:
    """Blank lines and comments are passed over; a node is a worker unless something else is said."""
    assert [row.body for row in read_rows("gpu-01\n\n# the second rack\n gpu 02 \n")] == [
        {"name": "gpu-01", "role": ["worker"]},
        {"name": "gpu 02", "role": ["worker"]},
    ]


def test_a_csv_with_columns_of_the_api() -> None:
    """Empty cells say nothing; metadata has a column a key; several roles stand in one cell."""
    text = '\ufeffname,role,isLocal,vpnIp,metadata.rack\n"a, b",worker;storage,yes,10.0.0.1,7\nc,,,,\n'
    assert [row.body for row in read_rows(text)] == [
        {
            "name": "a, b",
            "role": ["worker", "storage"],
            "isLocal": True,
            "vpnIp": "10.0.0.1",
            "metadata": {"rack": "7"},
        },
        {"name": "c", "role": ["worker"]},
    ]


def test_json_lines_are_bodies_of_the_api() -> None:
    """They are sent as they are."""
    assert read_rows('{"name": "a", "metadata": {"rack": 7}}\n')[0].body == {
        "name": "a",
        "role": ["worker"],
        "metadata": {"rack": 7},
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no node in the file"),
        ("name,colour\na,red\n", "column 'colour'"),
        ("name,role\na\n", "Line 2 has 1 values for 2 columns"),
        ("name,role\n,worker\n", "Line 2 has no name"),
        ("name,isLocal\na,perhaps\n", "isLocal in line 2 is 'perhaps'"),
        ("a\nb\na\n", "Lines 1 and 3 both name 'a'"),
        ('{"name": "a"}\n{"nam\n', "Line 2 is no JSON object"),
        ('{"role": ["worker"]}\n', "Line 1 has no name"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    """It names the line, before anything is created."""
    with pytest.raises(StartupError, match=sentence):
        read_rows(text)


def test_a_script_is_for_its_owner_alone_and_stays_in_its_folder(tmp_path: Path) -> None:
    """Whatever a node is called; an unfinished one of an earlier run is in nobody's way."""
    into = scripts.folder(tmp_path / "scripts")
    file = scripts.file_of(into, "../../$(rm -rf /)\"';", "6b0771ccbb1b9958458656f4")
    file.with_name(f".{file.name}.unfinished").write_text("half of it")
    scripts.write(file, "#!/bin/sh\n")
    assert list(into.iterdir()) == [file]
    assert file.parent == into
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(into.stat().st_mode) == 0o700
