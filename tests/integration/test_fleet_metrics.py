"""GET /fleet/metrics, held against a plain computation over what a small fleet measured."""

from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from statistics import fmean
from typing import Any

import pytest
from sqlalchemy import insert, text

from app.domain.fleet_history import FleetHistory
from app.domain.plans import Limits
from app.domain.ranges import Interval
from app.domain.series import SeriesFound
from app.errors import InvalidRequest
from app.model import Caller, CallerRole, Owner
from app.storage import tables
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.rolling import floor
from tests.fakes import START, FakeClock
from tests.integration.rolling_up import roll_up
from tests.rest_app import ORG, OTHER_ORG, Api, rest_api

BEGIN = START - timedelta(hours=6)
GPUS = {1: ("GPU-a", "A100"), 2: ("GPU-b", None), 3: ("GPU-a", "H100")}
"""GPU-a became another model after three hours: two numbers, one device."""


@pytest.fixture
async def api(database: Database, clock: FakeClock) -> AsyncIterator[Api]:
    async with rest_api(database, clock) as api:
        yield api


class Fleet:
    """Three nodes of two orgs, one of them deleted; what each GPU measured, by node, device and time."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.utilization: dict[tuple[int, str, str], dict[datetime, int]] = defaultdict(dict)
        self.received: dict[int, dict[datetime, int]] = defaultdict(dict)


@pytest.fixture
async def fleet(api: Api, database: Database, engine: StorageEngine) -> Fleet:
    """Every 4 minutes for six hours, with a gap; the counter of a node falls once; the end is in no rollup yet."""
    made = Fleet()
    async with database.transaction() as connection:
        await engine.make_room(connection, [BEGIN.date(), START.date()])
    gpu_rows: list[dict[str, Any]] = []
    node_rows: list[dict[str, Any]] = []
    for place, (org, roles) in enumerate([(ORG, ["worker"]), (ORG, ["worker", "proxy"]), (OTHER_ORG, ["proxy"])]):
        answer = await api("POST", "/nodes", {"name": f"n{place}", "role": roles}, org=org)
        made.ids.append(answer.json()["_id"])
        async with database.transaction() as connection:
            key = await connection.scalar(text("SELECT node_key FROM nodes WHERE id = :id"), {"id": made.ids[-1]})
            for gpu, (device, model) in GPUS.items():
                row = {"node_key": key, "gpu": gpu, "device_id": device, "model": model}
                await connection.execute(insert(tables.gpus).values(row | {"first_seen": START, "last_seen": START}))
        for tick in range(90):
            time = BEGIN + timedelta(minutes=4 * tick)
            if place == 1 and 20 <= tick < 40:
                continue
            counted = tick * 1000 if tick < 50 or place != 0 else (tick - 50) * 10
            made.received[place][time] = counted
            node_rows.append({"node_key": key, "time": time, "network_bytes_in": counted, "cpu_usage": tick * 10})
            for gpu in (1 if tick < 45 else 3, 2):
                value = 100 * place + 10 * gpu + tick
                made.utilization[place, GPUS[gpu][0], GPUS[gpu][1] or "unknown"][time] = value
                gpu_rows.append(
                    {"node_key": key, "gpu": gpu, "time": time, "utilization": value, "memory_total": 80_000}
                )
    async with database.transaction() as connection:
        await connection.execute(insert(tables.node_metrics), node_rows)
        await connection.execute(insert(tables.gpu_metrics), gpu_rows)
    await api("DELETE", f"/nodes/{made.ids[1]}")
    touched = {(row["node_key"], row["time"]) for row in gpu_rows}
    await roll_up(database, engine, START - timedelta(minutes=72), touched)
    return made


async def ask(api: Api, query: str, role: CallerRole = CallerRole.ADMIN, org: str | None = None) -> dict[str, Any]:
    answer = await api(
        "GET", f"/fleet/metrics?from={BEGIN.isoformat()[:19]}Z&to={START.isoformat()[:19]}Z&{query}", role=role, org=org
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def values(answer: dict[str, Any]) -> dict[tuple[str, str], list[float]]:
    """The values of each series, by what it is of and its aggregate."""
    return {
        ("/".join(each[name] for name in ("nodeId", "deviceId", "group") if name in each), each["agg"]): [
            value for _, value in each["points"]
        ]
        for each in answer["series"]
    }


def hours(measured: dict[datetime, int]) -> dict[datetime, list[int]]:
    found: dict[datetime, list[int]] = defaultdict(list)
    for time, value in measured.items():
        found[time.replace(minute=0)].append(value)
    return found


def average(measured: list[dict[datetime, int]]) -> list[float]:
    """Over all samples of an hour."""
    every: dict[datetime, list[int]] = defaultdict(list)
    for each in measured:
        for hour, found in hours(each).items():
            every[hour] += found
    return [round(fmean(every[hour]) / 10, 4) for hour in sorted(every)]


async def test_the_whole_fleet_is_one_series(api: Api, fleet: Fleet) -> None:
    """Averages over all samples, of deleted nodes too; sums of the devices' averages."""
    answer = await ask(api, "interval=1h&fields=utilization&agg=avg,max,count,sum,p50")
    assert answer["source"] == "gpu_metrics_1h"
    assert (await ask(api, "interval=1h&fields=utilization"))["source"] == "gpu_metrics_1h_by_node"
    found = values(answer)
    every = list(fleet.utilization.values())
    assert found["", "avg"] == pytest.approx(average(every), abs=1e-4)
    assert found["", "count"][0] == 6 * 15
    assert found["", "max"][-1] == (200 + 30 + 89) / 10
    by_hour: dict[datetime, float] = defaultdict(float)
    for measured in every:
        for hour, each in hours(measured).items():
            by_hour[hour] += fmean(each) / 10
    assert found["", "sum"] == pytest.approx([by_hour[hour] for hour in sorted(by_hour)], abs=1e-3)
    assert all(abs(share - mean) < 10 for share, mean in zip(found["", "p50"], found["", "avg"], strict=True))


