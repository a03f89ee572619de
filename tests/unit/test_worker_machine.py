"""The machine around the GPUs, as psutil really sees this one."""

import shutil
import socket
from typing import Any

import psutil
import pytest

from app import VERSION
from app.protocol.messages import Heartbeat, Metrics, NodeRegister, decode
from app.protocol.samples import hardware_of, sample_of
from app.protocol.wire import encode, heartbeat, metrics, register
from app.worker import facts, host
from app.worker.gpus import Gpus
from app.worker.machine import Machine, open_machine
from tests.nvml import FakeCard, FakeNvml


class BrokenGpus:
    """A driver that comes up with something new."""

    def facts(self) -> list[dict[str, Any]]:
        raise AttributeError("no such symbol")

    status = metrics = events = facts

    def close(self) -> None:
        """Nothing."""


@pytest.fixture
def machine() -> Machine:
    return Machine(Gpus(FakeNvml(*(FakeCard(number) for number in range(8)))))


def test_the_controller_believes_every_word(machine: Machine) -> None:
    """Facts, heartbeats and metrics of a real machine are messages of the document, without a warning."""
    registration = decode(register("r", 0, encode(machine.facts())))
    assert isinstance(registration, NodeRegister)
    hardware, warnings = hardware_of(registration.data)
    assert (hardware.hostname, len(hardware.gpus), warnings) == (socket.gethostname(), 8, ())
    for sample in (
        decode(heartbeat("h", 0, encode({**machine.heartbeat(), "timestamp": "2026-01-01T00:00:00Z"}))),
        decode(metrics("m", 0, encode({**machine.metrics(), "timestamp": "2026-01-01T00:00:00Z"}))),
    ):
        assert isinstance(sample, Heartbeat | Metrics)
        assert sample_of(sample)[1] == ()
    machine.close()


def test_facts_are_those_of_this_machine() -> None:
    """Sizes in GB of 2^30 bytes."""
    found = facts.read()
    assert found["cpuCores"] == psutil.cpu_count()
    assert found["ramTotal"] == pytest.approx(psutil.virtual_memory().total / 2**30, abs=0.001)
    assert found["daemonVersion"] == VERSION
    assert found["os"]
    assert found["uptimeSeconds"] > 0
    assert None not in found.values()


def test_metrics_add_up() -> None:
    """Used and free memory are the total; a disk's usage is what df says; counters count bytes."""
    memory, disk, network = host.memory(), host.disk(), host.network()
    assert memory["used"] + memory["free"] == pytest.approx(memory["total"], abs=0.002)
    assert memory["usage"] == pytest.approx(100 * memory["used"] / memory["total"], abs=0.1)
    assert disk["total"] >= shutil.disk_usage("/").total / 2**30 - 0.001
    assert 0 <= disk["usage"] <= 100
    assert set(network) <= {"bytesIn", "bytesOut"}


def test_a_file_system_counts_once_however_often_it_is_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service's own view of the disk is made of the same file system many times over."""
    disk = {"fstype": "ext4", "opts": "rw"}
    found = [
        psutil._ntuples.sdiskpart(device=device, mountpoint="/", **disk) for device in ("/dev/sda1", "/dev/sda1", "/x")
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda: found)
    assert host.disk()["total"] == pytest.approx(2 * shutil.disk_usage("/").total / 2**30, abs=0.01)


def test_the_usage_of_processors_is_unknown_before_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left out at first, never 0; then the share of the time since the last question."""
    times = [
        psutil.cpu_times()._replace(
            **{**dict.fromkeys(psutil.cpu_times()._fields, 0.0), "user": user, "idle": idle, "iowait": 2.0}
        )
        for user, idle in ((0.0, 0.0), (3.0, 7.0))
    ]
    clock = iter((0.0, 0.1, 10.0, 10.2))
    monkeypatch.setattr(host, "time", type("Time", (), {"monotonic": staticmethod(lambda: next(clock))}))
    monkeypatch.setattr(psutil, "cpu_times", lambda: times.pop(0))
    usage = host.CpuUsage()
    assert usage.percent() is None
    assert usage.percent() == 30.0
    assert usage.percent() == 30.0


def test_a_driver_that_fails_in_a_new_way_takes_nothing_else_down(caplog: pytest.LogCaptureFixture) -> None:
    """The host is measured, the GPUs are left out and the log tells why."""
    machine = Machine(BrokenGpus())
    assert machine.facts()["gpuDevices"] == []
    assert "gpuStatus" not in machine.heartbeat()
    assert machine.heartbeat()["ramUsage"] > 0
    assert "gpus" not in machine.metrics()
    assert machine.events() == []
    assert "no such symbol" in caplog.text


def test_a_sensor_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other parts are there."""

    def broken() -> None:
        raise OSError("no /proc here")

    monkeypatch.setattr(host, "network", broken)
    found = open_machine().metrics()
    assert "network" not in found
    assert {"memory", "cpu", "disk"} <= set(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('NAME=x\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n', "Ubuntu 22.04.5 LTS"),
        ("PRETTY_NAME='Rocky Linux 9.4'\n", "Rocky Linux 9.4"),
    ],
)
def test_an_os_is_called_as_it_calls_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, text: str, expected: str
) -> None:
    """PRETTY_NAME, with its quotes off."""
    file = tmp_path / "os-release"
    file.write_text(text)
    monkeypatch.setattr(facts, "_OS_RELEASE", (tmp_path / "none", file))
    assert facts.read()["os"] == expected
