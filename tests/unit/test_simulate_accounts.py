"""Frames and accounts: exact shapes go out, and every answer lands in the right column."""

import io
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from app.protocol.messages import Heartbeat, Metrics, NodeRegister, decode
from app.retry_after import seconds_of
from app.simulate import frames
from app.simulate.frames import Kind
from app.simulate.gate import Backoff
from app.simulate.machine import Machine
from app.simulate.outbox import Outbox
from app.simulate.report import Latencies, Report, Tally

# A machine busy with other things is slow, not wrong.
unhurried = settings(deadline=None)

NOW = 1_763_719_260_007


def ack(message_id: str, status: str = "stored", **more: Any) -> frames.Reply | None:
    """A TELEMETRY_ACK as the controller sends it."""
    data = {"ackFor": message_id, "status": status} | more
    return frames.decode_reply(json.dumps({"type": "TELEMETRY_ACK", "messageId": "m", "data": data}))


def report(tally: Tally, nodes: int = 0) -> Report:
    """A report of so many nodes."""
    return Report(nodes=nodes, gpus=8, tally=tally, seconds=10.0, cpu_seconds=0.1, sent_while_walking=1000)


@pytest.fixture
def tally() -> Tally:
    """Accounts without an entry."""
    return Tally()


@pytest.fixture
def outbox(tally: Tally) -> Outbox:
    """One worker's outbox with a heartbeat `h` and metrics `m` in it."""
    outbox = Outbox(tally)
    outbox.keep("h", Kind.HEARTBEAT, b'{"type":"TELEMETRY_HEARTBEAT"}')
    outbox.keep("m", Kind.METRICS, b'{"timestamp":"then"}')
    return outbox


DOCUMENT: dict[str, Any] = {
    "NODE_REGISTER": {
        "hostname": "", "ipAddress": "", "publicIpAddress": "", "os": "", "cpuCores": 0, "cpuModel": "",
        "ramTotal": 0, "diskTotal": 0,
        "gpuDevices": ["deviceId", "model", "memoryTotal", "memoryFree", "utilization", "temperature"],
        "daemonVersion": "", "uptimeSeconds": 0, "containerRuntime": "",
    },
    "TELEMETRY_HEARTBEAT": {
        "status": "", "uptimeSeconds": 0, "cpuUsage": 0, "ramUsage": 0, "activeDeployments": 0,
        "gpuStatus": ["deviceId", "utilization", "temperature"],
    },
    "TELEMETRY_METRICS": {
        "timestamp": "", "cpu": {"usage", "cores", "temperature"}, "memory": {"total", "used", "free", "usage"},
        "disk": {"total", "used", "free", "usage"}, "network": {"bytesIn", "bytesOut"},
        "gpus": [
            "deviceId", "model", "memoryTotal", "memoryUsed", "memoryFree", "utilization", "temperature", "powerUsage",
        ],
    },
}  # fmt: skip


def frames_of(machine: Machine) -> dict[str, bytes]:
    """One frame of each kind."""
    data = {
        Kind.REGISTER: frames.register_data(machine, 3600),
        Kind.HEARTBEAT: frames.heartbeat_data(machine, 3630),
        Kind.METRICS: frames.metrics_data(machine, NOW),
    }
    return {kind: frames.envelope(kind, "id", NOW, data[kind]) for kind in Kind}


@pytest.mark.parametrize("kind", list(DOCUMENT))
def test_frames_have_exactly_the_documents_fields(kind: str) -> None:
    """Nothing is missing, nothing is null, nothing is added but `ack`, and times have milliseconds and Z."""
    frame = json.loads(frames_of(Machine(3, 4))[kind])
    telemetry = {"ack"} if kind != "NODE_REGISTER" else set()
    assert set(frame) == {"type", "messageId", "timestamp", "data"} | telemetry
    assert frame["timestamp"] == "2025-11-21T10:01:00.007Z"
    assert set(frame["data"]) == set(DOCUMENT[kind])
    for name, shape in DOCUMENT[kind].items():
        value = frame["data"][name]
        assert value is not None
        if isinstance(shape, set):
            assert set(value) == shape
        elif isinstance(shape, list):
            assert len(value) == 4
            assert all(set(gpu) == set(shape) and None not in gpu.values() for gpu in value)


@unhurried
@given(st.integers(0, 10_000), st.integers(0, 128))
def test_the_controller_understands_every_frame(number: int, gpus: int) -> None:
    """Whatever the machine, its frames decode without complaint."""
    for kind, frame in frames_of(Machine(number, gpus)).items():
        message = decode(frame.decode())
        assert isinstance(message, {"R": NodeRegister, "H": Heartbeat, "M": Metrics}[Kind(kind).name[0]])


