"""What is asked of a GPU, in the document's fields and units; what it does not answer is left out.

A card in MIG mode stands beside its MIG devices: they have the memory, the card has what there is once
(temperature, power, energy, clocks, errors), so that sums count everything once.
"""

from __future__ import annotations

from typing import Any, Final

from app.worker.nvml import Ask, Card, text

_GB: Final = 2**30
THROTTLE_REASONS: Final = (
    "gpu_idle",
    "clocks_setting",
    "power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal",
    "hw_thermal",
    "hw_power_brake",
    "display_clocks",
)
"""In the order of NVML's bits."""


def facts(nvml: Any, card: Card) -> list[dict[str, Any]]:
    """The card in NODE_REGISTER, with index, PCI bus id and serial beyond the document. Raises CardLost, DriverLost."""
    ask = Ask(nvml, card.handle)
    migs = _mig_devices(nvml, ask)
    pci = ask(nvml.nvmlDeviceGetPciInfo)
    fact = {
        "deviceId": card.device_id,
        **_name(nvml, ask),
        **({} if migs else _memory(nvml, ask, "memoryTotal", "memoryFree")),
        **_status(nvml, ask),
        **_known(
            index=card.index,
            pciBusId=None if pci is None else text(pci.busId),
            serial=ask(nvml.nvmlDeviceGetSerial),
        ),
    }
    ask.conclude()
    return [fact, *({**mig, "parentId": card.device_id} for mig in _each_mig(nvml, migs, "memoryTotal", "memoryFree"))]


def status(nvml: Any, card: Card) -> list[dict[str, Any]]:
    """The card in a heartbeat. Raises CardLost, DriverLost."""
    ask = Ask(nvml, card.handle)
    found = {"deviceId": card.device_id, **_status(nvml, ask)}
    ask.conclude()
    return [found]


def metrics(nvml: Any, card: Card) -> list[dict[str, Any]]:
    """The card and its MIG devices in metrics, with the fields of gpuDetails. Raises CardLost, DriverLost."""
    ask = Ask(nvml, card.handle)
    migs = _mig_devices(nvml, ask)
    memory = ("memoryTotal", "memoryUsed", "memoryFree")
    power = ask(nvml.nvmlDeviceGetPowerUsage)
    found = {
        "deviceId": card.device_id,
        **_name(nvml, ask),
        **({} if migs else _memory(nvml, ask, *memory)),
        **_status(nvml, ask),
        **_known(powerUsage=None if power is None else round(power / 1000, 1)),
        **_details(nvml, ask),
    }
    ask.conclude()
    return [found, *_each_mig(nvml, migs, *memory)]


def uncorrected_errors(nvml: Any, card: Card) -> int | None:
    """ECC errors that were not corrected since the driver was loaded. Raises CardLost, DriverLost."""
    ask = Ask(nvml, card.handle)
    ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU)  # that a card has no ECC says nothing of its life
    errors = _ecc(nvml, ask, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)
    ask.conclude()
    return errors


def throttle_reasons(bits: int) -> list[str]:
    """The names of NVML's bits; none where the clocks are held down by nothing."""
    return [name for place, name in enumerate(THROTTLE_REASONS) if bits >> place & 1]


def _known(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _name(nvml: Any, ask: Ask) -> dict[str, Any]:
    name = ask(nvml.nvmlDeviceGetName)
    return _known(model=None if name is None else text(name))


def _status(nvml: Any, ask: Ask) -> dict[str, Any]:
    """Percent, °C."""
    rates = ask(nvml.nvmlDeviceGetUtilizationRates)
    return _known(
        utilization=None if rates is None else rates.gpu,
        temperature=ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
    )


def _memory(nvml: Any, ask: Ask, *fields: str) -> dict[str, Any]:
    """GB. The second version leaves what the driver reserves out of `used`, as nvidia-smi does."""
    memory = ask(nvml.nvmlDeviceGetMemoryInfo, nvml.nvmlMemory_v2)
    if memory is None:
        memory = ask(nvml.nvmlDeviceGetMemoryInfo)
    if memory is None:
        return {}
    gigabytes = {"memoryTotal": memory.total, "memoryUsed": memory.used, "memoryFree": memory.free}
    return {field: round(gigabytes[field] / _GB, 3) for field in fields}


def _details(nvml: Any, ask: Ask) -> dict[str, Any]:
    """The fields of gpuDetails: MHz, percent, bytes/s, J, counts, names."""
    rx = ask(nvml.nvmlDeviceGetPcieThroughput, nvml.NVML_PCIE_UTIL_RX_BYTES)
    tx = ask(nvml.nvmlDeviceGetPcieThroughput, nvml.NVML_PCIE_UTIL_TX_BYTES)
    energy = ask(nvml.nvmlDeviceGetTotalEnergyConsumption)
    reasons = ask(nvml.nvmlDeviceGetCurrentClocksEventReasons)
    if reasons is None:  # the name of drivers before 535
        reasons = ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
    return _known(
        smClock=ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
        memoryClock=ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
        fanSpeed=ask(nvml.nvmlDeviceGetFanSpeed),
        pcieRx=None if rx is None else rx * 1024,
        pcieTx=None if tx is None else tx * 1024,
        energy=None if energy is None else energy / 1000,
        eccCorrected=_ecc(nvml, ask, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
        eccUncorrected=_ecc(nvml, ask, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
        throttleReasons=None if reasons is None else throttle_reasons(reasons),
    )


def _ecc(nvml: Any, ask: Ask, kind: int) -> int | None:
    errors: int | None = ask(nvml.nvmlDeviceGetTotalEccErrors, kind, nvml.NVML_VOLATILE_ECC)
    return errors


def _mig_devices(nvml: Any, ask: Ask) -> list[Any]:
    """Handles of the card's MIG devices; none where it is not in MIG mode."""
    mode = ask(nvml.nvmlDeviceGetMigMode)
    if mode is None or not mode[0]:
        return []
    handles = []
    for place in range(ask(nvml.nvmlDeviceGetMaxMigDeviceCount) or 0):
        # Places may be empty: each is an error NOT_FOUND, which reads as None.
        handle = ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, place)
        if handle is not None:
            handles.append(handle)
    return handles


def _each_mig(nvml: Any, handles: list[Any], *memory: str) -> list[dict[str, Any]]:
    found = []
    for handle in handles:
        ask = Ask(nvml, handle)
        device_id = ask(nvml.nvmlDeviceGetUUID)
        if device_id is not None:
            found.append({"deviceId": text(device_id), **_name(nvml, ask), **_memory(nvml, ask, *memory)})
    return found
