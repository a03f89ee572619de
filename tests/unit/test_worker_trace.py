"""Recorded traces in the place of GPUs."""

from pathlib import Path
from typing import Any

import pytest

from app.worker.machine import open_machine
from app.worker.trace import Trace

HEADER = (
    "timestamp, uuid, name, index, pci.bus_id, utilization.gpu [%], memory.total [MiB], memory.used [MiB], "
    "temperature.gpu, power.draw [W], clocks.current.sm [MHz], fan.speed [%], "
    "ecc.errors.uncorrected.volatile.total, clocks_event_reasons.active"
)


def smi_row(second: float, gpu: int, utilization: str = "85 %", power: str = "250.35 W") -> str:
    return (
        f"2025/11/21 10:{int(second) // 60:02}:{second % 60:06.3f}, GPU-{gpu}, NVIDIA A100, {gpu}, 00000000:0{gpu}:00.0, "
        f"{utilization}, 81920 MiB, 20480 MiB, 72, {power}, 1410 MHz, [N/A], 0, 0x0000000000000004"
    )


def trace(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    file = tmp_path / "trace.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def test_a_recording_of_nvidia_smi_is_read_in_the_documents_units(tmp_path: Path) -> None:
    """Units stand in names and values and are seen through; [N/A] is left out."""
    player = Trace.read(trace(tmp_path, smi_row(0, 0), smi_row(0.05, 1)))
    assert player.metrics()[0] == {
        "deviceId": "GPU-0",
        "model": "NVIDIA A100",
        "utilization": 85,
        "memoryTotal": 80,
        "memoryUsed": 20,
        "temperature": 72,
        "powerUsage": 250.35,
        "smClock": 1410,
        "eccUncorrected": 0,
        "throttleReasons": ["power_cap"],
    }
    assert player.facts()[1] == {
        "deviceId": "GPU-1",
        "model": "NVIDIA A100",
        "memoryTotal": 80,
        "utilization": 85,
        "temperature": 72,
        "index": 1,
        "pciBusId": "00000000:01:00.0",
    }
    assert player.status()[1] == {"deviceId": "GPU-1", "utilization": 85, "temperature": 72}


def test_dcgms_columns_and_blanks_are_read_too(tmp_path: Path) -> None:
    """Energy comes in mJ, throughput in KB/s; blanks are numbers that no card has."""
    header = (
        "time,UUID,modelName,DCGM_FI_DEV_GPU_UTIL,DCGM_FI_DEV_FB_USED,DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION,"
        "DCGM_FI_DEV_PCIE_RX_THROUGHPUT,DCGM_FI_DEV_FAN_SPEED,DCGM_FI_DEV_CLOCKS_EVENT_REASONS,Hostname"
    )
    row = "1763719200.5,GPU-0,NVIDIA H100,97,1024,123456,2000,9223372036854775794,0,gpu-01"
    assert Trace.read(trace(tmp_path, row, header=header)).metrics() == [
        {
            "deviceId": "GPU-0",
            "model": "NVIDIA H100",
            "utilization": 97,
            "memoryUsed": 1,
            "energy": 123.456,
            "pcieRx": 2_048_000,
            "throttleReasons": [],
        }
    ]


def test_each_sample_is_the_next_moment_whatever_the_interval(tmp_path: Path) -> None:
    """None is left out and none comes twice; heartbeats between them tell of the same moment; then it begins again."""
    rows = [smi_row(60 * minute + gpu / 100, gpu, f"{10 * minute + gpu} %") for minute in range(5) for gpu in range(8)]
    player = Trace.read(trace(tmp_path, *rows))
    assert [it["utilization"] for it in player.status()] == list(range(8))
    played = []
    for _ in range(6):
        played.append([it["utilization"] for it in player.metrics()])
        assert [it["utilization"] for it in player.status()] == played[-1]
        assert player.events() == []
    assert played == [[10 * (minute % 5) + gpu for gpu in range(8)] for minute in range(6)]


def test_at_a_speed_it_goes_by_the_clock(tmp_path: Path) -> None:
    """At 60 times the speed a recorded minute takes a second, from the first question on."""
    now = 500.0
    rows = [smi_row(60 * minute, 0, f"{minute} %") for minute in range(4)]
    recorded = Trace.read(trace(tmp_path, *rows))
    player = Trace(recorded._moments, speed=60, monotonic=lambda: now)
    seen = []
    for elapsed in (0.0, 0.5, 1.01, 1.9, 3.5, 4.01, 9.01):
        now = 500.0 + elapsed
        seen.append(player.metrics()[0]["utilization"])
    assert seen == [0, 0, 1, 1, 3, 0, 1]


def test_a_card_that_is_missing_in_the_recording_has_vanished(tmp_path: Path) -> None:
    """Its row is not there, or says that the card is lost; it returns with its next row."""
    rows = [
        smi_row(0, 0),
        smi_row(0, 1),
        smi_row(60, 1),
        smi_row(120, 0, "[GPU is lost]"),
        smi_row(120, 1),
        smi_row(180, 0),
    ]
    player = Trace.read(trace(tmp_path, *rows))
    told: list[Any] = []
    for _ in range(4):
        player.metrics()
        told.append([(event["kind"], event["deviceId"]) for event in player.events()])
    assert told == [
        [],
        [("gpu_vanished", "GPU-0")],
        [],
        [("gpu_returned", "GPU-0"), ("gpu_vanished", "GPU-1")],
    ]


def test_an_xid_is_an_event_when_it_is_new(tmp_path: Path) -> None:
    """dcgm repeats the last one for ever; samples that are passed over at a speed lose none."""
    rows = [f"{second},GPU-0,{xid}" for second, xid in enumerate((0, 31, 31, 79))]
    player = Trace.read(trace(tmp_path, *rows, header="timestamp,uuid,DCGM_FI_DEV_XID_ERRORS"))
    for _ in range(4):
        player.metrics()
    assert [event["detail"] for event in player.events()] == [{"xid": 31}, {"xid": 79}]


@pytest.mark.parametrize(
    ("header", "row", "sentence"),
    [
        ("a,b", "1,2", "no column uuid or index"),
        ("uuid,power.draw [W]", "GPU-0,many W", "line 2 .* 'many W' in column 'power.draw .W.'"),
        ("uuid,power.draw [W]", "GPU-0", "1 values for 2 columns"),
        ("uuid,index,power.draw [W]", "[N/A],[N/A],5 W", "neither uuid nor index"),
        ("timestamp,uuid", "noon,GPU-0", "'noon' in column 'timestamp'"),
        ("uuid", "", "no rows"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_in_a_sentence(tmp_path: Path, header: str, row: str, sentence: str) -> None:
    """It names the line and the column."""
    with pytest.raises(ValueError, match=sentence):
        open_machine(trace(tmp_path, row, header=header))


def test_a_speed_wants_times(tmp_path: Path) -> None:
    """Without timestamps nobody knows how fast it was."""
    with pytest.raises(ValueError, match="without a timestamp"):
        open_machine(trace(tmp_path, "GPU-0,85", header="uuid,utilization.gpu [%]"), speed=2)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("inf"), float("nan")])
def test_a_speed_is_above_nothing(tmp_path: Path, speed: float) -> None:
    """A recording does not stand still or go back."""
    with pytest.raises(ValueError, match="a number above 0"):
        open_machine(trace(tmp_path, smi_row(0, 0)), speed=speed)
