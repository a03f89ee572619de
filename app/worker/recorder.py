"""Takes samples at their times and puts them into the store, whether a controller listens or not."""

from __future__ import annotations

import asyncio
import logging

from app.protocol import wire
from app.worker.measuring import Measuring
from app.worker.schedule import Ticker, now_ms
from app.worker.store import Store
from app.worker.tasks import first_of

_log = logging.getLogger(__name__)


class Recorder:
    """One machine's metrics, and what happened to its GPUs."""

    def __init__(self, node_id: str, measuring: Measuring, store: Store) -> None:
        self._measuring = measuring
        self._store = store
        self._metrics = Ticker(node_id, wire.METRICS_INTERVAL_MS)
        self._events = Ticker(node_id, wire.HEARTBEAT_INTERVAL_MS)

    def follow(self, *, metrics_ms: int, events_ms: int) -> None:
        """Take them at these intervals from now on."""
        self._metrics.change(metrics_ms)
        self._events.change(events_ms)

    async def run(self) -> None:
        """Record until cancelled."""
        await first_of(self._record_metrics(), self._record_events())

    async def _record_metrics(self) -> None:
        while True:
            moment = await self._metrics.next()
            data = await self._measuring.metrics()
            if data is not None:
                await self._put(wire.METRICS, moment, {**data, "timestamp": wire.at(moment)})

    async def _record_events(self) -> None:
        while True:
            await self._events.next()
            # Two events of the same millisecond would be one to the controller.
            for moment, event in enumerate(await self._measuring.events(), now_ms()):
                _log.warning("GPU event %(kind)s of %(deviceId)s.", event)
                await self._put(wire.GPU_EVENT, moment, {**event, "timestamp": wire.at(moment)})

    async def _put(self, kind: str, moment: int, data: dict[str, object]) -> None:
        try:
            await self._store.put(kind, moment, wire.encode(data))
        except asyncio.TimeoutError:
            _log.error("The disk of the spool has not answered for a minute; the sample is written when it does.")