def test_each_answer_lands_in_its_column(outbox: Outbox, tally: Tally) -> None:
    """Stored, duplicate, rejected, refused, warned: each counted once, and nothing is left waiting."""
    outbox.keep("r", Kind.METRICS, b"{}")
    outbox.keep("e", Kind.METRICS, b"{}")
    outbox.answered(ack("h", warnings=["cpuUsage"]))
    outbox.answered(ack("m", "duplicate"))
    outbox.answered(ack("r", "rejected", error={"code": "SAMPLE_IN_FUTURE", "message": ""}))
    outbox.answered(frames.decode_reply('{"type":"ERROR","messageId":"e","error":{"code":"INVALID_MESSAGE"}}'))
    assert (tally.stored, tally.duplicate, tally.rejected, tally.refused, tally.warnings) == (1, 1, 1, 1, 1)
    assert tally.errors == {"SAMPLE_IN_FUTURE": 1, "INVALID_MESSAGE": 1}
    assert len(outbox) == tally.outstanding == 0
    assert tally.latencies.total == 3


def test_a_second_answer_for_a_frame_counts_nothing(outbox: Outbox, tally: Tally) -> None:
    """Of a frame sent twice only the first answer counts."""
    outbox.answered(ack("m"))
    outbox.answered(ack("m", "duplicate"))
    assert (tally.stored, tally.duplicate, tally.outstanding) == (1, 0, 1)


def test_an_error_without_a_frame_still_counts(outbox: Outbox, tally: Tally) -> None:
    """ERROR with messageId null refuses a frame that cannot be named."""
    outbox.answered(frames.decode_reply('{"type":"ERROR","messageId":null,"error":{"code":"UNKNOWN_TYPE"}}'))
    outbox.answered(frames.decode_reply("garbage"))
    assert tally.refused == 1
    assert tally.outstanding == 2
    assert tally.errors == {"UNKNOWN_TYPE": 1, "unreadable answer": 1}


def test_sending_again_keeps_the_sample(outbox: Outbox, tally: Tally) -> None:
    """A heartbeat goes out as it was, metrics in a fresh envelope, an answered one not at all."""
    assert outbox.frame_again("h", NOW) == b'{"type":"TELEMETRY_HEARTBEAT"}'
    again = json.loads(outbox.frame_again("m", NOW) or b"")
    assert again["timestamp"] == "2025-11-21T10:01:00.007Z"
    assert again["data"] == {"timestamp": "then"}
    outbox.answered(ack("m"))
    assert outbox.frame_again("m", NOW) is None
    assert tally.sent_again == 2
    assert tally.sent.total() == 2


@pytest.mark.parametrize("fault", ["rejected", "refused", "outstanding"])
def test_one_fault_fails_the_run(tally: Tally, fault: str) -> None:
    """A frame refused or never acknowledged is exit code 1."""
    assert report(tally).exit_code == 0
    setattr(tally, fault, 1)
    assert report(tally).exit_code == 1


def test_a_node_that_never_registered_fails_the_run(tally: Tally) -> None:
    """NODE_REGISTER, too, must be acknowledged."""
    tally.registered = {"a"}
    assert report(tally, nodes=1).exit_code == 0
    assert report(tally, nodes=2).exit_code == 1


def test_the_table_tells_everything(tally: Tally) -> None:
    """Every count of the accounts stands in the closing table, errors by code."""
    tally.sent.update({Kind.REGISTER: 11, Kind.HEARTBEAT: 2222, Kind.METRICS: 3333})
    tally.sent_again, tally.stored, tally.duplicate, tally.rejected = 44, 5555, 66, 77
    tally.refused, tally.reconnects, tally.outstanding = 88, 99, 101
    tally.errors["SAMPLE_TOO_OLD"] = 78
    for milliseconds in range(1, 101):
        tally.latencies.add(milliseconds / 1000)
    out = io.StringIO()
    Console(file=out, width=100).print(report(tally, nodes=11).table())
    shown = out.getvalue()
    for text in ("2,222", "3,333", " 44 ", "5,555", " 66 ", " 77 ", " 88 ", " 99 ", " 101 ", "SAMPLE_TOO_OLD", " 78 "):
        assert text in shown
    assert " 100 ms" in shown
    assert "100 µs" in shown


@unhurried
@given(st.lists(st.floats(0.0001, 100), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_quantiles_are_right_to_two_percent(values: list[float], share: float) -> None:
    """The histogram's quantile is the exact one, up to its bucket's width."""
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    exact = sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]
    assert exact * 0.98 <= latencies.quantile(share) <= exact * 1.021
    assert latencies.longest == max(values)


def test_backoff_doubles_to_a_minute_and_starts_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 s, 2 s, 4 s … 60 s as the document says, at least half of it, and 1 s again after a success."""
    monkeypatch.setattr(random, "uniform", lambda _, high: high)
    backoff = Backoff()
    assert [backoff.next() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    backoff.reset()
    assert backoff.next() == 1


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [(None, 1, 1), ("7", 7, 7), ("0", 0, 0), ("9999", 60, 60), ("soon", 1, 1), ("Mon, 01 Jan 2001 00:00:00 GMT", 0, 0)],
)
def test_retry_after_is_read_in_both_forms(text: str | None, low: float, high: float) -> None:
    """Seconds or a date, within bounds; nonsense is a second."""
    assert low <= seconds_of(text) <= high
