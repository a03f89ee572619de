"""What the controller has not acknowledged yet, on disk: a sample is here before it is sent.

SQLite with a write-ahead log. A sample is synced to the disk as it is recorded, so that a power cut takes
none; that is one sync a minute. Forgetting one is not synced: what comes back is sent twice, and stored once.

Where the disk is full or gone, samples are kept in memory, fewer of them, until it takes them again.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import OrderedDict
from pathlib import Path
from typing import Callable, Final, NamedTuple, TypeVar

from app.protocol import wire

T = TypeVar("T")

MEMORY_SAMPLES: Final = 500
"""Kept where the disk takes none: a few MiB."""
_VERSION: Final = 1
_SCHEMA: Final = f"""
    BEGIN;
    CREATE TABLE sample (
        number INTEGER PRIMARY KEY,      -- in the order of recording, about its time
        message_id TEXT NOT NULL UNIQUE, -- the same however often it is sent
        kind TEXT NOT NULL,              -- the frame's type
        moment INTEGER NOT NULL,         -- its time, milliseconds since 1970
        size INTEGER NOT NULL,           -- bytes of `data`
        data TEXT NOT NULL               -- JSON
    );
    PRAGMA user_version = {_VERSION};
    COMMIT;
"""
_log = logging.getLogger(__name__)


class Sample(NamedTuple):
    """A frame that waits for its acknowledgement. `moment` in milliseconds since 1970, `data` as JSON text."""

    number: int
    message_id: str
    kind: str
    moment: int
    data: str

    @property
    def size(self) -> int:
        """Bytes of `data`."""
        return len(self.data.encode())


class Spool:
    """A bounded queue of samples. Belongs to one thread; `count`, `size` and `newest` may be read by any."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._connection: sqlite3.Connection | None = None
        self._memory: OrderedDict[int, Sample] = OrderedDict()
        self._to_forget: set[str] = set()
        self._is_in_trouble = False
        self._dropped = 0
        self._on_disk_count = 0
        self.size = 0
        """Bytes of data on disk."""
        self.newest = 0
        """Number of the sample that was recorded last."""
        self._on_disk(lambda _: None)

    @property
    def count(self) -> int:
        """Samples that are kept."""
        return self._on_disk_count + len(self._memory)

    def put(self, kind: str, moment: int, data: str) -> None:
        """Record a sample. Never raises for the disk's sake: it says so in the log, and keeps it in memory."""
        # A number that begins with the time comes after those in a file that could not be opened so far.
        self.newest = max(self.newest + 1, moment)
        sample = Sample(self.newest, wire.new_message_id(), kind, moment, data)
        self._memory[sample.number] = sample
        if self._on_disk(self._write_memory) is None and len(self._memory) > MEMORY_SAMPLES:
            _, oldest = self._memory.popitem(last=False)
            self._say_dropped(1, oldest.moment, "the disk takes no samples, and memory is bounded")

    def after(self, number: int) -> Sample | None:
        """The next sample that was recorded after this number."""
        found = self._select("number > ? ORDER BY number LIMIT 1", number)
        found += [sample for sample in self._memory.values() if sample.number > number][:1]
        return min(found, default=None)

    def before(self, number: int, limit: int) -> list[Sample]:
        """Samples that were recorded before this number, newest first."""
        found = self._select("number < ? ORDER BY number DESC LIMIT ?", number, limit)
        found += [sample for sample in self._memory.values() if sample.number < number]
        return sorted(found, reverse=True)[:limit]

    def forget(self, message_id: str) -> None:
        """It is acknowledged, or will never be: drop it. One that is not here is no error."""
        for number, sample in self._memory.items():
            if sample.message_id == message_id:
                del self._memory[number]
                return
        self._to_forget.add(message_id)
        self._on_disk(self._delete_forgotten)

    def close(self) -> None:
        """Let go of the file; what is in memory alone goes there if it can."""
        if self._memory:
            self._on_disk(self._write_memory)
        if self._memory:
            _log.error("Samples that the disk did not take are lost with this process: %d.", len(self._memory))
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # What happens on disk.

    def _write_memory(self, connection: sqlite3.Connection) -> bool:
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            connection.executemany(
                "INSERT INTO sample (number, message_id, kind, moment, size, data) VALUES (?, ?, ?, ?, ?, ?)",
                [(it.number, it.message_id, it.kind, it.moment, it.size, it.data) for it in self._memory.values()],
            )
        self._on_disk_count += len(self._memory)
        self.size += sum(sample.size for sample in self._memory.values())
        self._memory.clear()
        if self.size > self._max_bytes:
            self._drop_oldest(connection)
        return True

    def _drop_oldest(self, connection: sqlite3.Connection) -> None:
        """Make room: the oldest go until the bound is kept."""
        surplus, dropped, newest_dropped = self.size - self._max_bytes, 0, 0
        last = 0
        for number, moment, size in connection.execute("SELECT number, moment, size FROM sample ORDER BY number"):
            if surplus <= 0:
                break
            surplus, dropped, newest_dropped, last = surplus - size, dropped + 1, moment, number
        with connection:
            connection.execute("DELETE FROM sample WHERE number <= ?", (last,))
        self.size = surplus + self._max_bytes
        self._on_disk_count -= dropped
        self._say_dropped(dropped, newest_dropped, f"the spool holds {self._max_bytes // 2**20} MiB at most")

    def _delete_forgotten(self, connection: sqlite3.Connection) -> bool:
        connection.execute("PRAGMA synchronous = NORMAL")
        count, size = 0, 0
        with connection:
            for message_id in self._to_forget:
                found = connection.execute("SELECT size FROM sample WHERE message_id = ?", (message_id,)).fetchone()
                if found is not None:
                    connection.execute("DELETE FROM sample WHERE message_id = ?", (message_id,))
                    count, size = count + 1, size + found[0]
        self._on_disk_count -= count
        self.size -= size
        self._to_forget.clear()
        return True

    def _select(self, condition: str, *parameters: int) -> list[Sample]:
        def select(connection: sqlite3.Connection) -> list[Sample]:
            # `condition` is one of the two above.
            query = f"SELECT number, message_id, kind, moment, data FROM sample WHERE {condition}"  # noqa: S608
            return [Sample(*row) for row in connection.execute(query, parameters)]

        found = self._on_disk(select) or []
        return [sample for sample in found if sample.message_id not in self._to_forget]

    # What the disk may do to us.

    def _on_disk(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """What the work returns; None where the disk does not take it. Says so when that changes."""
        try:
            try:
                done = work(self._open())
            except sqlite3.DatabaseError as error:
                if not _is_damaged(error):
                    raise
                self._set_aside(error)
                done = work(self._open())
        except (sqlite3.Error, OSError) as error:
            self._in_trouble(error)
            return None
        if self._is_in_trouble:
            self._is_in_trouble = False
            _log.info("%s takes samples again.", self._path)
        return done

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(str(self._path), timeout=0)
        try:
            # One daemon alone; and the file shrinks when it has been emptied.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA auto_vacuum = FULL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA journal_size_limit = 4194304")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.executescript(_SCHEMA)
            elif version != _VERSION:
                raise sqlite3.DatabaseError(f"it was written by another version of the daemon ({version})")
            count, size, newest = connection.execute(
                "SELECT count(*), coalesce(sum(size), 0), coalesce(max(number), 0) FROM sample"
            ).fetchone()
        except BaseException:
            connection.close()
            raise
        self._on_disk_count, self.size = count, size
        if self._memory and newest >= next(iter(self._memory)):
            renumbered = (it._replace(number=number) for number, it in enumerate(self._memory.values(), newest + 1))
            self._memory = OrderedDict((it.number, it) for it in renumbered)
        self.newest = max(newest, *self._memory, self.newest)
        self._connection = connection
        return connection

    def _set_aside(self, error: Exception) -> None:
        """Begin a new file, and leave the damaged one for whoever wants to look at it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        aside = self._path.with_suffix(".damaged")
        self._path.replace(aside)
        for suffix in ("-wal", "-shm"):
            other = Path(str(self._path) + suffix)
            if other.exists():
                other.unlink()
        self._on_disk_count = self.size = 0
        _log.error(
            "The spool %s cannot be read (%s): it is set aside as %s, and a new one begins.", self._path, error, aside
        )

    def _in_trouble(self, error: Exception) -> None:
        if not self._is_in_trouble:
            self._is_in_trouble = True
            _log.error(
                "The spool %s cannot be used (%s): the newest %d samples are kept in memory until it can. "
                "See that its disk has room, and that no other daemon of this node runs.",
                self._path,
                error,
                MEMORY_SAMPLES,
            )

    def _say_dropped(self, count: int, moment: int, why: str) -> None:
        """At 1, 10, 100 … dropped samples: once it begins, there is one a minute."""
        before, self._dropped = self._dropped, self._dropped + count
        if len(str(before)) < len(str(self._dropped)) or before == 0:
            _log.warning(
                "The oldest samples up to %s are dropped (%d so far): %s.", wire.at(moment), self._dropped, why
            )


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is at fault: what the disk or a lock does to it is an OperationalError."""
    return type(error) is sqlite3.DatabaseError
