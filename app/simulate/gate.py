"""The door through which a fleet connects: a few at a time, so many a second."""

import asyncio
import random
from types import TracebackType
from typing import Final

FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 60.0


class Gate:
    """Bounds how fast connections are opened, first ones and returning ones alike. Entered while opening one."""

    def __init__(self, per_second: float = 200.0, at_once: int = 64) -> None:
        self._gap = 1 / per_second
        self._places = asyncio.Semaphore(at_once)
        self._next = 0.0

    async def __aenter__(self) -> None:
        await self._places.acquire()
        try:
            now = asyncio.get_running_loop().time()
            self._next = max(now, self._next + self._gap)
            await asyncio.sleep(self._next - now)
        except BaseException:
            self._places.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._places.release()


class Backoff:
    """The document's exponential backoff, 1 s doubled up to 60 s, jittered so that a fleet does not march in step."""

    __slots__ = ("_delay",)

    def __init__(self) -> None:
        self._delay = FIRST_DELAY

    def next(self) -> float:
        """Seconds to wait before the next try: between half the delay and all of it."""
        delay = self._delay
        self._delay = min(2 * delay, LONGEST_DELAY)
        return delay * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """The connection stood: start over."""
        self._delay = FIRST_DELAY
