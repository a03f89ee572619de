"""The columns of nvidia-smi and dcgm, as fields of ours in our units."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Callable, Final

from app.worker.gpu_fields import throttle_reasons

IDENTITY: Final = ("uuid", "index")
_LOST: Final = re.compile(r"GPU is lost|requires? reset|fallen off", re.IGNORECASE)
_MISSING: Final = re.compile(r"\[.*\]|N/A|NaN|-|", re.IGNORECASE)
_NUMBER: Final = re.compile(r"([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*[A-Za-z%/°]*")
_ALIASES: Final = {
    "uuid": "uuid",
    "gpu_uuid": "uuid",
    "index": "index",
    "gpu": "index",
    "timestamp": "timestamp",
    "time": "timestamp",
    "name": "model",
    "gpu_name": "model",
    "modelname": "model",
    "serial": "serial",
    "gpu_serial": "serial",
    "pci.bus_id": "pciBusId",
    "gpu_bus_id": "pciBusId",
    "pci_bus_id": "pciBusId",
    "dcgm_fi_dev_xid_errors": "xid",
}
_MIB, _KIB = 1 / 1024, 1024
_BLANK: Final = 2**47
"""From here on numbers are dcgm's blanks, which stand where there was no value."""
_MEASURES: Final = {
    "utilization.gpu": ("utilization", 1),
    "dcgm_fi_dev_gpu_util": ("utilization", 1),
    "memory.total": ("memoryTotal", _MIB),
    "dcgm_fi_dev_fb_total": ("memoryTotal", _MIB),
    "memory.used": ("memoryUsed", _MIB),
    "dcgm_fi_dev_fb_used": ("memoryUsed", _MIB),
    "memory.free": ("memoryFree", _MIB),
    "dcgm_fi_dev_fb_free": ("memoryFree", _MIB),
    "temperature.gpu": ("temperature", 1),
    "dcgm_fi_dev_gpu_temp": ("temperature", 1),
    "power.draw": ("powerUsage", 1),
    "power.draw.average": ("powerUsage", 1),
    "power.draw.instant": ("powerUsage", 1),
    "dcgm_fi_dev_power_usage": ("powerUsage", 1),
    "clocks.sm": ("smClock", 1),
    "clocks.current.sm": ("smClock", 1),
    "dcgm_fi_dev_sm_clock": ("smClock", 1),
    "clocks.mem": ("memoryClock", 1),
    "clocks.current.memory": ("memoryClock", 1),
    "dcgm_fi_dev_mem_clock": ("memoryClock", 1),
    "fan.speed": ("fanSpeed", 1),
    "dcgm_fi_dev_fan_speed": ("fanSpeed", 1),
    "dcgm_fi_dev_pcie_rx_throughput": ("pcieRx", _KIB),
    "dcgm_fi_dev_pcie_tx_throughput": ("pcieTx", _KIB),
    "dcgm_fi_prof_pcie_rx_bytes": ("pcieRx", 1),
    "dcgm_fi_prof_pcie_tx_bytes": ("pcieTx", 1),
    "dcgm_fi_dev_total_energy_consumption": ("energy", 1 / 1000),
    "ecc.errors.corrected.volatile.total": ("eccCorrected", 1),
    "dcgm_fi_dev_ecc_sbe_vol_total": ("eccCorrected", 1),
    "ecc.errors.uncorrected.volatile.total": ("eccUncorrected", 1),
    "dcgm_fi_dev_ecc_dbe_vol_total": ("eccUncorrected", 1),
}
_REASONS: Final = frozenset(
    {
        "clocks_event_reasons.active",
        "clocks_throttle_reasons.active",
        "dcgm_fi_dev_clocks_event_reasons",
        "dcgm_fi_dev_clock_throttle_reasons",
    }
)


@dataclass
class Row:
    """One GPU at one moment: `fields` as in `gpus` of metrics. `lost` where the tool could not reach the card."""

    device_id: str = ""
    seconds: float | None = None
    xid: int | None = None
    lost: bool = False
    fields: dict[str, Any] = field(default_factory=dict)


def recognised(header: list[str]) -> dict[int, str]:
    """The columns that say something to us, by place; the others are left out."""
    names = {place: name.partition("[")[0].strip().lower() for place, name in enumerate(header)}
    return {place: _ALIASES.get(name, name) for place, name in names.items() if _is_known(name)}


def parse_row(columns: dict[int, str], header: list[str], values: list[str]) -> Row:
    """A line of the CSV. Raises ValueError that names the column."""
    if len(values) < len(header):
        raise ValueError(f"it has {len(values)} values for {len(header)} columns; was it cut off?")
    row = Row()
    index = ""
    for place, name in columns.items():
        text = values[place].strip()
        if _LOST.search(text):
            row.lost = True
        if _MISSING.fullmatch(text):
            continue
        try:
            if name == "index":
                index = text
            else:
                _READERS.get(name, _measure)(row, name, text)
        except ValueError:
            raise ValueError(f"{text!r} in column {header[place]!r} cannot be read.") from None
    row.device_id = row.device_id or f"GPU-{index}"
    if not index and row.device_id == "GPU-":
        raise ValueError("it says neither uuid nor index of its GPU.")
    if index.isdigit():
        row.fields["index"] = int(index)
    return row


def _is_known(name: str) -> bool:
    return name in _ALIASES or name in _MEASURES or name in _REASONS


def _set_id(row: Row, _: str, text: str) -> None:
    row.device_id = text


def _set_text(row: Row, name: str, text: str) -> None:
    row.fields[name] = text


def _set_time(row: Row, _: str, text: str) -> None:
    """nvidia-smi's local time with slashes, ISO 8601, or seconds since 1970: only their distance matters."""
    try:
        row.seconds = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text.replace("/", "-").replace("Z", "+00:00"))
        row.seconds = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _set_xid(row: Row, _: str, text: str) -> None:
    row.xid = int(float(text))


def _set_reasons(row: Row, _: str, text: str) -> None:
    row.fields["throttleReasons"] = throttle_reasons(int(text, 0))


def _measure(row: Row, name: str, text: str) -> None:
    target, factor = _MEASURES[name]
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(text)
    if (number := float(match[1])) < _BLANK:
        value = round(number * factor, 3)
        row.fields[target] = int(value) if value.is_integer() else value


_READERS: Final[dict[str, Callable[[Row, str, str], None]]] = {
    "uuid": _set_id,
    "timestamp": _set_time,
    "model": _set_text,
    "serial": _set_text,
    "pciBusId": _set_text,
    "xid": _set_xid,
    **dict.fromkeys(_REASONS, _set_reasons),
}
