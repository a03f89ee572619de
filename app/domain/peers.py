"""The gateway processes of this host, which tell each other their numbers.

Each listens on a socket in a folder of the parent's; whoever is asked for metrics asks all others. One that does
not answer in time is left out: it is starting, ending, or stuck, and its numbers are missing rather than wrong.
"""

import asyncio
import logging
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from app import meters
from app.clock import Clock
from app.meters import CPU, LOOP_LAG, MEMORY, Meters, Values

ANSWER_SECONDS: Final = 1.0
LAG_SECONDS: Final = 0.25
LAGS_KEPT: Final = 40

_log = logging.getLogger(__name__)


class Peers:
    """Owned by the composition root, which enters `listening`."""

    def __init__(self, own: Meters, folder: Path | None, number: int) -> None:
        self._own = own
        self._folder = folder
        self._name = f"{number}.sock"

    async def read(self) -> Values:
        """The numbers of all processes, added up."""
        others = (
            [] if self._folder is None else [each for each in self._folder.glob("*.sock") if each.name != self._name]
        )
        found = await asyncio.gather(*(_ask(other) for other in others))
        return meters.added_up([self._own.read(), *(values for values in found if values is not None)])

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Answer other processes for the length of the block."""
        if self._folder is None:
            yield
            return
        path = self._folder / self._name
        path.unlink(missing_ok=True)  # a predecessor's that was killed
        server = await asyncio.start_unix_server(self._answer, path)
        try:
            async with server:
                yield
        finally:
            path.unlink(missing_ok=True)

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(meters.encode(self._own.read()))
                await writer.drain()
        except (OSError, TimeoutError):
            _log.debug("Another gateway asked for metrics and went away.")
        finally:
            writer.close()


async def _ask(path: Path) -> Values | None:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return meters.decode(await reader.read())
            finally:
                writer.close()
    except (OSError, TimeoutError, msgspec.DecodeError):
        _log.warning("The gateway at %s did not tell its metrics: they are missing from the sum.", path)
        return None


class Health:
    """How the process itself is: its memory, its processor time, and how late its event loop is."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lags = [0.0] * LAGS_KEPT
        self._page = os.sysconf("SC_PAGE_SIZE")

    async def run(self) -> None:
        """Measure how late a short sleep ends, for ever."""
        number = 0
        while True:
            began = self._clock.monotonic()
            await self._clock.sleep(LAG_SECONDS)
            self._lags[number % LAGS_KEPT] = max(0.0, self._clock.monotonic() - began - LAG_SECONDS)
            number += 1

    def read(self) -> Values:
        """The numbers by their keys."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            LOOP_LAG.key(): max(self._lags),
            CPU.key(): used.ru_utime + used.ru_stime,
            MEMORY.key(): self._resident() or used.ru_maxrss * 1024,
        }

    def _resident(self) -> int:
        try:
            return int(Path("/proc/self/statm").read_text().split()[1]) * self._page
        except OSError:
            return 0
