"""What a person sees while a simulation runs: a live table at a terminal, else a line every few seconds."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from app.simulate.report import Tally

_LIVE_SECONDS = 0.5
_LINE_SECONDS = 5.0


class Progress:
    """The stage a simulation is in, set by whoever runs it; reads the tally, changes nothing."""

    def __init__(self, console: Console, tally: Tally, nodes: int) -> None:
        self._console = console
        self._tally = tally
        self._nodes = nodes
        self._frames = 0
        self._looked_at = time.monotonic()
        self._describe: Callable[[], str] = lambda: "starting"

    def stage(self, describe: Callable[[], str]) -> None:
        """The stage from now on: a callable that says how far it is."""
        self._describe = describe
        if not self._console.is_terminal:
            self._say(self._line())

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show it as long as the block lasts."""
        if self._console.is_terminal:
            with Live(self._table(), console=self._console, auto_refresh=False, transient=True) as live:
                async with _repeated(lambda: live.update(self._table(), refresh=True), _LIVE_SECONDS):
                    yield
        else:
            async with _repeated(lambda: self._say(self._line()), _LINE_SECONDS):
                yield

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _numbers(self) -> list[tuple[str, str]]:
        tally, now = self._tally, time.monotonic()
        frames, seconds = tally.frames - self._frames, now - self._looked_at
        self._frames, self._looked_at = tally.frames, now
        numbers = [
            ("connected", f"{tally.connected:,} of {self._nodes:,}"),
            ("sent", f"{tally.frames:,} ({frames / seconds:,.0f}/s)" if seconds > 0 else f"{tally.frames:,}"),
            ("acknowledged", f"{tally.stored + tally.duplicate:,}"),
            ("waiting", f"{tally.outstanding:,}"),
        ]
        faults = tally.rejected + tally.refused + tally.errors.total()
        return numbers + ([("faults", f"{faults:,}")] if faults else [])

    def _line(self) -> str:
        return f"{self._describe()}; " + ", ".join(f"{name} {value}" for name, value in self._numbers())

    def _table(self) -> Table:
        table = Table(title=self._describe(), title_justify="left", show_header=False, min_width=48)
        for name, value in self._numbers():
            table.add_row(name, value)
        return table


@asynccontextmanager
async def _repeated(action: Callable[[], None], seconds: float) -> AsyncIterator[None]:
    async def repeat() -> None:
        while True:
            await asyncio.sleep(seconds)
            action()

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
