"""What a worker tells of a GPU as an event: the same text for the same event, however often it is sent."""

from typing import Final

import msgspec

from app.errors import InvalidMessage
from app.model import EventKind, GpuEvent
from app.protocol import messages
from app.protocol.samples import sample_time

MAX_DETAIL_BYTES: Final = 4096

_KINDS: Final = {
    "xid": EventKind.GPU_XID,
    "gpu_vanished": EventKind.GPU_VANISHED,
    "gpu_returned": EventKind.GPU_RETURNED,
    "ecc_uncorrected": EventKind.GPU_ECC_UNCORRECTED,
}
_encoder: Final = msgspec.json.Encoder(order="sorted")


def event_of(message: messages.GpuEvent) -> GpuEvent:
    """The message as an event whose detail names the device.

    Raises InvalidMessage for a time that no calendar has, and for a detail that is no short JSON object.
    """
    data = message.data
    try:
        detail = _encoder.encode({**(data.detail or {}), "deviceId": data.device_id})
    except RecursionError:
        raise InvalidMessage("`data.detail` is nested too deeply: flatten it") from None
    if len(detail) > MAX_DETAIL_BYTES:
        raise InvalidMessage(f"`data.detail` is longer than {MAX_DETAIL_BYTES} bytes: shorten it")
    return GpuEvent(sample_time(data.timestamp), _KINDS[data.kind], detail.decode())
