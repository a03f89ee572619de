"""The spool, seen from the event loop: every access to the disk is made in a thread."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Final

from app.worker.spool import Sample, Spool
from app.worker.threads import Thread

DISK_SECONDS: Final = 60.0


class Store:
    """What waits for its acknowledgement, and who wants to hear of more."""

    def __init__(self, spool: Spool, disk: Thread) -> None:
        self._spool = spool
        self._disk = disk
        self._listeners: set[Callable[[], None]] = set()

    @classmethod
    async def open(cls, path: Path, max_bytes: int, disk: Thread) -> Store:
        """Open the file, or begin one."""
        return cls(await disk.call(Spool, path, max_bytes, seconds=DISK_SECONDS), disk)

    @property
    def count(self) -> int:
        """Samples that are kept."""
        return self._spool.count

    @property
    def newest(self) -> int:
        """Number of the sample that was recorded last."""
        return self._spool.newest

    @property
    def listeners(self) -> set[Callable[[], None]]:
        """Called after each sample that was recorded."""
        return self._listeners

    async def put(self, kind: str, moment: int, data: str) -> None:
        """Record a sample, and only then let it be sent."""
        await self._disk.call(self._spool.put, kind, moment, data, seconds=DISK_SECONDS)
        for listener in self._listeners:
            listener()

    async def after(self, number: int) -> Sample | None:
        """The next sample that was recorded after this number."""
        if number >= self._spool.newest:
            return None
        return await self._disk.call(self._spool.after, number, seconds=DISK_SECONDS)

    async def before(self, number: int, limit: int) -> list[Sample]:
        """Samples that were recorded before this number, newest first."""
        return await self._disk.call(self._spool.before, number, limit, seconds=DISK_SECONDS)

    async def forget(self, message_id: str) -> None:
        """It is acknowledged, or will never be."""
        await self._disk.call(self._spool.forget, message_id, seconds=DISK_SECONDS)

    async def close(self, seconds: float) -> None:
        """Wait until all that was recorded is on the disk, and let go of the file."""
        try:
            await self._disk.call(self._spool.close, seconds=seconds)
        finally:
            self._disk.end()
