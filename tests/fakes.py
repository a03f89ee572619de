"""Stand-ins for what a test must hold in its own hands: the clock."""

import asyncio
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import Any

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class FakeClock:
    """A clock that stands still until a test advances it; sleepers wake in the order of their times."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Task[Any] | None, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """Wall time, UTC."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Seconds since the test began."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Wait until the test has advanced the clock that far."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self._elapsed + seconds, id(woken), asyncio.current_task(), woken))
        await woken

    async def all_asleep(self, name: str) -> None:
        """Wait until every task of this name waits for time to pass: what it was at is done."""
        async with asyncio.timeout(10):
            while {task for task in asyncio.all_tasks() if task.get_name() == name} - self._asleep():
                await asyncio.sleep(0.005)

    def asleep(self, name: str) -> int:
        """How many tasks of this name wait for time to pass."""
        return sum(task is not None and task.get_name() == name for task in self._asleep())

    def _asleep(self) -> set[asyncio.Task[Any] | None]:
        return {task for *_, task, woken in self._sleepers if not woken.done()}

    @property
    def sleepers(self) -> int:
        """How many are waiting for time to pass."""
        return len(self._asleep())

    def advance(self, seconds: float) -> None:
        """Let time pass and wake everyone whose time has come."""
        self._elapsed += seconds
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            *_, woken = heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
