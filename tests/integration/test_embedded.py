"""The embedded PostgreSQL server: real processes, real signals, real folders."""

import asyncio
import hashlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from app.embedded import embedded_postgres, visited_postgres
from app.embedded.poll import poll_until
from app.embedded.postmaster import find_running
from app.embedded.programs import find_programs
from app.errors import StartupError

pytestmark = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="these tests look at processes in /proc")

AS_ROOT = os.geteuid() == 0
NOBODY = 65534
SECONDS = 20

OWNER = """
import encodings.idna, os, select, sys, time
from pathlib import Path
from app.embedded import embedded_postgres
from app.errors import StartupError

data_dir, user, mode = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if user:
    # Only now, with everything imported: the interpreter's own folder may be closed to that user.
    os.setgroups([]); os.setgid(user); os.setuid(user)
try:
    with embedded_postgres(data_dir) as url:
        child = os.fork() if mode == "fork" else None
        if child == 0:
            time.sleep(600)
        print(url, child, flush=True)
        # Not a blocking read: Python would not see a signal that comes just before it.
        while not select.select([sys.stdin], [], [], 0.05)[0]:
            pass
except StartupError as error:
    print(error, flush=True)
    sys.exit(1)
"""


class Owner:
    """A process that enters the context and stays until its standard input ends, or a signal comes."""

    def __init__(self, data_dir: Path, *, user: int = 0, mode: str = "", **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(data_dir), str(user), mode],
            cwd=Path(__file__).parents[2],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def said(self) -> str:
        """Its next line: the URL, or why there is none."""
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], SECONDS)[0], "the owner says nothing"
        return self.process.stdout.readline().strip()

    def send(self, *numbers: int) -> None:
        """Send signals, one right after the other."""
        for number in numbers:
            self.process.send_signal(number)

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        status = self.process.wait(SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()
        return status


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory that does not exist yet; whatever the test, no server of it may be left running."""
    yield from _watched(tmp_path / "data")


@pytest.fixture
def deep_dir(tmp_path: Path) -> Iterator[Path]:
    """The same under a path that no socket can have."""
    yield from _watched(tmp_path / ("deep" * 20) / "with blanks, and commas" / "data")


@pytest.fixture
def start() -> Iterator[Callable[..., Owner]]:
    """Start owner processes; those that are still there in the end are ended."""
    owners: list[Owner] = []

    def started(*arguments: Any, **options: Any) -> Owner:
        owners.append(Owner(*arguments, **options))
        return owners[-1]

    yield started
    for owner in owners:
        owner.process.kill()
        owner.ended()


def _watched(folder: Path) -> Iterator[Path]:
    yield folder
    left = not poll_until(lambda: not servers_of(folder), SECONDS)
    for pid in servers_of(folder):
        os.kill(pid, signal.SIGKILL)
    assert not left, "a server was left behind"


def servers_of(folder: Path) -> list[int]:
    """The pids of all processes that work in the folder's cluster, or in one in the making."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(folder.resolve()):
                found.append(int(process.name))
    return found


def query(url: str, *statements: str) -> Any:
    """Run statements on one connection; the first column of the last one's first row."""

    async def run() -> Any:
        connection = await asyncpg.connect(url)
        try:
            value = None
            for statement in statements:
                value = await connection.fetchval(statement)
            return value
        finally:
            await connection.close()

    return asyncio.run(run())


def postmaster(folder: Path) -> int:
    """The pid of the server that runs on the folder's cluster."""
    found = find_running(folder / "postgres")
    assert found
    return found.pid


def test_data_is_kept_across_restarts(data_dir: Path) -> None:
    """What one start wrote, the next one reads."""
    with embedded_postgres(data_dir) as url:
        query(url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42)")
        # Ctrl-C in a terminal goes to a whole session's foreground group.
        assert os.getsid(postmaster(data_dir)) != os.getsid(0)
    with embedded_postgres(data_dir) as url:
        assert query(url, "SELECT n FROM kept") == 42
    assert not servers_of(data_dir)


def test_database_is_the_same_on_every_machine(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding, order, time zone, port and durability do not depend on the environment, and no secret reaches it."""
    surroundings = {"TZ": "Asia/Tokyo", "LANG": "tr_TR.UTF-8", "PGPORT": "6000", "AIWM_JWT_SECRET": "s3cret"}
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    with embedded_postgres(data_dir) as url:
        for setting, value in {
            "server_encoding": "UTF8",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "port": "5432",
            "listen_addresses": "",
            "fsync": "on",
            "synchronous_commit": "on",
        }.items():
            assert query(url, f"SHOW {setting}") == value
        assert query(url, "SELECT datlocale FROM pg_database WHERE datname = current_database()") == "C.UTF-8"
        assert query(url, "SELECT upper('ä') || current_user || current_database()") == "Äaiwmaiwm"
        assert b"s3cret" not in Path(f"/proc/{postmaster(data_dir)}/environ").read_bytes()


def test_url_serves_sqlalchemy_too(data_dir: Path) -> None:
    """The URL with its scheme swapped is one for SQLAlchemy."""

    async def ask(url: str) -> Any:
        engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
        async with engine.connect() as connection:
            answer = await connection.scalar(text("SELECT current_database()"))
        await engine.dispose()
        return answer

    with embedded_postgres(data_dir) as url:
        assert asyncio.run(ask(url)) == "aiwm"


def test_second_start_is_refused(data_dir: Path, start: Callable[..., Owner]) -> None:
    """Who starts a second time on one data directory learns who has it and what to do; the first goes on."""
    with embedded_postgres(data_dir) as url:
        other = start(data_dir)
        sentence = other.said()
        assert f"pid {os.getpid()} on {socket.gethostname()} since 20" in sentence
        assert "stop that one, or set AIWM_DATA_DIR" in sentence
        assert other.ended() == 1
        with pytest.raises(StartupError, match=f"pid {os.getpid()} "), embedded_postgres(data_dir):
            pass
        assert query(url, "SELECT 1") == 1


@pytest.mark.parametrize("place", ["data_dir", "deep_dir"])
def test_next_start_takes_over_what_a_killed_owner_left(
    place: str, start: Callable[..., Owner], request: pytest.FixtureRequest
) -> None:
    """After kill -9 of the owner the next start goes on with the same server and data, and stops it in the end."""
    folder: Path = request.getfixturevalue(place)
    owner = start(folder)
    url = owner.said().split()[0]
    query(url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42)")
    before = postmaster(folder)
    owner.send(signal.SIGKILL)
    owner.ended()
    assert postmaster(folder) == before
    with embedded_postgres(folder) as again:
        assert postmaster(folder) == before
        assert again == url
        assert query(again, "SELECT n FROM kept") == 42
    assert not servers_of(folder)


def test_server_whose_socket_is_gone_is_replaced(deep_dir: Path, start: Callable[..., Owner]) -> None:
    """A server left behind whose temporary folder was cleaned away is stopped, and a new one started."""
    owner = start(deep_dir)
    owner.said()
    before = postmaster(deep_dir)
    owner.send(signal.SIGKILL)
    owner.ended()
    shutil.rmtree((deep_dir / "socket-dir").read_text())
    with embedded_postgres(deep_dir) as url:
        assert postmaster(deep_dir) != before
        assert query(url, "SELECT 1") == 1


def test_forked_child_does_not_hold_the_data_directory(data_dir: Path, start: Callable[..., Owner]) -> None:
    """A child that the owner forked and that outlives it does not block the next start."""
    owner = start(data_dir, mode="fork")
    child = int(owner.said().split()[1])
    owner.send(signal.SIGKILL)
    try:
        with embedded_postgres(data_dir) as url:
            assert query(url, "SELECT 1") == 1
    finally:
        os.kill(child, signal.SIGKILL)
        owner.ended()


def test_forked_child_that_unwinds_stops_nothing(deep_dir: Path) -> None:
    """The end of the block in a forked child leaves the parent's server running, and the parent its owner."""
    context = embedded_postgres(deep_dir)
    with context as url:
        before = postmaster(deep_dir)
        child = os.fork()
        if child == 0:
            try:
                context.__exit__(None, None, None)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert postmaster(deep_dir) == before
        assert query(url, "SELECT 1") == 1
        with pytest.raises(StartupError), embedded_postgres(deep_dir):
            pass


@pytest.mark.parametrize(
    ("signals", "status"),
    [
        ([signal.SIGINT], -signal.SIGINT),
        ([signal.SIGINT] * 2, -signal.SIGINT),
        ([signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP], None),
        ([signal.SIGTERM], 128 + signal.SIGTERM),
        ([signal.SIGTERM] * 2, 128 + signal.SIGTERM),
        ([signal.SIGHUP], 128 + signal.SIGHUP),
    ],
)
def test_signals_leave_nothing_behind(
    signals: list[int], status: int | None, data_dir: Path, start: Callable[..., Owner]
) -> None:
    """Ctrl-C, twice as well, SIGTERM and SIGHUP stop the server before the owner ends."""
    owner = start(data_dir)
    owner.said()
    assert servers_of(data_dir)
    owner.send(*signals)
    assert owner.ended() == status or status is None
    assert not servers_of(data_dir)


def test_signals_during_the_stop_do_not_cut_it_short(data_dir: Path, start: Callable[..., Owner]) -> None:
    """However often somebody presses Ctrl-C while the server is stopping, it is stopped before the owner ends."""
    owner = start(data_dir)
    url = owner.said().split()[0]

    async def interrupt_again_and_again() -> None:
        connection = await asyncpg.connect(url)
        backend: int = await connection.fetchval("SELECT pg_backend_pid()")
        # The server cannot stop before this one of its processes does.
        os.kill(backend, signal.SIGSTOP)
        log = data_dir / "postgres.log"
        owner.send(signal.SIGINT)
        assert poll_until(lambda: "received fast shutdown request" in log.read_text(), SECONDS)
        for number in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] * 3:
            owner.send(number)
            await asyncio.sleep(0.05)
        os.kill(backend, signal.SIGCONT)
        connection.terminate()

    asyncio.run(interrupt_again_and_again())
    assert owner.ended() == -signal.SIGINT
    assert not servers_of(data_dir)


@pytest.mark.parametrize("moment", ["initdb-*", "postgres/postmaster.pid"])
def test_interrupt_during_the_start_leaves_nothing_behind(
    moment: str, data_dir: Path, start: Callable[..., Owner]
) -> None:
    """Ctrl-C before the server is ready stops what had been started, and the next start works."""
    owner = start(data_dir)
    assert poll_until(lambda: any(data_dir.glob(moment)), SECONDS, interval=0.001)
    owner.send(signal.SIGINT)
    assert owner.ended() != 0
    assert poll_until(lambda: not servers_of(data_dir), SECONDS)
    with embedded_postgres(data_dir) as url:
        assert query(url, "SELECT 1") == 1


def test_body_that_raises_stops_the_server(data_dir: Path) -> None:
    """An error in the block comes out as it is, and the server is stopped."""
    with pytest.raises(OSError, match="mine"), embedded_postgres(data_dir):
        raise OSError("mine")
    assert not servers_of(data_dir)


def test_permissions_and_owners_stay(tmp_path: Path) -> None:
    """Nothing outside the data directory changes: parents of mode 0700, the binaries, the list of users."""
    parent = tmp_path / "closed"
    parent.mkdir(mode=0o700)
    programs = find_programs().folder
    watched = [*(parent / "x").parents, programs, *programs.parents, programs / "postgres", programs / "initdb"]

    def state() -> list[tuple[Any, ...]]:
        return [(path, path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in watched]

    before, users = state(), hashlib.sha256(Path("/etc/passwd").read_bytes()).digest()
    with embedded_postgres(parent / "data") as url:
        assert state() == before
        assert (parent / "data").stat().st_mode & 0o777 == 0o700
        assert Path(parse_qs(urlsplit(url).query)["host"][0]).stat().st_mode & 0o777 == 0o700
    assert state() == before
    assert hashlib.sha256(Path("/etc/passwd").read_bytes()).digest() == users
    mine = {path.lstat().st_uid for path in (parent / "data").rglob("*")}
    assert mine == {os.geteuid()}


def test_deep_path_gets_a_short_private_socket_folder(deep_dir: Path) -> None:
    """Where the path is too long for a socket, a temporary folder of mode 0700 holds it and is removed in the end."""
    with embedded_postgres(deep_dir) as url:
        assert query(url, "SELECT 1") == 1
        folder = Path((deep_dir / "socket-dir").read_text())
        assert folder.parent == Path(tempfile.gettempdir())
        assert folder.stat().st_mode & 0o777 == 0o700
        assert f"host={folder}&" in url
    assert not folder.exists()
    assert not (deep_dir / "socket-dir").exists()


def test_kill_during_the_first_start_is_repaired(data_dir: Path, start: Callable[..., Owner]) -> None:
    """A start that is killed while the cluster is being made leaves none; the next one makes it whole."""
    owner = start(data_dir)
    assert poll_until(lambda: any(data_dir.glob("initdb-*/base")), SECONDS, interval=0.001)
    owner.send(signal.SIGKILL)
    owner.ended()
    assert not (data_dir / "postgres").exists()
    with embedded_postgres(data_dir) as url:
        assert query(url, "SELECT current_database()") == "aiwm"
        assert not list(data_dir.glob("initdb-*"))


def test_crash_loses_nothing_and_a_stale_pid_does_not_block(data_dir: Path, start: Callable[..., Owner]) -> None:
    """After everything was killed, and the old pid is another program's by now, what was committed is there."""
    owner = start(data_dir)
    url = owner.said().split()[0]
    query(url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42)")
    owner.send(signal.SIGKILL)
    for pid in (postmaster(data_dir), *servers_of(data_dir)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert poll_until(lambda: not servers_of(data_dir), SECONDS)
    bystander = subprocess.Popen(["sleep", "600"], cwd=data_dir / "postgres")
    try:
        for file in (data_dir / "postgres" / "postmaster.pid", data_dir / "run" / ".s.PGSQL.5432.lock"):
            _, *rest = file.read_text().splitlines(keepends=True)
            file.write_text("".join([f"{bystander.pid}\n", *rest]))
        with embedded_postgres(data_dir) as url:
            assert query(url, "SELECT n FROM kept") == 42
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_orphans_of_a_killed_server_are_waited_for(data_dir: Path, start: Callable[..., Owner]) -> None:
    """After kill -9 of the server itself the next start waits until its last process has gone."""

    async def kill_under_a_connection(url: str) -> int:
        connection = await asyncpg.connect(url)
        backend: int = await connection.fetchval("SELECT pg_backend_pid()")
        os.kill(backend, signal.SIGSTOP)
        os.kill(postmaster(data_dir), signal.SIGKILL)
        connection.terminate()
        return backend

    with embedded_postgres(data_dir) as url:
        backend = asyncio.run(kill_under_a_connection(url))
    assert poll_until(lambda: servers_of(data_dir) == [backend], SECONDS)

    owner = start(data_dir)
    assert poll_until(lambda: f"pid {owner.process.pid} " in (data_dir / "aiwm.lock").read_text(), SECONDS)
    assert not poll_until(lambda: servers_of(data_dir) != [backend], 0.5)
    os.kill(backend, signal.SIGCONT)
    assert query(owner.said().split()[0], "SELECT 1") == 1
    assert backend not in servers_of(data_dir)
    owner.send(signal.SIGINT)
    owner.ended()


def test_failed_start_says_why(data_dir: Path) -> None:
    """A server that does not start is an error with the server's own last words."""
    with embedded_postgres(data_dir):
        pass
    (data_dir / "postgres" / "postgresql.conf").write_text("work_mem = 'a lot'\n")
    with pytest.raises(StartupError, match=r"did not start.*work_mem.*postgres\.log"), embedded_postgres(data_dir):
        pass


def test_unusable_data_directory_is_a_sentence(tmp_path: Path) -> None:
    """A data directory that cannot be one is an error that names the setting."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="AIWM_DATA_DIR"), embedded_postgres(tmp_path / "file"):
        pass


def test_log_does_not_grow_for_ever(data_dir: Path) -> None:
    """A log over 1 MiB starts anew, and the one before is kept."""
    data_dir.mkdir()
    (data_dir / "postgres.log").write_text("x" * 1024 * 1024 + "x")
    with embedded_postgres(data_dir):
        assert (data_dir / "postgres.log").stat().st_size < 10_000
    assert (data_dir / "postgres.log.1").stat().st_size > 1024 * 1024


@pytest.mark.skipif(not AS_ROOT, reason="only root can become somebody else")
def test_ordinary_user_needs_no_detour(start: Callable[..., Owner]) -> None:
    """An ordinary user runs the server as himself, in a folder of his own."""
    postgres = find_programs().folder / "postgres"
    if subprocess.run([postgres, "--version"], user=NOBODY, group=NOBODY, capture_output=True, check=False).returncode:
        pytest.skip(f"{postgres} cannot be run by user {NOBODY}: a folder above it is closed")
    # Not tmp_path: pytest's folders are closed to others.
    home = Path(tempfile.mkdtemp(prefix="aiwm-test-"))
    try:
        os.chown(home, NOBODY, NOBODY)
        owner = start(home / "data", user=NOBODY)
        assert "/data/run" in owner.said()
        server = Path(f"/proc/{postmaster(home / 'data')}")
        assert server.stat().st_uid == NOBODY
        assert (server / "ns" / "user").readlink() == Path("/proc/self/ns/user").readlink()
        assert (home / "data" / "postgres" / "PG_VERSION").stat().st_uid == NOBODY
        with pytest.raises(StartupError, match="belongs to nobody, not to root"), embedded_postgres(home / "data"):
            pass
        owner.send(signal.SIGINT, signal.SIGINT)
        owner.ended()
        assert not servers_of(home)
    finally:
        shutil.rmtree(home)


@pytest.mark.skipif(not AS_ROOT, reason="this is about root")
def test_root_in_another_users_closed_folder_is_told_so() -> None:
    """Root steps down to run PostgreSQL and then is not let into another user's closed folder: the error says so."""
    home = Path(tempfile.mkdtemp(prefix="aiwm-test-"))
    try:
        os.chown(home, NOBODY, NOBODY)
        with (
            pytest.raises(StartupError, match=r"Permission denied.*start as the one"),
            embedded_postgres(home / "data"),
        ):
            pass
    finally:
        shutil.rmtree(home)


@pytest.mark.skipif(not AS_ROOT, reason="this is about root")
def test_root_that_cannot_step_down_is_told_what_to_do(data_dir: Path, start: Callable[..., Owner]) -> None:
    """Where root has no way to become somebody else, the error says what to do, and nothing was made."""
    owner = start(data_dir, PATH="/nonexistent")
    sentence = owner.said()
    assert "run as an ordinary user, or set AIWM_DATABASE_URL" in sentence
    assert owner.ended() == 1
    assert not data_dir.exists()


def test_a_visitor_uses_the_server_that_runs_and_leaves_it_running(tmp_path: Path) -> None:
    """Without an owner it runs one of its own for as long as it stays."""
    with embedded_postgres(tmp_path) as url:
        with visited_postgres(tmp_path) as visited:
            assert visited == url
        running = find_running(tmp_path / "postgres")
        assert running is not None
    assert find_running(tmp_path / "postgres") is None
    with visited_postgres(tmp_path) as visited:
        assert find_running(tmp_path / "postgres") is not None
    assert find_running(tmp_path / "postgres") is None
