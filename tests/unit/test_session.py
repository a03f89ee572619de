"""One connection as a state machine: frames in; replies, events and closes out. No sockets."""

import json
from datetime import timedelta
from typing import Any

import pytest

from app.clock import timestamp
from app.errors import NodeInactive, NodeNotFound, TokenExpired
from app.model import EventKind, GpuEvent, GpuReading
from app.protocol.messages import EXTENSIONS
from app.protocol.replies import ControllerInfo
from app.protocol.session import Authenticate, Close, Controller, Register, Renew, Report, Session, Step, Telemetry
from tests.fakes import START, FakeClock
from tests.frames import gpu_event, heartbeat, metrics, register, token_renew

NODE = "673e7a1f5c9d8e001234abcd"
CONTROLLER = Controller(
    info=ControllerInfo(
        controller_id="controller-main",
        heartbeat_interval=30_000,
        metrics_interval=60_000,
        timezone="UTC",
        max_sample_age_ms=28 * 86_400_000,
        extensions=EXTENSIONS,
    ),
    server_version="1.0.0",
    max_age=timedelta(days=28),
)


@pytest.fixture
def session(clock: FakeClock) -> Session:
    """A session that nobody has authenticated yet."""
    return Session(CONTROLLER, clock)


@pytest.fixture
def admitted(session: Session) -> Session:
    """A session of a registered node."""
    session.admit(NODE, is_registered=True)
    return session


def reply(step: Step) -> dict[str, Any]:
    """The step's answer as JSON."""
    assert step.reply is not None
    parsed: dict[str, Any] = json.loads(step.reply)
    return parsed


def test_a_token_comes_in_the_header(session: Session) -> None:
    """`Authorization: Bearer` is checked at once."""
    assert session.open("Bearer abc.def.ghi") == Step(event=Authenticate("abc.def.ghi"))


def test_a_token_comes_in_the_first_frame(session: Session) -> None:
    """Who cannot set headers sends the document's auth object first."""
    assert session.open(None) == Step()
    assert session.receive('{"auth": {"token": "abc"}}') == Step(event=Authenticate("abc"))


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer  ", "Basic abc", "abc"])
def test_a_malformed_header_is_refused(session: Session, header: str) -> None:
    """A header that carries no bearer token closes with 4401."""
    step = session.open(header)
    assert reply(step)["error"]["code"] == "INVALID_TOKEN"
    assert step.close is not None
    assert step.close.code == 4401


@pytest.mark.parametrize("frame", ["{}", "nonsense", b"\x00", json.dumps(heartbeat()), '{"auth": {"token": 7}}'])
def test_anything_but_a_token_first_is_refused(session: Session, frame: str | bytes) -> None:
    """Before authentication there is nothing to talk about."""
    step = session.receive(frame)
    assert reply(step)["type"] == "CONNECTION_ACK"
    assert reply(step)["status"] == "error"
    assert step.close is not None
    assert step.close.code == 4401


def test_no_token_in_time_is_refused(session: Session) -> None:
    """Silence at the door ends with INVALID_TOKEN and 4401."""
    step = session.out_of_time()
    assert (reply(step)["error"]["code"], step.close and step.close.code) == ("INVALID_TOKEN", 4401)


def test_admission_is_the_document_s_acknowledgement(session: Session) -> None:
    """CONNECTION_ACK on success has exactly the document's fields."""
    ack = json.loads(session.admit(NODE, is_registered=False))
    assert ack.pop("messageId")
    assert ack == {
        "type": "CONNECTION_ACK",
        "timestamp": timestamp(START),
        "status": "success",
        "nodeId": NODE,
        "controllerId": "controller-main",
        "serverVersion": "1.0.0",
    }