async def test_five_minutes_of_nodes_are_those_of_their_gpus(api: Api, fleet: Fleet) -> None:
    """Means over all samples, and sums of each GPU's own mean; what is not rolled up yet comes from the samples."""
    apart: dict[datetime, list[list[int]]] = defaultdict(list)
    for measured in fleet.utilization.values():
        of_gpu: dict[datetime, list[int]] = defaultdict(list)
        for time, value in measured.items():
            of_gpu[floor(time, timedelta(minutes=5))].append(value)
        for start, found in of_gpu.items():
            apart[start].append(found)
    expected = {
        "avg": [fmean(value for of_gpu in apart[start] for value in of_gpu) / 10 for start in sorted(apart)],
        "sum": [sum(map(fmean, apart[start])) / 10 for start in sorted(apart)],
    }
    for aggregate, numbers in expected.items():
        answer = await ask(api, f"interval=5m&fields=utilization&agg={aggregate}")
        assert answer["source"] == "gpu_metrics_5m_by_node"
        assert values(answer)["", aggregate] == pytest.approx(numbers, abs=1e-4)
    assert (await ask(api, "interval=15m&fields=utilization"))["source"] == "gpu_metrics_5m_by_node"
    assert (await ask(api, "interval=15m&fields=utilization&agg=sum"))["source"] == "gpu_metrics_5m"


async def test_sums_of_ranges_that_begin_within_an_hour(api: Api, fleet: Fleet) -> None:
    """The hours at the ends are added up from samples, those between from what was added up before."""
    start, end = BEGIN + timedelta(minutes=10), START - timedelta(minutes=25)
    by_hour: dict[datetime, float] = defaultdict(float)
    for measured in fleet.utilization.values():
        for hour, each in hours({time: value for time, value in measured.items() if start <= time < end}).items():
            by_hour[hour] += fmean(each) / 10
    bounds = f"from={start.isoformat()[:19]}Z&to={end.isoformat()[:19]}Z"
    answer = await api(
        "GET", f"/fleet/metrics?{bounds}&interval=1h&fields=utilization&agg=sum", role=CallerRole.ADMIN, org=None
    )
    assert values(answer.json())["", "sum"] == pytest.approx([by_hour[hour] for hour in sorted(by_hour)], abs=1e-3)


async def test_a_fleet_without_samples_is_null_and_never_nothing(api: Api) -> None:
    """Its one series is there, as a node's is."""
    answer = await ask(api, "interval=6h&fields=utilization,cpuUsage&agg=avg,sum&fill=null")
    assert [(each["field"], each["agg"]) for each in answer["series"]] == [
        *(("utilization", agg) for agg in ("avg", "sum")),
        *(("cpuUsage", agg) for agg in ("avg", "sum")),
    ]
    assert {value for each in answer["series"] for _, value in each["points"]} == {None}
    assert all(each["points"] == [] for each in (await ask(api, "fields=utilization"))["series"])


