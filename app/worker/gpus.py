"""This machine's GPUs by NVML. No driver, no card, a lost card: the rest goes on."""

from __future__ import annotations

import logging
import time
from typing import Any, Callable, Final, TypeVar

import pynvml

from app.protocol.wire import MAX_GPUS
from app.worker import gpu_fields
from app.worker.nvml import Card, CardLost, DriverLost, Session
from app.worker.presence import Presence

AGAIN_SECONDS: Final = 300.0
"""How often to look for a driver, or for a card that is lost: NVML finds cards when it starts, and only then."""
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Gpus:
    """What a Sampler says of GPUs. NVML is started by the first question, and again where something is amiss."""

    def __init__(self, nvml: Any = pynvml, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._nvml = nvml
        self._monotonic = monotonic
        self._session: Session | None = None
        self._presence = Presence()
        self._look_at: float | None = None
        self._uncorrected: dict[str, int] = {}
        self._xids: list[dict[str, Any]] = []
        self._said = ""

    def facts(self) -> list[dict[str, Any]]:
        """`gpuDevices` of NODE_REGISTER."""
        return self._devices(gpu_fields.facts)

    def status(self) -> list[dict[str, Any]]:
        """`gpuStatus` of TELEMETRY_HEARTBEAT."""
        return self._devices(gpu_fields.status)

    def metrics(self) -> list[dict[str, Any]]:
        """`gpus` of TELEMETRY_METRICS, with the fields of gpuDetails."""
        return self._devices(gpu_fields.metrics)

    def events(self) -> list[dict[str, Any]]:
        """What happened since the last call: causes (XIDs) before what came of them."""
        found = []
        for card, total in self._each(gpu_fields.uncorrected_errors):
            before = self._uncorrected.get(card.device_id)
            if total is not None:
                self._uncorrected[card.device_id] = total
            if before is not None and total is not None and total > before:
                detail = {"count": total - before, "total": total}
                found.append({"kind": "ecc_uncorrected", "deviceId": card.device_id, "detail": detail})
        self._keep_xids()
        xids, self._xids = self._xids, []
        return [*xids, *found, *self._presence.take()]

    def close(self) -> None:
        """Let NVML go."""
        if self._session is not None:
            self._session.close()
            self._keep_xids()
            self._session = None

    def _devices(self, read: Callable[[Any, Card], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        return [device for _, devices in self._each(read) for device in devices][:MAX_GPUS]

    def _each(self, read: Callable[[Any, Card], T]) -> list[tuple[Card, T]]:
        """What `read` says of each card that is there."""
        self._look()
        found = []
        for card in self._session.cards if self._session is not None else ():
            try:
                found.append((card, read(self._nvml, card)))
            except CardLost as error:  # noqa: PERF203 - the other cards are there all the same
                self._presence.missed(card.device_id, str(error))
            except DriverLost as error:
                self._lose_all(str(error))
                return []
            else:
                self._presence.found(card.device_id)
        return found

    def _look(self) -> None:
        """Start NVML where it is not, or anew where a card is missing; not more often than AGAIN_SECONDS."""
        if self._session is not None and not self._presence.missing:
            self._look_at = None
            return
        now = self._monotonic()
        if self._look_at is None:
            self._look_at = now if self._session is None else now + AGAIN_SECONDS
        if now < self._look_at:
            return
        self._look_at = now + AGAIN_SECONDS
        self.close()
        try:
            self._session = Session(self._nvml)
        except DriverLost as error:
            self._lose_all(str(error))
            return
        here = {card.device_id for card in self._session.cards}
        for device_id in self._presence.known - here:
            self._presence.missed(device_id, "NVML does not find it any more")
        self._say(f"NVML finds {len(here)} GPUs")

    def _lose_all(self, reason: str) -> None:
        self.close()
        for device_id in self._presence.known:
            self._presence.missed(device_id, reason)
        self._say(f"No GPU can be measured: {reason}")

    def _keep_xids(self) -> None:
        if self._session is not None:
            self._xids += self._session.xids.take()

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            _log.info("%s.", sentence)
            self._said = sentence