@pytest.mark.parametrize(
    ("error", "code", "close"),
    [
        (NodeNotFound(), "NODE_NOT_FOUND", 4404),
        (NodeInactive(), "NODE_INACTIVE", 4403),
        (TokenExpired(), "TOKEN_EXPIRED", 4401),
    ],
)
def test_a_refusal_says_why(session: Session, error: Any, code: str, close: int) -> None:
    """CONNECTION_ACK on error carries the document's error object; the close code belongs to it."""
    step = session.refuse(error)
    answer = reply(step)
    assert set(answer) == {"type", "messageId", "timestamp", "status", "error"}
    assert answer["error"] == {"code": code, "message": error.message, "timestamp": timestamp(START)}
    assert step.close == Close(close, error.message)


def test_a_registration_is_handed_on_and_acknowledged(session: Session) -> None:
    """NODE_REGISTER becomes hardware; the acknowledgement has the document's fields, maxSampleAgeMs and extensions."""
    session.admit(NODE, is_registered=False)
    event = session.receive(json.dumps(register())).event
    assert isinstance(event, Register)
    assert (event.hardware.hostname, event.hardware.gpus[0].memory_total) == ("gpu-server-01", 80)
    ack = json.loads(session.registered(START, ()))
    assert ack["data"] == {
        "status": "success",
        "nodeId": NODE,
        "registeredAt": timestamp(START),
        "controllerInfo": {
            "controllerId": "controller-main",
            "heartbeatInterval": 30_000,
            "metricsInterval": 60_000,
            "timezone": "UTC",
            "maxSampleAgeMs": 28 * 86_400_000,
            "extensions": ["gpuDetails", "gpuEvents", "tokenRenewal"],
        },
        "pendingCommands": [],
    }


def test_telemetry_before_registration_is_refused(session: Session) -> None:
    """A node that never registered gets REGISTRATION_FAILED; after registering it may go on."""
    session.admit(NODE, is_registered=False)
    step = session.receive(json.dumps(heartbeat()))
    assert (reply(step)["type"], reply(step)["error"]["code"]) == ("ERROR", "REGISTRATION_FAILED")
    assert reply(step)["messageId"] == heartbeat()["messageId"]
    assert (step.event, step.close) == (None, None)
    session.registered(START, ())
    assert isinstance(session.receive(json.dumps(heartbeat())).event, Telemetry)


def test_a_heartbeat_is_measured_in_steps(admitted: Session) -> None:
    """Every value of a heartbeat arrives, in steps of its quantity's resolution."""
    event = admitted.receive(json.dumps(heartbeat(ack=True))).event
    assert isinstance(event, Telemetry)
    assert event.sample is not None
    assert event.wants_ack
    assert event.sample.values == ("online", 452, 628, 2, 3630)
    assert event.sample.gpus == (GpuReading("GPU-0", None, (850, 720)),)
    assert event.sample.time == START + timedelta(seconds=30)


def test_metrics_are_measured_in_steps(admitted: Session) -> None:
    """Every value of a metrics message arrives, in steps of its quantity's resolution."""
    event = admitted.receive(json.dumps(metrics())).event
    assert isinstance(event, Telemetry)
    assert event.sample is not None
    assert event.sample.values == (
        *(452, 32, 550),
        *(256_000, 160_000, 96_000, 625),
        *(2_048_000, 1_024_000, 1_024_000, 500),
        *(1_000_000, 500_000),
    )
    assert event.sample.gpus == (GpuReading("GPU-0", "NVIDIA A100", (850, 80_000, 20_000, 60_000, 720, 2500)),)


def test_a_heartbeat_s_own_sample_time_counts_before_the_envelope_s(admitted: Session) -> None:
    """`data.timestamp` of a heartbeat, where it is there, is the sample's time, cut to milliseconds."""
    frame = heartbeat()
    frame["data"]["timestamp"] = "2026-11-23T13:59:59.123999+02:00"
    event = admitted.receive(json.dumps(frame)).event
    assert isinstance(event, Telemetry)
    assert event.sample is not None
    assert timestamp(event.sample.time) == "2026-11-23T11:59:59.123Z"