async def test_groups_of_every_kind(api: Api, fleet: Fleet) -> None:
    """Nodes, devices (one for both of its models), models, roles (a node in each of its own), orgs."""

    async def grouped(by: str, **caller: Any) -> dict[str, list[float]]:
        found = values(await ask(api, f"interval=1h&fields=utilization&groupBy={by}", **caller))
        return {name: each for (name, _), each in found.items()}

    def of(*places: int, device: str | None = None, model: str | None = None) -> Any:
        chosen = [
            measured
            for (place, its_device, its_model), measured in fleet.utilization.items()
            if place in places and device in (None, its_device) and model in (None, its_model)
        ]
        return pytest.approx(average(chosen), abs=1e-4)

    ids = fleet.ids
    assert await grouped("node") == {ids[place]: of(place) for place in range(3)}
    assert await grouped("gpu") == {
        f"{ids[place]}/{device}": of(place, device=device) for place in range(3) for device in ("GPU-a", "GPU-b")
    }
    assert await grouped("gpuModel") == {model: of(0, 1, 2, model=model) for model in ("A100", "H100", "unknown")}
    assert await grouped("role") == {"worker": of(0, 1), "proxy": of(1, 2)}
    assert await grouped("org") == {ORG: of(0, 1), OTHER_ORG: of(2)}
    assert await grouped("node", role=CallerRole.VIEWER, org=ORG) == {ids[place]: of(place) for place in range(2)}
    assert await grouped("gpuModel", role=CallerRole.VIEWER, org=OTHER_ORG) == {
        model: of(2, model=model) for model in ("A100", "H100", "unknown")
    }


async def test_the_top_groups_come_first(api: Api, fleet: Fleet) -> None:
    """By a measure over the whole range, whatever the interval; asc is the least first."""

    async def ranked(query: str) -> list[str]:
        answer = await ask(api, f"fields=utilization&{query}")
        return ["/".join(each[name] for name in ("nodeId", "deviceId") if name in each) for each in answer["series"]]

    assert await ranked("groupBy=node&top=2&interval=1h") == [fleet.ids[2], fleet.ids[1]]
    assert await ranked("groupBy=node&top=2&orderBy=utilization:asc") == [fleet.ids[0], fleet.ids[1]]
    assert await ranked("groupBy=gpu&top=1&agg=max&orderBy=utilization:max&interval=1d") == [f"{fleet.ids[2]}/GPU-a"]
    assert await ranked("groupBy=node&top=1&agg=p95&interval=1h") == [fleet.ids[2]]
    assert await ranked("groupBy=node&top=1&agg=sum&interval=1h") == [fleet.ids[2]]


async def test_the_top_groups_by_a_counter(api: Api, fleet: Fleet) -> None:
    """How much it grew over the whole range, restarts included; or its rate."""

    async def ranked(query: str) -> list[str]:
        answer = await ask(api, f"fields=networkBytesIn&groupBy=node&interval=1h&{query}")
        return list(dict.fromkeys(each["nodeId"] for each in answer["series"]))

    # The first grew by 49,000, and by 390 since it started anew; the others by 89,000.
    assert (await ranked("agg=increase&top=3&orderBy=networkBytesIn:increase:asc"))[0] == fleet.ids[0]
    assert sorted(await ranked("agg=increase&top=2")) == sorted(fleet.ids[1:])
    assert sorted(await ranked("agg=rate&top=2")) == sorted(fleet.ids[1:])


@pytest.fixture
async def cards(api: Api, database: Database, engine: StorageEngine) -> dict[str, list[float]]:
    """Four nodes with two cards of 24 GB, 12 in use, and one with two of 80 GB, 70 in use; what is used, by node."""
    async with database.transaction() as connection:
        await engine.make_room(connection, [BEGIN.date(), START.date()])
    rows: list[dict[str, Any]] = []
    used: dict[str, list[float]] = {}
    for place in range(5):
        id_ = str((await api("POST", "/nodes", {"name": f"n{place}", "role": ["worker"]}, org=ORG)).json()["_id"])
        total, value = (80_000, 70_000) if place == 4 else (24_000, 12_000)
        async with database.transaction() as connection:
            key = await connection.scalar(text("SELECT node_key FROM nodes WHERE id = :id"), {"id": id_})
            for gpu in (1, 2):
                row = {"node_key": key, "gpu": gpu, "device_id": f"GPU-{gpu}", "model": "H100", "memory_total": total}
                await connection.execute(insert(tables.gpus).values(row | {"first_seen": START, "last_seen": START}))
        rows += [
            {"node_key": key, "gpu": gpu, "time": time, "memory_total": total, "memory_used": value}
            for time in (BEGIN + timedelta(minutes=4 * tick) for tick in range(90))
            for gpu in (1, 2)
        ]
        used[id_] = [value / 1000] * 180
    async with database.transaction() as connection:
        await connection.execute(insert(tables.gpu_metrics), rows)
    await roll_up(database, engine, START - timedelta(minutes=72), {(row["node_key"], row["time"]) for row in rows})
    return used


