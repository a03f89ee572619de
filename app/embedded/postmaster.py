"""What can be known about the postmaster of a cluster from outside: its pid file and the process itself."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PidFile:
    """postmaster.pid, as the server writes it: it says what was, not that it still is."""

    pid: int
    socket_folder: Path
    status: str
    """`starting`, `ready`, `stopping`, or empty while the server has not got that far."""

    @property
    def is_ready(self) -> bool:
        """Whether it takes connections."""
        return self.status == "ready"


def read_pid_file(cluster: Path) -> PidFile | None:
    """The file's content; None if there is none, or only its beginning so far."""
    try:
        lines = (cluster / "postmaster.pid").read_text(errors="replace").splitlines()
        # 1 pid, 2 data directory, 3 start time, 4 port, 5 socket folder, 6 address, 7 shared memory, 8 status
        return PidFile(int(lines[0]), Path(lines[4]), "".join(lines[7:8]).strip())
    except (OSError, ValueError, IndexError):
        return None


def find_running(cluster: Path) -> PidFile | None:
    """The pid file, if the server that it speaks of is running."""
    found = read_pid_file(cluster)
    return found if found and is_postgres_of(cluster, found.pid) else None


def is_postgres_of(cluster: Path, pid: int) -> bool:
    """Whether that process is alive and a PostgreSQL server of this cluster.

    A pid alone proves nothing: after a crash or a reboot it may be anybody's. A zombie is not alive.
    """
    process = Path("/proc") / str(pid)
    if Path("/proc/self").exists():
        try:
            # A server works in its cluster's folder, whatever that is called by now.
            return (process / "comm").read_text().strip() == "postgres" and (process / "cwd").samefile(cluster)
        except OSError:
            return False
    # macOS: the command line that server.py gave it.
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.defpath})
    return f"postgres -D {cluster} " in said.stdout
