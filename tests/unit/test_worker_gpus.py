"""GPUs by NVML, with all the ways in which cards and drivers fail."""

from collections.abc import Iterator
from typing import Any

import pynvml
import pytest

from app.protocol import wire
from app.worker.gpus import AGAIN_SECONDS, Gpus
from tests.nvml import GIB, FakeCard, FakeNvml

DOCUMENT = {
    "deviceId",
    "model",
    "memoryTotal",
    "memoryUsed",
    "memoryFree",
    "utilization",
    "temperature",
    "powerUsage",
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def cards() -> list[FakeCard]:
    return [FakeCard(number) for number in range(8)]


@pytest.fixture
def nvml(cards: list[FakeCard]) -> FakeNvml:
    return FakeNvml(*cards)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gpus(nvml: FakeNvml, clock: Clock) -> Iterator[Gpus]:
    found = Gpus(nvml, clock)
    yield found
    found.close()
    assert nvml.event_sets == 0


def ids(devices: list[dict[str, Any]]) -> list[str]:
    return [device["deviceId"] for device in devices]


def kinds(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["kind"], event["deviceId"]) for event in events]


def test_metrics_of_eight_cards_are_in_the_documents_units(gpus: Gpus, cards: list[FakeCard]) -> None:
    """Memory in GB of 2^30 bytes, watts, joules, bytes a second, and reasons by name."""
    found = gpus.metrics()
    assert ids(found) == [card.uuid for card in cards]
    assert found[0] == {
        "deviceId": cards[0].uuid,
        "model": "NVIDIA H100 80GB HBM3",
        "memoryTotal": 80.0,
        "memoryUsed": 20.0,
        "memoryFree": 59.5,
        "utilization": 85,
        "temperature": 72,
        "powerUsage": 650.5,
        "smClock": 1980,
        "memoryClock": 2619,
        "fanSpeed": 45,
        "pcieRx": 2_048_000,
        "pcieTx": 1_024_000,
        "energy": 123_456.789,
        "eccCorrected": 3,
        "eccUncorrected": 0,
        "throttleReasons": ["power_cap", "hw_thermal"],
    }
    assert set(found[0]) == DOCUMENT | set(wire.DETAIL_FIELDS)


def test_facts_name_a_card_by_its_uuid_and_tell_where_it_is(gpus: Gpus, cards: list[FakeCard]) -> None:
    """Index, PCI bus id and serial are facts; the identity is the UUID."""
    assert gpus.facts()[3] == {
        "deviceId": cards[3].uuid,
        "model": "NVIDIA H100 80GB HBM3",
        "memoryTotal": 80.0,
        "memoryFree": 59.5,
        "utilization": 85,
        "temperature": 72,
        "index": 3,
        "pciBusId": "00000000:03:00.0",
        "serial": "1650003",
    }


def test_a_heartbeat_has_utilization_and_temperature(gpus: Gpus, cards: list[FakeCard]) -> None:
    """As in the document, and no more."""
    assert gpus.status()[7] == {"deviceId": cards[7].uuid, "utilization": 85, "temperature": 72}


@pytest.mark.parametrize(
    ("function", "fields"),
    [
        ("nvmlDeviceGetName", {"model"}),
        ("nvmlDeviceGetMemoryInfo", {"memoryTotal", "memoryUsed", "memoryFree"}),
        ("nvmlDeviceGetUtilizationRates", {"utilization"}),
        ("nvmlDeviceGetTemperature", {"temperature"}),
        ("nvmlDeviceGetPowerUsage", {"powerUsage"}),
        ("nvmlDeviceGetClockInfo", {"smClock", "memoryClock"}),
        ("nvmlDeviceGetFanSpeed", {"fanSpeed"}),
        ("nvmlDeviceGetPcieThroughput", {"pcieRx", "pcieTx"}),
        ("nvmlDeviceGetTotalEnergyConsumption", {"energy"}),
        ("nvmlDeviceGetTotalEccErrors", {"eccCorrected", "eccUncorrected"}),
        ("nvmlDeviceGetCurrentClocksEventReasons", {"throttleReasons"}),
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_UNKNOWN,
        pynvml.NVML_ERROR_TIMEOUT,
    ],
)
def test_a_field_that_a_card_does_not_answer_is_left_out(
    gpus: Gpus, cards: list[FakeCard], function: str, fields: set[str], error: int
) -> None:
    """Left out, never 0; its other fields and the other cards are there, and no event is made of it."""
    cards[2].errors[function] = error
    found = gpus.metrics()
    assert set(found[1]) - set(found[2]) == fields
    assert len(found) == 8
    assert gpus.events() == []


def test_an_old_driver_is_asked_in_its_own_words(gpus: Gpus, cards: list[FakeCard]) -> None:
    """Before 535 the event reasons were throttle reasons."""
    for card in cards:
        card.answers["nvmlDeviceGetCurrentClocksThrottleReasons"] = 0
        card.errors["nvmlDeviceGetCurrentClocksEventReasons"] = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
    assert gpus.metrics()[0]["throttleReasons"] == []


