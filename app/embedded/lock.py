"""Who holds a data directory: one file, one flock, for as long as the owner lives.

The kernel drops the lock with its owner, `kill -9` included, so nothing stale can ever block a start.
PostgreSQL's own postmaster.pid cannot decide this: it is about the server, which outlives its owner.
A second file is locked by the server in the same way; see server.py.
"""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from app.clock import timestamp
from app.embedded.poll import poll_until
from app.errors import StartupError

# Descriptors of the locks this process holds. Python never passes them on through exec, but a plain
# fork (multiprocessing's default on Linux before 3.14) shares the lock itself: a child that outlived
# a killed parent would go on holding the directory. Closing its copy takes nothing from the parent.
_held: set[int] = set()


def _forget_in_child() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_forget_in_child)


# A start that is killed between fork and exec leaves the lock with its newborn child, until that has become postgres.
_NEWBORN_SECONDS = 1

LOCK = "aiwm.lock"


@contextmanager
def hold(data_dir: Path) -> Iterator[None]:
    """Hold an existing data directory for the length of the block.

    Raises StartupError, naming the holder, if another process or another part of this one has it.
    """
    lock = _lock_or_refuse(data_dir)
    _held.add(lock)
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"pid {os.getpid()} on {platform.node()} since {timestamp(datetime.now(UTC))}".encode(), 0)
        yield
    finally:
        # Not so in a forked child that unwinds this block: there the number may be another file by now.
        if lock in _held:
            _held.discard(lock)
            os.close(lock)


def try_lock(file: Path) -> int | None:
    """A descriptor that holds the file's lock until it and every inherited copy is closed; None if it is taken.

    Raises StartupError where the file cannot be locked at all.
    """
    try:
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartupError(
            f"{file} cannot be opened ({error.strerror}): "
            "start as the user it belongs to, or set AIWM_DATA_DIR to another directory."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError as error:
        os.close(lock)
        raise StartupError(
            f"{file} is on a file system without locks ({error.strerror}): "
            "set AIWM_DATA_DIR to a directory on a local disk."
        ) from error
    return lock


def _lock_or_refuse(data_dir: Path) -> int:
    file = data_dir / LOCK
    locks: list[int] = []

    def locked() -> bool:
        lock = try_lock(file)
        locks.extend([] if lock is None else [lock])
        return lock is not None

    if not poll_until(locked, _NEWBORN_SECONDS):
        raise StartupError(
            f"The data directory {data_dir} is in use by another service ({file.read_text(errors='replace')}): "
            "stop that one, or set AIWM_DATA_DIR to another directory."
        )
    return locks[0]
