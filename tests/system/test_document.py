"""The document's own command lines, taken out of its text and run as they stand there.

Filled in is what the document itself tells a reader to fill in: the portal token. Three things are
beyond a test: the lines with `scp` and `ssh` need another machine and are left out; where port 3305 is
taken, `localhost:3305` is replaced by the service's own; where `jq` is missing, a stand-in takes its place.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.system.client import Worker
from tests.system.conftest import Service, free_port, running

DOCUMENTED_PORT: Final = 3305
SCRIPT_SECONDS: Final = 30

# The filters that the document uses: `.`, `.name`, and `.name[] | {a, b}`; `-r` prints texts bare.
JQ: Final = """#!{python}
import json, re, sys

arguments = sys.argv[1:]
raw = "-r" in arguments
(filter_,) = [it for it in arguments if it != "-r"]
values, picked = [json.load(sys.stdin)], None
path, _, rest = (part.strip() for part in filter_.partition("|"))
for name, every in re.findall(r"\\.(\\w*)(\\[\\])?", path):
    values = [value[name] if name else value for value in values]
    if every:
        values = [item for value in values for item in value]
if rest:
    names = re.fullmatch(r"\\{{(.*)\\}}", rest)[1].replace(" ", "").split(",")
    values = [{{name: value.get(name) for name in names}} for value in values]
for value in values:
    print(value if raw and isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False))
"""


def is_free(port: int) -> bool:
    """Whether nobody listens there, on either of localhost's addresses."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family) as probe:
                if probe.connect_ex((address, port)) == 0:
                    return False
        except OSError:  # no IPv6 here
            continue
    return True


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on the documented port, if it is free."""
    port = DOCUMENTED_PORT if is_free(DOCUMENTED_PORT) else free_port()
    if port != DOCUMENTED_PORT:
        print(f"port {DOCUMENTED_PORT} is taken: the document's lines run with localhost:{port}")
    with running(tmp_path_factory.mktemp("document"), port) as service:
        yield service


def commands(document: Path, heading: str, service: Service) -> str:
    """The first bash block below a heading of the document."""
    found = re.search(
        rf"^#+ {re.escape(heading)}$.*?^```bash\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL
    )
    assert found, f"{document} has no commands under {heading!r}"
    return found[1].replace(f"localhost:{DOCUMENTED_PORT}", f"localhost:{service.port}")


@pytest.fixture
def run(tmp_path: Path, service: Service) -> "Shell":
    """A shell in an empty folder, with TOKEN set and `jq` on its PATH."""
    if shutil.which("curl") is None:
        pytest.skip("the document's lines need curl")
    return Shell(tmp_path, service.token())


class Shell:
    """Runs scripts with bash."""

    def __init__(self, folder: Path, token: str) -> None:
        self.folder = folder
        self._env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        self._env |= {"TOKEN": token, "HOME": str(folder)}
        if shutil.which("jq") is None:
            self._env["PATH"] = f"{stand_in(folder / 'bin')}{os.pathsep}{os.environ['PATH']}"

    def __call__(self, script: str) -> str:
        """What a script printed; every one of its commands must have succeeded, in its pipes too."""
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=SCRIPT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def stand_in(folder: Path) -> Path:
    """A folder with a `jq` in it that knows the document's filters."""
    folder.mkdir()
    (folder / "jq").write_text(JQ.format(python=Path(sys.executable).resolve()))
    (folder / "jq").chmod(0o755)
    return folder


def test_creation_and_monitoring(shared_document: Path, service: Service, run: Shell) -> None:
    """Best Practices §1 and §2: a node, its installation script, its status, the nodes that are online."""
    lines = commands(shared_document, "1. Node Creation Workflow", service).splitlines()
    create = "\n".join(line for line in lines if not line.startswith(("scp ", "ssh ")))
    assert len(create.splitlines()) == len(lines) - 2
    monitor = commands(shared_document, "2. Monitoring Node Status", service)
    with service.portal() as portal:
        online = portal.create("online-one")["_id"]
        with Worker(service.ws_url, portal.node_token(online)) as worker:
            worker.register()
            output = run(f"{create}\n{monitor}\necho $NODE_ID")
        *shown, node_id = output.splitlines()
        assert portal.node(node_id)["name"] == "GPU-Worker-01"
    assert shown[0] == '"pending"'
    assert [line.strip().split(":")[0] for line in shown[1:]] == ["{", '"name"', '"status"', '"lastHeartbeat"', "}"]
    assert '"online-one"' in output
    script = (run.folder / "install.sh").read_text()
    assert script.startswith("#!/bin/bash\n")
    assert f'export HYDRA_NODE_ID="{node_id}"' in script
    run("bash -n install.sh")


def test_complete_example_workflow(shared_document: Path, service: Service, run: Shell) -> None:
    """The whole script, with nothing but its placeholder for the token filled in."""
    script = commands(shared_document, "Complete Example Workflow", service)
    assert script.count('TOKEN="your-jwt-token-here"') == 1
    output = run(script.replace("your-jwt-token-here", service.token()))
    found = re.search(r"^Node created with ID: ([0-9a-f]{24})$", output, re.MULTILINE)
    assert found, output
    assert re.search(r"^Token generated, expires at: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", output, re.MULTILINE)
    assert f'"_id": "{found[1]}"' in output
    assert '"status": "pending"' in output
    saved = run.folder / f"install-node-{found[1]}.sh"
    assert os.access(saved, os.X_OK)
    assert f'export HYDRA_NODE_ID="{found[1]}"' in saved.read_text()
    run(f"bash -n {saved.name}")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("-r '._id'", "673e"),
        ("'._id'", '"673e"'),
        ("'.'", '{\n  "_id": "673e",\n  "data": [\n    {\n      "name": "a",\n      "status": "x",\n      "role": 1\n    }\n  ]\n}'),
        ("'.data[] | {name, status, lastHeartbeat}'", '{\n  "name": "a",\n  "status": "x",\n  "lastHeartbeat": null\n}'),
    ],
)  # fmt: skip
def test_the_stand_in_for_jq_does_what_jq_does(tmp_path: Path, arguments: str, shown: str) -> None:
    """Where there is a jq, both are asked."""
    text = '{"_id": "673e", "data": [{"name": "a", "status": "x", "role": 1}]}'
    for program in [f"{stand_in(tmp_path / 'bin')}/jq", shutil.which("jq")]:
        if program is not None:
            done = subprocess.run(
                ["bash", "-c", f"{program} {arguments}"],
                input=text,
                capture_output=True,
                text=True,
                timeout=SCRIPT_SECONDS,
                check=True,
            )
            assert done.stdout == f"{shown}\n", program
