"""The running server: started or taken over, and stopped in the end in either case."""

import atexit
import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from app.embedded.lock import try_lock
from app.embedded.poll import poll_until
from app.embedded.postmaster import find_running, is_postgres_of, read_pid_file
from app.embedded.programs import Programs, last_lines
from app.embedded.signals import hold_back_signals
from app.embedded.socket_folder import PORT, ensure_socket_folder, remove_socket_folder, socket_path
from app.errors import StartupError

_SETTINGS = (
    "listen_addresses=",
    f"port={PORT}",
    "unix_socket_permissions=0700",
    "timezone=UTC",
    "log_timezone=UTC",
    "max_connections=100",
    "shared_buffers=256MB",
    # Said although they are the defaults: an acknowledged sample is never lost.
    "fsync=on",
    "full_page_writes=on",
    "synchronous_commit=on",
    # Fewer checkpoints, fewer full pages in the WAL; recovery after a crash reads about this much at most.
    "checkpoint_timeout=15min",
    "max_wal_size=4GB",
    "log_checkpoints=off",
    # On macOS fsync alone leaves the data in the drive's cache.
    *(("wal_sync_method=fsync_writethrough",) if sys.platform == "darwin" else ()),
)
# Recovery after a crash is part of a start.
_START_SECONDS = 120
_CONNECT_SECONDS = 2
# The processes of a killed postmaster notice its death when their statement ends.
_ORPHAN_SECONDS = 30
# Fast shutdown with a checkpoint; without one; and for what does not even react to that, the last resort.
# None of them loses what was committed.
_STOP = ((signal.SIGINT, 60), (signal.SIGQUIT, 10), (signal.SIGKILL, 5))
_LONGEST_LOG = 1024 * 1024

_log = logging.getLogger(__name__)


def url_at(socket_folder: Path | None) -> str:
    """The address of a server whose socket is there. The port is in it because PGPORT would otherwise change it."""
    return f"postgresql://aiwm@/aiwm?host={quote(str(socket_folder))}&port={PORT}"


class Server:
    """One cluster's postmaster. Belongs to whoever holds the data directory, who stops it before letting go."""

    def __init__(self, programs: Programs, data_dir: Path, cluster: Path) -> None:
        self._programs = programs
        self._data_dir = data_dir
        self._cluster = cluster
        self._log_file = data_dir / "postgres.log"
        self._owner = os.getpid()
        self._socket_folder: Path | None = None
        self._pid: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the server is, once started."""
        return url_at(self._socket_folder)

    def start(self) -> None:
        """Take over the server that runs on this cluster, or start one; either way it then takes connections.

        Raises StartupError with what the server said. After any exception stop() is due as well.
        """
        atexit.register(self.stop)
        if not poll_until(lambda: self._take_over() or self._try_spawn(), _ORPHAN_SECONDS):
            raise StartupError(
                f"Processes of a PostgreSQL server that was killed still use {self._cluster}: "
                "end them (they are called `postgres`), then start again."
            )

    def stop(self) -> None:
        """Stop the server, however it came to run. Returns when it is gone; doing it twice does no harm.

        Ctrl-C, SIGTERM and SIGHUP are held back meanwhile, so that none of them leaves a server behind.
        """
        # A forked child that unwinds its parent's blocks must not stop its parent's server.
        if os.getpid() != self._owner:
            return
        with hold_back_signals():
            self._end()
            remove_socket_folder(self._data_dir)
            atexit.unregister(self.stop)

    def _take_over(self) -> bool:
        """Whether a server that a killed owner left behind is ours now and usable; an unusable one is stopped."""
        found = find_running(self._cluster)
        if found is None:
            return False
        self._pid = found.pid
        # It may still be starting, or already stopping: its owner can be killed at any time.
        poll_until(lambda: self._gone() or self._says_ready(), _START_SECONDS)
        # Read again: a server that starts names its socket's folder last.
        self._socket_folder = (read_pid_file(self._cluster) or found).socket_folder
        if not self._gone() and poll_until(self._connects, _CONNECT_SECONDS):
            return True
        # Its socket may be gone with a temporary folder that somebody cleaned.
        self._end()
        return False

    def _try_spawn(self) -> bool:
        """Whether a server of our own started: False, to be tried again, while one of another start still lives.

        Every process of a server inherits server.lock and with it its lock. That tells of what no pid
        file tells: a server that was started an instant ago, and what is left of a killed one.
        """
        lock = try_lock(self._data_dir / "server.lock")
        if lock is None:
            return False
        try:
            self._socket_folder = ensure_socket_folder(self._data_dir)
            before = self._trim_log()
            self._spawn(lock)
        finally:
            os.close(lock)
        in_time = poll_until(lambda: self._gone() or (self._says_ready() and self._connects()), _START_SECONDS)
        if in_time and not self._gone():
            return True
        trouble = "did not start" if in_time else f"was not ready after {_START_SECONDS} s"
        raise StartupError(
            f"PostgreSQL {trouble}: {last_lines(self._said(since=before))} (all of it in {self._log_file})"
        )

    def _spawn(self, lock: int) -> None:
        settings = (*_SETTINGS, f"unix_socket_directories={self._socket_folder}")
        environment = self._programs.environment()
        stale = read_pid_file(self._cluster)
        if stale is not None and not is_postgres_of(self._cluster, stale.pid):
            # That pid is no server of this cluster any more, but may be an innocent process by now, for
            # whose sake PostgreSQL would refuse to start. A pid of which it is told that it stands above
            # its own process it does not mind; it still looks whether anybody uses the shared memory.
            environment["PG_GRANDPARENT_PID"] = str(stale.pid)
        log = os.open(self._log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with hold_back_signals(), os.fdopen(log):
            self._child = subprocess.Popen(
                self._programs.command(
                    "postgres", "-D", str(self._cluster), *(part for text in settings for part in ("-c", text))
                ),
                cwd=self._cluster,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C reaches a terminal's whole foreground group; it is meant for us alone.
            )
            self._pid = self._child.pid

    def _end(self) -> None:
        for number, seconds in _STOP:
            if self._pid is None or self._gone():
                break
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)
            if poll_until(self._gone, seconds):
                break
            _log.warning("PostgreSQL, process %d, did not stop within %d s of signal %d", self._pid, seconds, number)
        self._pid = self._child = None

    def _gone(self) -> bool:
        if self._child is not None:
            return self._child.poll() is not None
        return self._pid is None or not is_postgres_of(self._cluster, self._pid)

    def _says_ready(self) -> bool:
        found = read_pid_file(self._cluster)
        return found is not None and found.pid == self._pid and found.is_ready

    def _connects(self) -> bool:
        if self._socket_folder is None:
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_CONNECT_SECONDS)
            try:
                probe.connect(str(socket_path(self._socket_folder)))
            except OSError:
                return False
        return True

    def _trim_log(self) -> int:
        """Where in the log the next server's lines begin."""
        size = self._log_file.stat().st_size if self._log_file.exists() else 0
        if size <= _LONGEST_LOG:
            return size
        self._log_file.replace(self._log_file.with_suffix(".log.1"))
        return 0

    def _said(self, since: int) -> str:
        with self._log_file.open("rb") as log:
            log.seek(max(since, log.seek(0, os.SEEK_END) - 64 * 1024))
            return log.read().decode(errors="replace")
