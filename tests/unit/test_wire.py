"""What travels to workers says what the controller understands: `protocol/wire.py` against `protocol/messages.py`."""

import json

from hypothesis import given
from hypothesis import strategies as st

from app.errors import AiwmError, InvalidToken, NodeInactive, NodeNotFound, TokenRenewalRefused
from app.protocol import messages, wire
from app.protocol.session import CloseCode
from app.quantities import GPU_DETAIL_FIELDS
from tests.frames import gpu_event, heartbeat, metrics, register

MOMENTS = st.integers(0, 4_102_444_800_000)
BUILT = {
    wire.NODE_REGISTER: (wire.register, register),
    wire.HEARTBEAT: (wire.heartbeat, heartbeat),
    wire.METRICS: (wire.metrics, metrics),
    wire.GPU_EVENT: (wire.gpu_event, gpu_event),
}


def test_both_have_the_same_words() -> None:
    """Types of messages, fields of details, close codes, and the code of a renewal that is refused."""
    assert {*BUILT, wire.TOKEN_RENEW} == messages.MESSAGE_TYPES
    assert tuple(field.name for field in GPU_DETAIL_FIELDS) == wire.DETAIL_FIELDS
    errors: list[type[AiwmError]] = [InvalidToken, NodeInactive, NodeNotFound]
    codes = [wire.CLOSED_UNAUTHORIZED, wire.CLOSED_INACTIVE, wire.CLOSED_NOT_FOUND]
    assert [error.close_code for error in errors] == codes
    refused, taken_over = TokenRenewalRefused(), CloseCode.TAKEN_OVER
    assert (refused.code, taken_over) == (wire.RENEWAL_REFUSED, wire.CLOSED_TAKEN_OVER)


@given(moment=MOMENTS, kind=st.sampled_from(sorted(BUILT)))
def test_what_a_worker_builds_is_understood(moment: int, kind: str) -> None:
    """As the message that it is, with its moment to the millisecond; telemetry asks to be acknowledged."""
    build, frame = BUILT[kind]
    message = messages.decode(build("id", moment, wire.encode(frame()["data"])))
    assert message.__struct_config__.tag == kind
    assert (message.message_id, round(message.timestamp.timestamp() * 1000)) == ("id", moment)
    assert kind == wire.NODE_REGISTER or getattr(message, "ack", None) is True


@given(moment=MOMENTS)
def test_a_renewal_that_a_worker_builds_is_understood(moment: int) -> None:
    """Which has no data."""
    frame = wire.token_renew("id", moment)
    assert isinstance(messages.decode(frame), messages.TokenRenew)
    assert set(json.loads(frame)) == {"type", "messageId", "timestamp"}
