"""The document's messages: taken by their shape, refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import AiwmError, InvalidMessage, UnknownType
from app.protocol import messages
from tests.frames import heartbeat, metrics, register


def test_the_document_s_own_frames_are_understood() -> None:
    """The three frames of a worker, as the document prints them, decode to their messages."""
    assert isinstance(messages.decode(json.dumps(register())), messages.NodeRegister)
    assert isinstance(messages.decode(json.dumps(heartbeat())), messages.Heartbeat)
    assert isinstance(messages.decode(json.dumps(metrics())), messages.Metrics)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"messageId": ""}, "messageId"),
        ({"messageId": "x" * 257}, "messageId"),
        ({"messageId": None}, "messageId"),
        ({"timestamp": "2025-11-21T10:00:00"}, "timestamp"),
        ({"timestamp": 1_700_000_000}, "timestamp"),
        ({"data": []}, "data"),
        ({"data": {"timestamp": None}}, "data.timestamp"),
        ({"data": {}}, "timestamp"),
        ({"data": {"timestamp": "2025-11-21T10:00:00Z", "cpu": {"usage": "45"}}}, "data.cpu.usage"),
        ({"data": {"timestamp": "2025-11-21T10:00:00Z", "gpus": [{"model": "A"}]}}, "deviceId"),
        ({"data": {"timestamp": "2025-11-21T10:00:00Z", "gpus": [{"deviceId": "x" * 257}]}}, "deviceId"),
        ({"data": {"timestamp": "2025-11-21T10:00:00Z", "gpus": [{"deviceId": "G"}, {"deviceId": "G"}]}}, "deviceId"),
        ({"data": {"timestamp": "2025-11-21T10:00:00Z", "gpus": [{"deviceId": str(n)} for n in range(129)]}}, "gpus"),
        ({"type": 7}, "type"),
    ],
)
def test_a_wrong_shape_is_refused_with_its_field(change: dict[str, Any], word: str) -> None:
    """The sentence of INVALID_MESSAGE names what does not fit."""
    with pytest.raises(InvalidMessage, match=word):
        messages.decode(json.dumps(metrics() | change))


@pytest.mark.parametrize("field", ["hostname", "os", "cpuCores", "ramTotal", "gpuDevices"])
def test_a_registration_needs_its_facts(field: str) -> None:
    """Each required fact of NODE_REGISTER is asked for by name."""
    frame = register()
    del frame["data"][field]
    with pytest.raises(InvalidMessage, match=field):
        messages.decode(json.dumps(frame))


def test_an_unknown_type_is_its_own_error() -> None:
    """A type that the protocol does not know answers UNKNOWN_TYPE and keeps its id."""
    frame = json.dumps({"type": "HELLO", "messageId": "m-1"})
    with pytest.raises(UnknownType, match="HELLO"):
        messages.decode(frame)
    assert messages.message_id_of(frame) == "m-1"


def test_nul_is_refused_and_its_look_alike_is_not() -> None:
    """PostgreSQL cannot keep a NUL, so a frame with one is refused; a backslash before `u0000` is only text."""
    frame = metrics()
    frame["data"]["gpus"][0]["model"] = "A\0B"
    with pytest.raises(InvalidMessage, match=r"NUL.*data.gpus\[0\].model"):
        messages.decode(json.dumps(frame))
    frame["data"]["gpus"][0]["model"] = "A\\u0000B"
    assert isinstance(messages.decode(json.dumps(frame)), messages.Metrics)


@pytest.mark.parametrize("unknown", ["[" * 600 + "]" * 600, "1e400", "-1e400", '{"a": [1e999]}'])
def test_nul_is_not_hidden_by_what_nobody_reads(unknown: str) -> None:
    """A field that is skipped may hold what cannot be decoded; the NUL behind it is refused all the same."""
    frame = metrics()
    frame["data"]["gpus"][0]["model"] = "A\0B"
    with pytest.raises(InvalidMessage):
        messages.decode(f'{{"unknown": {unknown}, {json.dumps(frame)[1:]}')
    frame["data"]["gpus"][0]["model"] = "AB"
    assert isinstance(messages.decode(f'{{"unknown": {unknown}, {json.dumps(frame)[1:]}'), messages.Metrics)


@pytest.mark.parametrize("frame", [b"\x00\x01", "", "{", "[" * 5000, "null", '"x"', '{"type":"TELEMETRY_METRICS"'])
def test_what_is_no_json_message_is_refused(frame: str | bytes) -> None:
    """Broken JSON, other JSON and binary frames are INVALID_MESSAGE without an id."""
    with pytest.raises(InvalidMessage):
        messages.decode(frame)
    assert messages.message_id_of(frame) is None


def test_unknown_fields_are_ignored() -> None:
    """A newer worker may say more than this service knows."""
    assert messages.decode(json.dumps(heartbeat() | {"new": {"deep": [1]}}))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_json_breaks_the_decoder(value: Any) -> None:
    """Whatever JSON comes, the answer is a message or one of our errors."""
    try:
        messages.decode(json.dumps(value))
    except AiwmError as error:
        assert error.message


@given(
    st.dictionaries(
        st.sampled_from(["type", "messageId", "timestamp", "data", "ack"]), st.none() | st.text() | st.integers()
    )
)
def test_no_change_of_a_good_frame_breaks_the_decoder(change: dict[str, Any]) -> None:
    """A good frame with anything in place of its parts is taken or refused, never a crash."""
    try:
        messages.decode(json.dumps(metrics() | change))
    except AiwmError as error:
        assert error.code in {"INVALID_MESSAGE", "UNKNOWN_TYPE"}


def test_the_frames_here_are_the_document_s(shared_document: Path) -> None:
    """The frames that these tests are built on stand in the document, word for word."""
    text = " ".join(shared_document.read_text().split())
    for frame in (register(), heartbeat(), metrics()):
        for name in frame["data"]:
            assert f'"{name}"' in text