@pytest.mark.parametrize(
    "error",
    [
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_UNKNOWN,
    ],
)
def test_without_a_driver_there_are_no_gpus_until_there_is_one(
    gpus: Gpus, nvml: FakeNvml, clock: Clock, error: int
) -> None:
    """No library, no driver: no GPUs and no error; a driver that comes later is found."""
    nvml.init_error = error
    assert (gpus.facts(), gpus.status(), gpus.metrics(), gpus.events()) == ([], [], [], [])
    nvml.init_error = None
    assert gpus.metrics() == []
    clock.now += AGAIN_SECONDS
    assert len(gpus.metrics()) == 8
    assert gpus.events() == []


def test_a_driver_without_cards_is_no_error(clock: Clock) -> None:
    """A machine that has none."""
    gpus = Gpus(FakeNvml(), clock)
    assert (gpus.facts(), gpus.metrics(), gpus.events()) == ([], [], [])
    gpus.close()


@pytest.mark.parametrize("question", ["facts", "status", "metrics", "events"])
def test_a_card_that_falls_off_the_bus_is_told_once(gpus: Gpus, cards: list[FakeCard], question: str) -> None:
    """The others go on, whichever question met the loss."""
    gpus.metrics()
    cards[5].is_lost = True
    found = getattr(gpus, question)()
    events = found if question == "events" else gpus.events()
    assert kinds(events) == [("gpu_vanished", cards[5].uuid)]
    assert "lost" in events[0]["detail"]["reason"].lower()
    assert ids(gpus.metrics()) == ids(gpus.status()) == [card.uuid for card in cards if card.number != 5]
    assert gpus.events() == []


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_UNKNOWN, pynvml.NVML_ERROR_RESET_REQUIRED])
def test_a_card_that_answers_nothing_has_vanished(gpus: Gpus, cards: list[FakeCard], error: int) -> None:
    """Unknown errors alone are how some drivers speak of a lost card; when they pass, it has returned."""
    gpus.metrics()
    cards[0].fails_with = error
    assert len(gpus.status()) == 7
    assert kinds(gpus.events()) == [("gpu_vanished", cards[0].uuid)]
    cards[0].fails_with = None
    assert len(gpus.status()) == 8
    assert kinds(gpus.events()) == [("gpu_returned", cards[0].uuid)]


def test_a_card_that_is_back_is_found_and_told(gpus: Gpus, nvml: FakeNvml, cards: list[FakeCard], clock: Clock) -> None:
    """NVML finds cards when it starts, so it is started again now and then while one is missing."""
    gpus.metrics()
    cards[5].is_lost = True
    gpus.metrics()
    cards[5].is_lost = False
    assert len(gpus.metrics()) == 7
    clock.now += AGAIN_SECONDS
    assert len(gpus.metrics()) == 8
    assert kinds(gpus.events()) == [("gpu_vanished", cards[5].uuid), ("gpu_returned", cards[5].uuid)]
    clock.now += 10 * AGAIN_SECONDS
    gpus.metrics()
    assert nvml.inits == 2


def test_a_card_that_stays_away_is_not_told_again(
    gpus: Gpus, nvml: FakeNvml, cards: list[FakeCard], clock: Clock
) -> None:
    """Looking for it again and again makes no event."""
    gpus.metrics()
    cards[5].is_lost = True
    told = []
    for _ in range(10):
        clock.now += AGAIN_SECONDS / 2
        gpus.metrics()
        told += kinds(gpus.events())
    assert told == [("gpu_vanished", cards[5].uuid)]
    assert nvml.inits == 5


def test_a_driver_that_goes_takes_its_cards_along(
    gpus: Gpus, nvml: FakeNvml, cards: list[FakeCard], clock: Clock
) -> None:
    """Unloaded or replaced: every card has vanished, and returns with the driver."""
    gpus.metrics()
    for card in cards:
        card.fails_with = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    nvml.init_error = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    assert gpus.metrics() == []
    assert sorted(kinds(gpus.events())) == sorted(("gpu_vanished", card.uuid) for card in cards)
    nvml.init_error = None
    for card in cards:
        card.fails_with = None
    clock.now += AGAIN_SECONDS
    assert len(gpus.metrics()) == 8
    assert sorted(kinds(gpus.events())) == sorted(("gpu_returned", card.uuid) for card in cards)


def test_a_card_that_is_lost_from_the_start_holds_up_nothing(gpus: Gpus, cards: list[FakeCard]) -> None:
    """Nobody knows its identity, so there is no event of it."""
    cards[4].errors["nvmlDeviceGetUUID"] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert len(gpus.facts()) == 7
    assert gpus.events() == []