@pytest.mark.parametrize("interval", ["1h", "6h"])
async def test_percentiles_of_sizes_heed_how_large_each_whole_is(
    api: Api, cards: dict[str, list[float]], interval: str
) -> None:
    """Half of 24 GB and half of 80 are not the same; off by a bucket of the largest at most. Rolled up or not."""
    every = [value for measured in cards.values() for value in measured]
    for group_by in ("none", "node", "org", "role", "gpuModel", "gpu"):
        answer = await ask(api, f"interval={interval}&fields=memoryUsed&agg=p50,p99&groupBy={group_by}")
        assert answer["source"] == "gpu_metrics_1h"
        assert answer["series"]
        for each in answer["series"]:
            measured = sorted(cards[each["nodeId"]] if "nodeId" in each else every)
            expected = measured[len(measured) // 2] if each["agg"] == "p50" else measured[-1]
            found = [value for _, value in each["points"]]
            assert len(found) == {"1h": 6, "6h": 1}[interval]
            assert found == pytest.approx([expected] * len(found), abs=80 / 20)
    top = await ask(api, "fields=memoryUsed&agg=p50&groupBy=node&top=1")
    assert top["series"][0]["nodeId"] == list(cards)[-1]


async def test_too_many_points_in_all_are_told_with_what_would_do(
    database: Database, fleet: Fleet, clock: FakeClock
) -> None:
    """Those that a fill would add count, too; auto heeds how many groups there are."""
    history = FleetHistory(database, clock, query_timeout_ms=30_000, kept={}, limits=Limits(10_000, 100))
    admin = Caller("admin", CallerRole.ADMIN, Owner())

    async def read(hours: int, **parameters: str) -> SeriesFound:
        asked = {"from": f"now-{hours}h", "fields": "utilization", "groupBy": "node"} | parameters
        return await history.read(admin, list(asked.items()))

    with pytest.raises(InvalidRequest, match="5m gives more than 100 points in all: interval=15m would do"):
        await read(6, interval="5m")
    assert (await read(6)).interval is Interval.QUARTER_HOUR
    assert (await read(6, top="1")).interval is Interval.FIVE_MINUTES
    assert sum(len(each.times) for each in (await read(30, interval="15m")).series) < 100
    with pytest.raises(InvalidRequest, match="15m gives more than 100 points in all: interval=1h would do"):
        await read(30, interval="15m", fill="null")
    with pytest.raises(InvalidRequest, match="in all: ask for a shorter range, fewer fields, or the top groups"):
        await read(24 * 100, interval="1d", fill="null")


async def test_counters_of_all_nodes_add_up(api: Api, fleet: Fleet) -> None:
    """Restarts included; a rate is that of each node, added up."""
    answer = await ask(api, "interval=15m&fields=networkBytesIn&agg=increase,rate")
    assert answer["source"] == "node_metrics_5m" or answer["source"] == "node_metrics"
    expected: dict[datetime, int] = defaultdict(int)
    for measured in fleet.received.values():
        before = None
        for time, value in sorted(measured.items()):
            if before is not None:
                expected[time - timedelta(minutes=time.minute % 15)] += value - before if value >= before else value
            before = value
    found = values(answer)
    assert found["", "increase"] == [expected[time] for time in sorted(expected)]
    assert found["", "rate"][0] == pytest.approx(3 * 1000 / 240, abs=1e-3)


async def test_rates_heed_when_what_is_rolled_up_was_read(api: Api, fleet: Fleet) -> None:
    """Also in the hour in which rolling up has come to its edge: what lies behind it is told by samples."""
    answer = await ask(api, "interval=1h&fields=networkBytesIn&agg=rate&groupBy=node")
    (rates,) = [each["points"] for each in answer["series"] if each["nodeId"] == fleet.ids[2]]
    assert [rate for _, rate in rates] == pytest.approx([1000 / 240] * 6, rel=0.04)


async def test_a_counter_that_starts_anew_near_its_end_is_no_error(
    api: Api, database: Database, engine: StorageEngine
) -> None:
    """What it had reached and what it has reached since may be more than a bigint holds."""
    async with database.transaction() as connection:
        await engine.make_room(connection, [BEGIN.date(), START.date()])
    id_ = (await api("POST", "/nodes", {"name": "n", "role": ["worker"]}, org=ORG)).json()["_id"]
    most = 2**63 - 1025
    async with database.transaction() as connection:
        key = await connection.scalar(text("SELECT node_key FROM nodes WHERE id = :id"), {"id": id_})
        rows = [
            {"node_key": key, "time": BEGIN + timedelta(minutes=minute), "network_bytes_in": value}
            for minute, value in ((0, 5), (5, 3), (6, most), (7, most - 1))
        ]
        await connection.execute(insert(tables.node_metrics), rows)
    await roll_up(database, engine, BEGIN + timedelta(hours=1), {(key, row["time"]) for row in rows})
    answer = await ask(api, "interval=1h&fields=networkBytesIn&agg=increase")
    assert values(answer)["", "increase"] == [most - 5 + most - 1]


async def test_percentiles_of_what_has_no_histogram_leave_the_rest_to_rollups(api: Api, fleet: Fleet) -> None:
    """Only samples tell how much memory 95 % of GPUs have; nothing else is read from them for that."""
    answer = await ask(api, "interval=1h&fields=memoryTotal,utilization&agg=p95,avg&groupBy=gpuModel")
    assert answer["source"] == "gpu_metrics_1h"
    assert [(each["group"], each["field"], each["agg"]) for each in answer["series"]] == [
        (model, field, agg)
        for model in ("A100", "H100", "unknown")
        for field in ("memoryTotal", "utilization")
        for agg in ("p95", "avg")
    ]
    alone = await ask(api, "interval=1h&fields=utilization&agg=p95,avg&groupBy=gpuModel")
    assert [each for each in answer["series"] if each["field"] == "utilization"] == alone["series"]
    of_memory = {value for each in answer["series"] if each["field"] == "memoryTotal" for _, value in each["points"]}
    assert of_memory == {80}


async def test_nodes_have_fields_of_their_own(api: Api, fleet: Fleet) -> None:
    """Beside those of GPUs; a name that both have is a GPU's, unless the question is of nodes."""
    answer = await ask(api, "interval=6h&fields=cpuUsage,utilization")
    assert [each["field"] for each in answer["series"]] == ["cpuUsage", "utilization"]
    assert (await ask(api, "interval=6h&fields=memoryUsed"))["source"].startswith("gpu_metrics")
    assert (await ask(api, "interval=6h&fields=memoryUsed&of=node"))["source"].startswith("node_metrics")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("interval=raw", "interval"),
        ("groupBy=device", "groupBy"),
        ("groupBy=gpuModel&fields=cpuUsage", "groupBy"),
        ("top=3", "top"),
        ("top=0&groupBy=node", "top"),
        ("orderBy=utilization&groupBy=node", "orderBy"),
        ("top=3&groupBy=node&fields=utilization&orderBy=temperature", "orderBy"),
        ("fields=gpuUsage", "fields"),
        ("of=rack", "of"),
        ("deviceId=GPU-a", "deviceId"),
        ("interval=1m&from=now-400d", "interval"),
        ("interval=1d&tz=Europe/Berlin&from=0001-01-02T00:00:00Z", "from"),
        ("interval=1d&tz=Europe/Berlin&from=1801-01-02T00:00:00Z&to=2001-01-01T00:00:00Z&format=csv", "from"),
        ("interval=1d&tz=Asia/Tokyo&from=9998-12-30T00:00:00Z&to=9999-12-31T23:00:00Z", "to"),
        ("interval=1d&tz=America/New_York&from=0001-01-01T00:00:00Z&to=0001-01-03T00:00:00Z", "from"),
        ("orgId=", "orgId"),
        (f"orgId={'x' * 257}", "orgId"),
    ],
)
async def test_what_does_not_fit_is_named(api: Api, query: str, field: str) -> None:
    """400, and a sentence about the parameter."""
    answer = await api("GET", f"/fleet/metrics?{query}", role=CallerRole.ADMIN, org=None)
    assert answer.status_code == 400
    assert [each["field"] for each in answer.json()["details"]] == [field]


async def test_orgs_are_compared_by_admins_alone(api: Api) -> None:
    """Others: 403; and 400 for another org's nodes."""
    assert (await api("GET", "/fleet/metrics?groupBy=org", role=CallerRole.VIEWER)).status_code == 403
    assert (await api("GET", f"/fleet/metrics?orgId={OTHER_ORG}", role=CallerRole.VIEWER)).status_code == 400
