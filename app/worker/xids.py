"""XID errors as they come.

NVML keeps the last XID alone: of several that wait to be read, each carries the number of the latest, and the
first one, which is the cause, would be gone. So a thread waits for them all the time, instead of a look now and then.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections import deque
from typing import Any, Final

from app.protocol import wire
from app.worker.schedule import now_ms

WAIT_MS: Final = 1000
_CLOSE_SECONDS: Final = 5.0
_TIMEOUT: Final = 10
_NO_INSTANCE: Final = 0xFFFFFFFF
_MOST: Final = 256
"""That wait to be taken. A broken kernel may raise thousands; the first ones tell."""
_log = logging.getLogger(__name__)


class XidWatch:
    """Waits for the XIDs of some cards in a thread of its own, from its making until `close`."""

    def __init__(self, nvml: Any, cards: list[tuple[Any, str]]) -> None:
        self._nvml = nvml
        self._device_ids = {_address(handle): device_id for handle, device_id in cards}
        self._seen: deque[dict[str, Any]] = deque()
        self._dropped = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            self._set = nvml.nvmlEventSetCreate()
        except nvml.NVMLError as error:
            _log.info("XID errors are not watched: %s.", error)
            return
        if self._register([handle for handle, _ in cards]):
            self._thread = threading.Thread(target=self._run, name="xids", daemon=True)
            self._thread.start()
        else:
            nvml.nvmlEventSetFree(self._set)

    def take(self) -> list[dict[str, Any]]:
        """The events since the last call."""
        taken = [self._seen.popleft() for _ in range(len(self._seen))]
        dropped, self._dropped = self._dropped, 0
        if dropped:
            _log.warning("There were %d more XID errors than are told one by one; they are left out.", dropped)
        return taken

    def close(self) -> bool:
        """End the thread; False where the driver does not let it end."""
        if self._thread is None:
            return True
        self._stop.set()
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            _log.warning("The driver does not return from waiting for XID errors.")
            return False
        self._nvml.nvmlEventSetFree(self._set)
        self._thread = None
        return True

    def _register(self, handles: list[Any]) -> bool:
        """Whether any card tells of its XIDs."""
        registered = False
        for handle in handles:
            try:
                self._nvml.nvmlDeviceRegisterEvents(handle, self._nvml.nvmlEventTypeXidCriticalError, self._set)
                registered = True
            except self._nvml.NVMLError as error:  # noqa: PERF203 - old and lost cards do not
                _log.info("XID errors of %s are not watched: %s.", self._device_ids[_address(handle)], error)
        return registered

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._set, WAIT_MS)
            except self._nvml.NVMLError as error:
                if error.value != _TIMEOUT:
                    # A card that is lost answers at once, again and again; those that are there still tell theirs.
                    self._stop.wait(WAIT_MS / 1000)
                continue
            self._note(event)

    def _note(self, event: Any) -> None:
        device_id = self._device_ids.get(_address(event.device))
        if device_id is None:
            _log.warning("XID %d of a GPU that is not known.", event.eventData)
            return
        if len(self._seen) >= _MOST:
            self._dropped += 1
            return
        detail = {"xid": int(event.eventData), "seenAt": wire.at(now_ms())}
        if event.gpuInstanceId != _NO_INSTANCE:
            detail["gpuInstance"] = int(event.gpuInstanceId)
        self._seen.append({"kind": "xid", "deviceId": device_id, "detail": detail})


def _address(handle: Any) -> int | None:
    """What a handle points to: two pointers to the same card are not equal by themselves."""
    return ctypes.cast(handle, ctypes.c_void_p).value
