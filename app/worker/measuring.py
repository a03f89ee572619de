"""The sampler, seen from the event loop: asked in a thread, and never waited for beyond reason."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Callable, TypeVar

from app.worker.sampler import Sampler
from app.worker.threads import Thread

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Measuring:
    """Asks the sampler. Where it fails or hangs, there is a sentence in the log and no measurement."""

    def __init__(self, sampler: Sampler, seconds: float) -> None:
        self._sampler = sampler
        self._seconds = seconds
        self._thread = Thread("sampler")
        self._facts: dict[str, Any] | None = None
        self._events: deque[dict[str, Any]] = deque()

    async def facts(self) -> dict[str, Any] | None:
        """`data` of NODE_REGISTER; the last known where the machine does not answer."""
        self._facts = await self._ask(self._sampler.facts) or self._facts
        return self._facts

    async def heartbeat(self) -> dict[str, Any]:
        """`data` of TELEMETRY_HEARTBEAT; where nothing can be measured, a sign of life is still one."""
        return await self._ask(self._sampler.heartbeat) or {"status": "online"}

    async def metrics(self) -> dict[str, Any] | None:
        """`data` of TELEMETRY_METRICS."""
        return await self._ask(self._sampler.metrics)

    async def events(self) -> list[dict[str, Any]]:
        """What happened to GPUs, also what an earlier call that was not waited for has found since."""
        await self._ask(self._note_events)
        return [self._events.popleft() for _ in range(len(self._events))]

    def end(self) -> None:
        """Ask no more."""
        self._thread.end()

    def _note_events(self) -> None:
        """In the thread: the sampler tells each of them once, whether anybody waits for it or not."""
        self._events.extend(self._sampler.events())

    async def _ask(self, question: Callable[[], T]) -> T | None:
        name = question.__name__.removeprefix("_note_")
        if self._thread.is_stuck:
            _log.warning("An earlier measurement hangs; %s are not measured until it returns.", name)
            return None
        try:
            return await self._thread.call(question, seconds=self._seconds)
        except asyncio.TimeoutError:
            _log.error("Measuring %s has not returned for %.0f s: does a GPU driver hang?", name, self._seconds)
        except Exception:  # noqa: BLE001 - a fault of the sampler's own: its traceback is for us, the rest goes on
            _log.exception("Measuring %s failed; it is left out this time.", name)
        return None
