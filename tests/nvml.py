"""NVML without a driver: it has the functions, constants and errors of `pynvml`, and cards that fail as told."""

import ctypes
import queue
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

GIB = 2**30


@dataclass
class FakeCard:
    """A card. `answers` by NVML's function, or by function and first argument; an int of `errors` is raised instead."""

    number: int
    mig: list["FakeCard"] = field(default_factory=list)
    is_lost: bool = False
    errors: dict[str, int] = field(default_factory=dict)
    fails_with: int | None = None
    """Raised by every question."""
    uuid: str = ""

    def __post_init__(self) -> None:
        self.uuid = self.uuid or f"GPU-5f8f{self.number:04x}-0000-4000-8000-000000000000"
        self.answers: dict[str, Any] = {
            "nvmlDeviceGetUUID": self.uuid,
            "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
            "nvmlDeviceGetPciInfo": SimpleNamespace(busId=f"00000000:{self.number:02X}:00.0".encode()),
            "nvmlDeviceGetSerial": f"165{self.number:04}",
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=85, memory=40),
            "nvmlDeviceGetTemperature": 72,
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 * GIB, used=20 * GIB, free=59 * GIB + GIB // 2),
            "nvmlDeviceGetPowerUsage": 650_540,
            f"nvmlDeviceGetClockInfo/{pynvml.NVML_CLOCK_SM}": 1980,
            f"nvmlDeviceGetClockInfo/{pynvml.NVML_CLOCK_MEM}": 2619,
            "nvmlDeviceGetFanSpeed": 45,
            f"nvmlDeviceGetPcieThroughput/{pynvml.NVML_PCIE_UTIL_RX_BYTES}": 2000,
            f"nvmlDeviceGetPcieThroughput/{pynvml.NVML_PCIE_UTIL_TX_BYTES}": 1000,
            "nvmlDeviceGetTotalEnergyConsumption": 123_456_789,
            f"nvmlDeviceGetTotalEccErrors/{pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED}": 3,
            f"nvmlDeviceGetTotalEccErrors/{pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED}": 0,
            "nvmlDeviceGetCurrentClocksEventReasons": 0x4 | 0x40,
            "nvmlDeviceGetMigMode": [int(bool(self.mig)), int(bool(self.mig))],
            "nvmlDeviceGetMaxMigDeviceCount": 7 if self.mig else 0,
        }

    def lacks(self, *functions: str) -> None:
        """It does not support these."""
        for function in functions:
            self.errors[function] = pynvml.NVML_ERROR_NOT_SUPPORTED


class FakeNvml:
    """The module. Like the real one it finds cards in nvmlInit, and a handle that was lost stays so until the next."""

    def __init__(self, *cards: FakeCard) -> None:
        self.cards = list(cards)
        self.init_error: int | None = None
        self.has_events = True
        self.open = 0
        self.inits = 0
        self.event_sets = 0
        self._present: list[FakeCard] = []
        self._lost: set[int] = set()
        self._events: queue.Queue[tuple[Any, threading.Event]] = queue.Queue()
        self._handled: threading.Event | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvmlDevice"):
            return lambda handle, *arguments: self._answer(name, handle, arguments)
        return getattr(pynvml, name)

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names, here and below
        if self.init_error is not None:
            raise pynvml.NVMLError(self.init_error)
        self.open += 1
        self.inits += 1
        self._lost.clear()
        self._present = [card for card in self.cards if not card.is_lost]

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._present)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        return self._handle(self._present[index])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: int) -> Any:  # noqa: N802
        migs = self._card(handle).mig
        if index >= len(migs):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return self._handle(migs[index])

    def nvmlEventSetCreate(self) -> object:  # noqa: N802
        self.event_sets += 1
        return object()

    def nvmlEventSetFree(self, _: object) -> None:  # noqa: N802
        self.event_sets -= 1

    def nvmlDeviceRegisterEvents(self, handle: Any, _types: int, _set: object) -> None:  # noqa: N802
        if not self.has_events:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self._card(handle)

    def nvmlEventSetWait_v2(self, _: object, _milliseconds: int) -> Any:  # noqa: N802
        if self._handled is not None:
            self._handled.set()
            self._handled = None
        try:
            event, self._handled = self._events.get(timeout=0.005)
        except queue.Empty:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT) from None
        return event

    def raise_xid(self, card: FakeCard, number: int, gpu_instance: int = 0xFFFFFFFF) -> None:
        """An XID of a card; returns when whoever waited for it waits for the next."""
        handled = threading.Event()
        event = SimpleNamespace(device=self._handle(card), eventData=number, gpuInstanceId=gpu_instance)
        self._events.put((event, handled))
        if not handled.wait(30):
            raise TimeoutError("nobody waits for XIDs")

    def _handle(self, card: FakeCard) -> Any:
        return ctypes.cast(ctypes.c_void_p(0x1000 + card.number), pynvml.c_nvmlDevice_t)

    def _card(self, handle: Any) -> FakeCard:
        number = (ctypes.cast(handle, ctypes.c_void_p).value or 0) - 0x1000
        everything = [each for card in self.cards for each in (card, *card.mig)]
        return next(card for card in everything if card.number == number)

    def _answer(self, function: str, handle: Any, arguments: tuple[Any, ...]) -> Any:
        card = self._card(handle)
        if not self.open:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        if card.is_lost:
            self._lost.add(card.number)
        if card.number in self._lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        error = card.errors.get(function, card.fails_with)
        if error is not None:
            raise pynvml.NVMLError(error)
        for key in (function, *(f"{function}/{argument}" for argument in arguments)):
            if key in card.answers:
                return card.answers[key]
        raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
