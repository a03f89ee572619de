"""Frames that are too deep, or name too many GPUs: answered, never a crash."""

import json
from typing import Any

import pytest

from app.errors import AiwmError, InvalidMessage
from app.protocol import messages
from app.protocol.wire import MAX_GPUS
from tests.frames import heartbeat, metrics, register

DEEP = 100_000


def gpus(count: int) -> list[dict[str, Any]]:
    return [{"deviceId": f"GPU-{number}"} for number in range(count)]


@pytest.mark.parametrize(("make", "field"), [(register, "gpuDevices"), (heartbeat, "gpuStatus"), (metrics, "gpus")])
def test_as_many_gpus_as_allowed_and_no_more(make: Any, field: str) -> None:
    """128; one more is refused with the field's name, whatever the frame."""
    assert MAX_GPUS == 128
    frame = make()
    frame["data"][field] = gpus(MAX_GPUS)
    messages.decode(json.dumps(frame))
    frame["data"][field] = gpus(MAX_GPUS + 1)
    with pytest.raises(InvalidMessage, match=field):
        messages.decode(json.dumps(frame))


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize(
    "text",
    [
        "{deep}",
        '{{"type":"TELEMETRY_HEARTBEAT","messageId":"m","timestamp":"2026-11-23T12:00:00Z","data":{{"x":{deep}}}}}',
        '{{"type":{deep},"messageId":"m"}}',
        '{{"unknown":{deep},"type":"TELEMETRY_METRICS","messageId":"m"}}',
        (
            '{{"type":"GPU_EVENT","messageId":"m","timestamp":"2026-11-23T12:00:00Z","data":{{'
            '"timestamp":"2026-11-23T12:00:00Z","deviceId":"g","kind":"xid","detail":{{"x":{deep}}}}}}}'
        ),
        '{{"auth":{{"token":{deep}}}}}',
    ],
)
def test_depth_is_no_crash(text: str, opening: str, closing: str) -> None:
    """Where fields are known, unknown or anything, closed or never: INVALID_MESSAGE, and no token."""
    for deep in (opening * DEEP + "1" + closing * DEEP, opening * DEEP):
        frame = text.format(deep=deep)
        with pytest.raises(AiwmError) as refused:
            messages.decode(frame)
        assert refused.value.code == "INVALID_MESSAGE"
        assert len(refused.value.message) < 1000
        assert messages.decode_token(frame) is None
        messages.message_id_of(frame)
