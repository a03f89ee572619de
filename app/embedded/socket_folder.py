"""Where the server's socket lives: inside the data directory, or in a short temporary folder if that lies too deep."""

import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

from app.errors import StartupError

PORT = 5432
_PRIVATE = 0o700
# sun_path holds 104 bytes on macOS and 108 on Linux, the closing zero included.
_LONGEST = 103
# In a URL and in a PostgreSQL setting other characters would have to be quoted, in each in its own way.
_PLAIN = re.compile(r"[A-Za-z0-9._/+~-]+", re.ASCII)


def socket_path(folder: Path) -> Path:
    """The socket that PostgreSQL makes in a folder."""
    return folder / f".s.PGSQL.{PORT}"


def ensure_socket_folder(data_dir: Path) -> Path:
    """A folder of mode 0700 that can hold the socket; the caller holds the data directory.

    A temporary one is remembered in the data directory, so that whoever comes after a killed owner
    uses it again, or removes it. Raises StartupError, OSError.
    """
    inside = data_dir / "run"
    if _fits(inside):
        inside.mkdir(mode=_PRIVATE, exist_ok=True)
        return inside
    remembered = _remembered(data_dir)
    if remembered is not None:
        return remembered
    outside = Path(tempfile.mkdtemp(prefix="aiwm-"))
    if not _fits(outside):
        outside.rmdir()
        raise StartupError(f"The path {outside} is too long for a socket: set TMPDIR to a short one, such as /tmp.")
    _memo(data_dir).write_text(str(outside))
    return outside


def remove_socket_folder(data_dir: Path) -> None:
    """Remove the temporary folder, if there is one; no server may be using it any more."""
    remembered = _remembered(data_dir)
    if remembered is not None:
        shutil.rmtree(remembered, ignore_errors=True)
    _memo(data_dir).unlink(missing_ok=True)


def _remembered(data_dir: Path) -> Path | None:
    """The temporary folder of earlier, unless it is gone or somebody else's by now: anybody can write to /tmp."""
    try:
        folder = Path(_memo(data_dir).read_text())
        found = folder.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == _PRIVATE
    return folder if ours and folder.name.startswith("aiwm-") else None


def _memo(data_dir: Path) -> Path:
    return data_dir / "socket-dir"


def _fits(folder: Path) -> bool:
    path = str(socket_path(folder))
    return len(path) <= _LONGEST and _PLAIN.fullmatch(path) is not None
