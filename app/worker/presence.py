"""Which GPUs are there, and which were: a going and a coming is told once."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Final

_MOST: Final = 1024
_log = logging.getLogger(__name__)


class Presence:
    """The roll of a machine's GPUs, by deviceId."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.missing: set[str] = set()
        self._events: deque[dict[str, Any]] = deque(maxlen=_MOST)

    def found(self, device_id: str) -> None:
        """It is there."""
        self.known.add(device_id)
        if device_id in self.missing:
            self.missing.remove(device_id)
            self._tell("gpu_returned", device_id, {})

    def missed(self, device_id: str, reason: str) -> None:
        """It was there before, and is not now."""
        if device_id in self.known and device_id not in self.missing:
            self.missing.add(device_id)
            _log.error("GPU %s has vanished: %s.", device_id, reason)
            self._tell("gpu_vanished", device_id, {"reason": reason})

    def take(self) -> list[dict[str, Any]]:
        """The events since the last call."""
        events = list(self._events)
        self._events.clear()
        return events

    def _tell(self, kind: str, device_id: str, detail: dict[str, Any]) -> None:
        self._events.append({"kind": kind, "deviceId": device_id, "detail": detail})