def test_what_cannot_be_true_is_left_out_and_named(admitted: Session) -> None:
    """Impossible values become missing ones, each with a warning; the rest of the frame is kept."""
    frame = metrics()
    frame["data"]["cpu"]["usage"] = 100.1
    frame["data"]["disk"]["free"] = -1
    frame["data"]["gpus"][0]["temperature"] = 201
    event = admitted.receive(json.dumps(frame)).event
    assert isinstance(event, Telemetry)
    assert event.sample is not None
    assert (event.sample.values[0], event.sample.values[9], event.sample.values[1]) == (None, None, 32)
    assert event.sample.gpus[0].values == (850, 80_000, 20_000, 60_000, None, 2500)
    assert [warning.split()[0] for warning in event.warnings] == ["cpuUsage", "diskFree", "temperature"]


def test_missing_and_null_measurements_are_not_zero(admitted: Session) -> None:
    """A card without a sensor is stored as missing."""
    frame = metrics()
    frame["data"] = {"timestamp": frame["data"]["timestamp"], "cpu": None, "gpus": [{"deviceId": "G", "model": None}]}
    event = admitted.receive(json.dumps(frame)).event
    assert isinstance(event, Telemetry)
    assert event.sample is not None
    assert set(event.sample.values) | set(event.sample.gpus[0].values) == {None}
    assert event.warnings == ()


@pytest.mark.parametrize(
    ("offset", "code"),
    [
        (timedelta(minutes=5, milliseconds=1), "SAMPLE_IN_FUTURE"),
        (timedelta(days=-28, milliseconds=-1), "SAMPLE_TOO_OLD"),
    ],
)
def test_samples_out_of_time_are_rejected_by_name(admitted: Session, offset: timedelta, code: str) -> None:
    """Too far ahead or too old: a rejecting acknowledgement to who asked, else an ERROR; nothing to store."""
    moment = timestamp(START + offset)
    asked = admitted.receive(json.dumps(metrics(moment, ack=True)))
    data = reply(asked)["data"]
    assert (data["status"], data["error"]["code"], data["ackFor"]) == ("rejected", code, metrics()["messageId"])
    unasked = admitted.receive(json.dumps(metrics(moment)))
    assert (reply(unasked)["type"], reply(unasked)["error"]["code"]) == ("ERROR", code)
    assert isinstance(unasked.event, Telemetry)
    assert unasked.event.sample is None


@pytest.mark.parametrize("offset", [timedelta(minutes=5), timedelta(days=-28)])
def test_samples_at_the_edge_of_time_are_taken(admitted: Session, offset: timedelta) -> None:
    """The limits themselves are still good."""
    event = admitted.receive(json.dumps(metrics(timestamp(START + offset)))).event
    assert isinstance(event, Telemetry)
    assert event.sample is not None


def test_a_malformed_frame_is_answered_and_forgiven(admitted: Session) -> None:
    """An ERROR with the frame's id; the connection stays, and the next good frame is taken."""
    step = admitted.receive('{"type": "TELEMETRY_METRICS", "messageId": "m-9"}')
    answer = reply(step)
    assert (answer["type"], answer["messageId"], answer["error"]["code"]) == ("ERROR", "m-9", "INVALID_MESSAGE")
    assert step.close is None
    assert isinstance(admitted.receive(json.dumps(metrics())).event, Telemetry)


def test_twenty_malformed_frames_in_a_row_end_the_connection(admitted: Session) -> None:
    """The twentieth closes with 1008; a good frame in between starts the count anew."""
    for _ in range(19):
        assert admitted.receive("{").close is None
    admitted.receive(json.dumps(heartbeat()))
    for _ in range(19):
        assert admitted.receive('{"type": "WHAT", "messageId": "x"}').close is None
    last = admitted.receive("{")
    assert last.close is not None
    assert last.close.code == 1008


