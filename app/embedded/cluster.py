"""The cluster on disk: made once, there whole or not at all."""

import os
import pwd
import shutil
import tempfile
from pathlib import Path

from app.embedded.poll import poll_until
from app.embedded.programs import Programs
from app.errors import StartupError

_DRAFT = "initdb-"
_SWEEP_SECONDS = 5


def check_owner(data_dir: Path) -> None:
    """Refuse another user's cluster before a file of ours is put beside it, which they could not open."""
    cluster = cluster_of(data_dir)
    if cluster.exists() and cluster.stat().st_uid != os.geteuid():
        raise StartupError(
            f"The database in {data_dir} belongs to {_name(cluster.stat().st_uid)}, not to {_name(os.geteuid())}: "
            "start as that user, or set AIWM_DATA_DIR to another directory."
        )


def ensure_cluster(programs: Programs, data_dir: Path) -> Path:
    """The cluster's folder, made if there is none; the caller holds the data directory.

    It has one superuser, `aiwm`, and the database `aiwm`: UTF-8, code point order, Unicode-aware
    upper and lower case, the same on every machine. Raises StartupError, OSError.
    """
    cluster = cluster_of(data_dir)
    _sweep(data_dir)
    if not cluster.exists():
        # A kill in the middle leaves a draft, never half a cluster: the rename is the last step.
        draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=data_dir))
        try:
            _make(programs, draft)
            draft.rename(cluster)
            _flush(data_dir)
        finally:
            _sweep(data_dir)
    return cluster


def _make(programs: Programs, draft: Path) -> None:
    programs.run(
        "initdb",
        f"--pgdata={draft}",
        "--username=aiwm",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--auth-local=trust",  # The socket's folder is 0700: who can reach the socket may read the files as well.
        "--auth-host=reject",
        "--no-instructions",
    )
    # Without exit_on_error a single-user server reports an error and still exits with 0.
    programs.run(
        "postgres", "--single", "-D", str(draft), "-c", "exit_on_error=on", "postgres", text="CREATE DATABASE aiwm\n"
    )


def _sweep(data_dir: Path) -> None:
    """Remove the drafts of starts that were killed.

    An initdb that outlived its start may still be writing; it fails soon when its files are gone,
    and what it puts back until then goes with the next round, or with the next start.
    """

    def swept() -> bool:
        for draft in data_dir.glob(f"{_DRAFT}*"):
            shutil.rmtree(draft, ignore_errors=True)
        return not any(data_dir.glob(f"{_DRAFT}*"))

    poll_until(swept, _SWEEP_SECONDS)


def _flush(folder: Path) -> None:
    """Make a rename in the folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cluster_of(data_dir: Path) -> Path:
    """Where the cluster is, or will be."""
    return data_dir / "postgres"


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
