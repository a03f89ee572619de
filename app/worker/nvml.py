"""NVML as it really answers: what a card does not support is None, what is lost is told.

`nvml` is everywhere the module `pynvml` of nvidia-ml-py, or what stands in for it. One thread calls it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Callable, Final

from app.worker.xids import XidWatch

_UNKNOWN: Final = 999
_NO_CARD: Final = frozenset({15, 28})
"""GPU_IS_LOST, GPU_NOT_FOUND."""
_NO_ANSWER: Final = frozenset({_UNKNOWN, 16})
"""UNKNOWN, RESET_REQUIRED: of one field it says little, of all fields that the card is lost."""
_NO_DRIVER: Final = frozenset({1, 9, 18})
"""UNINITIALIZED, DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH: a driver was unloaded, or another one installed."""
_log = logging.getLogger(__name__)


class CardLost(Exception):
    """A card has fallen off the bus. The text is NVML's."""


class DriverLost(Exception):
    """There is no driver, or none that NVML can speak with (any more). The text is NVML's."""


class Ask:
    """Puts questions to one card or MIG device."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self.handle = handle
        self._has_answered = False
        self._silence = ""

    def __call__(self, question: Callable[..., Any], *arguments: Any) -> Any | None:
        """What `question(handle, …)` returns; None where the card does not support it.

        Raises CardLost or DriverLost.
        """
        try:
            answer = question(self.handle, *arguments)
        except self._nvml.NVMLError as error:
            if error.value in _NO_CARD:
                raise CardLost(str(error)) from None
            if error.value in _NO_DRIVER:
                raise DriverLost(str(error)) from None
            if error.value in _NO_ANSWER:
                self._silence = str(error)
            return None
        self._has_answered = True
        return answer

    def conclude(self) -> None:
        """No more questions. Raises CardLost where none was answered and one met the silence of a lost card."""
        if self._silence and not self._has_answered:
            raise CardLost(self._silence)


@dataclass(frozen=True)
class Card:
    """A GPU of this machine: what does not change about it."""

    index: int
    handle: Any
    device_id: str


class Session:
    """NVML from nvmlInit to nvmlShutdown, and the cards that it found. Raises DriverLost where there is none."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise DriverLost(str(error)) from None
        try:
            self.cards = self._find()
            self.xids = XidWatch(nvml, [(card.handle, card.device_id) for card in self.cards])
        except nvml.NVMLError as error:
            self._shut_down()
            raise DriverLost(str(error)) from None

    def close(self) -> None:
        """Ask no more; a watch that a driver holds up keeps NVML open rather than having it pulled from under it."""
        if self.xids.close():
            self._shut_down()

    def _find(self) -> list[Card]:
        cards = []
        for index in range(self._nvml.nvmlDeviceGetCount()):
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                cards.append(Card(index, handle, text(self._nvml.nvmlDeviceGetUUID(handle))))
            except self._nvml.NVMLError as error:  # noqa: PERF203 - the others are there all the same
                if error.value in _NO_DRIVER:
                    raise
                _log.warning("GPU %d of this machine cannot be reached and is left out: %s.", index, error)
        return cards

    def _shut_down(self) -> None:
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError as error:
            _log.info("NVML did not shut down cleanly: %s.", error)


def text(value: str | bytes) -> str:
    """NVML's text: bytes where a structure holds it."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