@pytest.mark.parametrize("number", ["-1", "100.1", "1e300", "9" * 30, "9" * 309, "-" + "9" * 400])
def test_a_number_of_any_size_is_only_disbelieved(admitted: Session, number: str) -> None:
    """However many digits it has: a warning, and the rest is kept."""
    frame = json.dumps(metrics()).replace('"usage": 45.2', f'"usage": {number}')
    event = admitted.receive(frame).event
    assert isinstance(event, Telemetry)
    assert event.sample is not None
    assert event.sample.values[:2] == (None, 32)
    assert event.warnings[0].startswith("cpuUsage of data can't be")


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_time_that_no_calendar_has_is_malformed(admitted: Session, moment: str) -> None:
    """In UTC it would lie before the year 1 or after 9999: INVALID_MESSAGE, the connection stays."""
    for frame in (metrics(moment), heartbeat(moment)):
        step = admitted.receive(json.dumps(frame))
        assert (reply(step)["error"]["code"], step.event, step.close) == ("INVALID_MESSAGE", None, None)


@pytest.mark.parametrize("moment", ["2026-11-23T11:00:04.9999999Z", "2026-11-23T12:00:04.999999999999+01:00"])
def test_times_are_cut_however_fine(admitted: Session, moment: str) -> None:
    """Go and .NET write seven digits and more: they are cut to milliseconds, never rounded into the next second."""
    event = admitted.receive(json.dumps(metrics(moment))).event
    assert isinstance(event, Telemetry)
    assert event.sample is not None
    assert timestamp(event.sample.time) == "2026-11-23T11:00:04.999Z"


def test_disbelief_at_registration_comes_with_its_acknowledgement(session: Session) -> None:
    """A fact that can't be true is left out of the hardware and named in REGISTER_ACK."""
    session.admit(NODE, is_registered=False)
    frame = register()
    frame["data"] |= {"ramTotal": -5, "cpuCores": -1, "uptimeSeconds": -1}
    event = session.receive(json.dumps(frame)).event
    assert isinstance(event, Register)
    assert (event.hardware.ram_total, event.hardware.cpu_cores, event.hardware.uptime_seconds) == (None, None, None)
    named = json.loads(session.registered(START, event.warnings))["data"]["warnings"]
    assert sorted(warning.split()[0] for warning in named) == ["cpuCores", "ramTotal", "uptimeSeconds"]


def test_a_gpu_event_is_handed_on(admitted: Session) -> None:
    """With its own time, a kind among those of events, and the device in its detail."""
    step = admitted.receive(json.dumps(gpu_event(ack=True)))
    detail = '{"deviceId":"GPU-0","message":"fell off the bus","xid":79}'
    event = GpuEvent(START + timedelta(seconds=30), EventKind.GPU_XID, detail)
    assert step == Step(event=Report(event, gpu_event()["messageId"], wants_ack=True, warnings=()))


def test_a_gpu_event_is_held_to_what_samples_are(session: Session, admitted: Session) -> None:
    """Before registration it is refused; too old or too far ahead it is rejected by name."""
    moment = timestamp(START + timedelta(minutes=6))
    asked = admitted.receive(json.dumps(gpu_event(moment, ack=True)))
    data = reply(asked)["data"]
    assert (data["status"], data["error"]["code"], data["ackFor"]) == (
        "rejected",
        "SAMPLE_IN_FUTURE",
        gpu_event()["messageId"],
    )
    unasked = admitted.receive(json.dumps(gpu_event("2020-01-01T00:00:00Z")))
    assert (reply(unasked)["type"], reply(unasked)["error"]["code"]) == ("ERROR", "SAMPLE_TOO_OLD")
    assert (asked.event, unasked.event) == (None, None)
    session.is_registered = False
    assert reply(session.receive(json.dumps(gpu_event())))["error"]["code"] == "REGISTRATION_FAILED"


def test_a_renewal_is_handed_on(session: Session) -> None:
    """Also of a node that never registered: its token may expire as well."""
    session.admit(NODE, is_registered=False)
    assert session.receive(json.dumps(token_renew())) == Step(event=Renew(token_renew()["messageId"]))