def test_xid_errors_are_events_of_their_card(gpus: Gpus, nvml: FakeNvml, cards: list[FakeCard]) -> None:
    """Each once, in their order, and before what came of them."""
    gpus.metrics()
    nvml.raise_xid(cards[1], 48)
    nvml.raise_xid(cards[6], 79)
    cards[6].is_lost = True
    events = gpus.events()
    assert kinds(events) == [("xid", cards[1].uuid), ("xid", cards[6].uuid), ("gpu_vanished", cards[6].uuid)]
    assert [event["detail"].get("xid") for event in events] == [48, 79, None]
    assert events[0]["detail"]["seenAt"].endswith("Z")
    assert gpus.events() == []


def test_an_xid_of_a_mig_device_says_which_instance(gpus: Gpus, nvml: FakeNvml, cards: list[FakeCard]) -> None:
    """It is an event of the card."""
    gpus.metrics()
    nvml.raise_xid(cards[0], 43, gpu_instance=9)
    assert gpus.events()[0]["detail"]["gpuInstance"] == 9


def test_a_flood_of_xids_is_bounded(gpus: Gpus, nvml: FakeNvml, cards: list[FakeCard], caplog: Any) -> None:
    """The first ones are kept, since they tell the cause; how many more there were is logged."""
    gpus.metrics()
    for number in range(300):
        nvml.raise_xid(cards[0], number)
    assert [event["detail"]["xid"] for event in gpus.events()] == list(range(256))
    assert "44 more XID errors" in caplog.text


def test_cards_without_events_are_measured_all_the_same(nvml: FakeNvml, clock: Clock) -> None:
    """XIDs are not watched then, and no thread is started."""
    nvml.has_events = False
    gpus = Gpus(nvml, clock)
    assert len(gpus.metrics()) == 8
    assert nvml.event_sets == 0
    gpus.close()


def test_uncorrected_memory_errors_are_events_when_they_grow(gpus: Gpus, cards: list[FakeCard]) -> None:
    """What was there before is no event; each growth is one."""
    counter = f"nvmlDeviceGetTotalEccErrors/{pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED}"
    cards[3].answers[counter] = 7
    assert gpus.events() == []
    cards[3].answers[counter] = 9
    assert gpus.events() == [{"kind": "ecc_uncorrected", "deviceId": cards[3].uuid, "detail": {"count": 2, "total": 9}}]
    cards[3].answers[counter] = 0  # the driver was loaded anew
    assert gpus.events() == []


def test_mig_devices_stand_beside_their_card_by_their_own_uuid(clock: Clock) -> None:
    """They have the memory, the card has what there is once: sums count nothing twice."""
    migs = [FakeCard(100 + number, uuid=f"MIG-{number}a1b2c3d-0000-5000-8000-000000000000") for number in range(2)]
    for mig in migs:
        mig.answers["nvmlDeviceGetName"] = "NVIDIA H100 80GB HBM3 MIG 3g.40gb"
        mig.answers["nvmlDeviceGetMemoryInfo"].total = 40 * GIB
    card = FakeCard(0, mig=migs)
    card.lacks("nvmlDeviceGetUtilizationRates")
    gpus = Gpus(FakeNvml(card), clock)
    found = gpus.metrics()
    assert ids(found) == ids(gpus.facts()) == [card.uuid, migs[0].uuid, migs[1].uuid]
    assert found[1] == {
        "deviceId": migs[0].uuid,
        "model": "NVIDIA H100 80GB HBM3 MIG 3g.40gb",
        "memoryTotal": 40.0,
        "memoryUsed": 20.0,
        "memoryFree": 59.5,
    }
    assert {"powerUsage", "temperature", "energy"} <= set(found[0])
    assert not {"memoryTotal", "memoryUsed", "memoryFree", "utilization"} & set(found[0])
    assert gpus.facts()[1]["parentId"] == card.uuid
    del card.mig[1]  # an operator takes one away: that is no failure
    assert ids(gpus.metrics()) == [card.uuid, migs[0].uuid]
    assert gpus.events() == []
    gpus.close()


def test_closing_ends_the_thread_and_nvml(gpus: Gpus, nvml: FakeNvml) -> None:
    """Nothing waits for a driver any more; closing twice is harmless."""
    gpus.metrics()
    assert (nvml.open, nvml.event_sets) == (1, 1)
    gpus.close()
    gpus.close()
    assert (nvml.open, nvml.event_sets) == (0, 0)


def test_a_card_that_goes_while_nvml_starts_anew_is_told_too(gpus: Gpus, cards: list[FakeCard], clock: Clock) -> None:
    """NVML does not speak of what it does not find."""
    gpus.metrics()
    cards[5].is_lost = True
    gpus.metrics()
    gpus.metrics()
    clock.now += AGAIN_SECONDS
    cards[6].is_lost = True
    assert len(gpus.metrics()) == 6
    assert kinds(gpus.events()) == [("gpu_vanished", cards[5].uuid), ("gpu_vanished", cards[6].uuid)]
