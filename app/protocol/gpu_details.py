"""What metrics tell of a GPU beyond the document: measured in steps, with what can't be true left out and named.

Whoever knows the document alone may send such fields with a meaning of his own: of the wrong type they are left out
like a value that can't be true, and the frame stays good.
"""

from typing import Any, Final

from app.model import GpuDetails
from app.protocol.disbelief import disbelief
from app.protocol.messages import GpuMetrics
from app.quantities import GPU_DETAIL_FIELDS, THROTTLE_REASONS, Field

_SHOWN: Final = 64
"""Of a wrong word, this many characters are repeated."""


def details_of(gpus: tuple[GpuMetrics, ...], warnings: list[str]) -> tuple[GpuDetails, ...]:
    """The details of those GPUs that have any; adds a warning for each that is left out."""
    found: list[GpuDetails] = []
    for place, gpu in enumerate(gpus):
        # Spelt out, since most frames have none: this is all that they pay.
        if (
            gpu.sm_clock is not None
            or gpu.memory_clock is not None
            or gpu.fan_speed is not None
            or gpu.pcie_rx is not None
            or gpu.pcie_tx is not None
            or gpu.energy is not None
            or gpu.ecc_corrected is not None
            or gpu.ecc_uncorrected is not None
            or gpu.throttle_reasons is not None
        ):
            found.append(GpuDetails(place, _values(gpu, warnings)))
    return tuple(found)


def _values(gpu: GpuMetrics, warnings: list[str]) -> tuple[Any, ...]:
    return tuple(
        None if value is None else _steps(value, field, gpu.device_id, warnings)
        for field in GPU_DETAIL_FIELDS
        for value in (getattr(gpu, field.column),)
    )


def _steps(value: Any, field: Field, device_id: str, warnings: list[str]) -> int | str | None:
    if field.quantity is None:
        return _reasons(value, device_id, warnings)
    if type(value) in {int, float}:
        steps = field.quantity.to_steps(value)
        if steps is None:
            warnings.append(disbelief(field.name, value, field.quantity, device_id))
        return steps
    warnings.append(f"{field.name} of {device_id} is no number: it is stored as missing")
    return None


def _reasons(value: Any, device_id: str, warnings: list[str]) -> str | None:
    """The reasons that there are, in their order."""
    if not isinstance(value, list):
        warnings.append(f"throttleReasons of {device_id} is no list: it is stored as missing")
        return None
    unknown = [
        each[:_SHOWN] if isinstance(each, str) else type(each).__name__
        for each in value
        if each not in THROTTLE_REASONS
    ]
    if unknown:
        warnings.append(
            f"throttleReasons of {device_id} holds {unknown[0]!r}, which is none that there are: it is left out"
        )
    return ",".join(reason for reason in THROTTLE_REASONS if reason in value)
