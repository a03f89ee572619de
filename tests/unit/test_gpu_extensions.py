"""What goes beyond the document: details in metrics, and events of GPUs, as they are decoded and measured."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidMessage
from app.model import Sample
from app.protocol import messages
from app.protocol.gpu_events import MAX_DETAIL_BYTES, event_of
from app.protocol.samples import sample_of
from tests.frames import DETAILS, gpu_event, metrics, token_renew

WORDS = st.sampled_from([*DETAILS["throttleReasons"], "gpu_idle", "hw_thermal"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("abc"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=6,
)


def measured(*gpus: dict[str, Any]) -> tuple[Sample, tuple[str, ...]]:
    """The sample of a metrics frame whose GPUs carry this, and the warnings."""
    frame = metrics()
    frame["data"]["gpus"] = [{"deviceId": f"GPU-{place}", "utilization": 50, **gpu} for place, gpu in enumerate(gpus)]
    message = messages.decode(json.dumps(frame))
    assert isinstance(message, messages.Metrics)
    return sample_of(message)


def test_details_are_measured_in_steps() -> None:
    """Each in its resolution, throttle reasons in the order of NVML; what a GPU does not tell is missing, never 0."""
    sample, warnings = measured(DETAILS, {"energy": 7.6, "throttleReasons": []})
    assert [(each.gpu, each.values) for each in sample.details] == [
        (0, (1410, 1593, 1045, 12_000_000, 3_400_000, 123_456_789, 3, 0, "power_cap,sw_thermal")),
        (1, (None, None, None, None, None, 8, None, None, "")),
    ]
    assert warnings == ()


def test_reasons_of_any_depth() -> None:
    """As deep as a text may be nested to be read at all: one such depth is read, and too deep to be written again."""
    frame = json.dumps(metrics()).replace('"deviceId"', '"throttleReasons": [NESTED], "deviceId"', 1)
    warned = 0
    for depth in range(1, 1200):
        try:
            message = messages.decode(frame.replace("NESTED", "[" * depth + "]" * depth))
        except InvalidMessage:
            continue
        assert isinstance(message, messages.Metrics)
        warned += len(sample_of(message)[1])
    assert warned > 100


@pytest.mark.parametrize("nothing", [{}, dict.fromkeys(DETAILS)])
def test_a_gpu_without_details_has_none(nothing: dict[str, Any]) -> None:
    """The document's own frame, and one whose details are all null."""
    assert measured(nothing, nothing)[0].details == ()
    (only,) = measured(nothing, {"smClock": 0}, nothing)[0].details
    assert only.gpu == 1


@pytest.mark.parametrize("field", DETAILS)
def test_each_detail_alone_is_seen(field: str) -> None:
    """None of them needs another."""
    (details,) = measured({field: DETAILS[field]})[0].details
    assert [value is None for value in details.values] == [name != field for name in DETAILS]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("smClock", -1, "smClock of GPU-0 can't be -1 MHz"),
        ("fanSpeed", 1000.1, "fanSpeed of GPU-0 can't be 1000.1 %"),
        ("energy", 10**400, "energy of GPU-0 can't be a number that large J"),
        ("pcieRx", "fast", "pcieRx of GPU-0 is no number"),
        ("eccCorrected", True, "eccCorrected of GPU-0 is no number"),
        ("throttleReasons", "power_cap", "throttleReasons of GPU-0 is no list"),
    ],
)
def test_details_that_cannot_be_true_are_left_out_and_named(field: str, value: Any, words: str) -> None:
    """Whatever type they are of: to who speaks the document alone they are unknown fields, and the frame is good."""
    sample, (warning,) = measured({"smClock": 1, field: value} if field != "smClock" else {"pcieTx": 1, field: value})
    place = list(DETAILS).index(field)
    assert sample.details[0].values[place] is None
    assert sample.gpus[0].values[0] == 500
    assert warning.startswith(words)


def test_an_unknown_throttle_reason_is_left_out_and_named() -> None:
    """Those that are known are kept."""
    sample, (warning,) = measured({"throttleReasons": ["moon", "gpu_idle", ["x"]]})
    assert sample.details[0].values[-1] == "gpu_idle"
    assert "'moon'" in warning


@given(st.dictionaries(st.sampled_from(list(DETAILS)), ANYTHING | st.lists(WORDS)))
def test_no_detail_spoils_a_frame(details: dict[str, Any]) -> None:
    """The document's fields are measured whatever stands beside them."""
    sample, _ = measured(details)
    assert sample.gpus[0].values[0] == 500


def test_the_frames_of_extensions_are_understood() -> None:
    """GPU_EVENT and TOKEN_RENEW decode to their messages."""
    assert isinstance(messages.decode(json.dumps(gpu_event())), messages.GpuEvent)
    assert isinstance(messages.decode(json.dumps(token_renew())), messages.TokenRenew)


def event(**data: Any) -> str:
    """The detail that is kept of an event."""
    frame = gpu_event()
    frame["data"] |= data
    message = messages.decode(json.dumps(frame))
    assert isinstance(message, messages.GpuEvent)
    return event_of(message).detail


@given(st.dictionaries(st.text("abc", min_size=1), ANYTHING, max_size=5))
def test_the_same_event_reads_the_same(detail: dict[str, Any]) -> None:
    """However its detail is ordered; and its device is the one that is named, whatever the detail says."""
    turned = dict(reversed([*detail.items(), ("deviceId", "another")]))
    assert event(detail=detail) == event(detail=turned)
    assert json.loads(event(detail=detail)) == detail | {"deviceId": "GPU-0"}


def test_an_event_needs_no_detail() -> None:
    """Missing or null, the device is told all the same."""
    assert event(detail=None) == '{"deviceId":"GPU-0"}'


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"kind": "smoke"}, "data.kind"),
        ({"deviceId": None}, "data.deviceId"),
        ({"timestamp": None}, "data.timestamp"),
        ({"detail": [1]}, "data.detail"),
        ({"detail": {"text": "x" * MAX_DETAIL_BYTES}}, "longer than 4096 bytes"),
        ({"detail": {"a": ["\0"]}}, "data.detail.a[0]"),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "timestamp"),
    ],
)
def test_an_event_of_the_wrong_shape_is_refused_by_name(data: dict[str, Any], word: str) -> None:
    """INVALID_MESSAGE names the field."""
    with pytest.raises(InvalidMessage, match=word.replace("[", r"\[")):
        event(**data)
