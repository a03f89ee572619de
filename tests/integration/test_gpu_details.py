"""Details of GPUs, of the extension gpuDetails: stored beside metrics, read by API and SQL, free for who has none."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from app.clock import timestamp
from app.domain.questions import GPU_DETAIL_HISTORY
from app.meters import ROWS
from app.model import GpuDetails
from app.quantities import GPU_DETAIL_FIELDS
from app.storage import samples, tables
from app.storage.arrivals import Arrival, Outcome
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.packing import pack
from tests.fakes import START, FakeClock
from tests.frames import DETAILS, metrics, register
from tests.integration.gateway import running_gateway
from tests.integration.test_history import (
    COUNTED,
    GPUS,
    INTERVALS,
    RANGES,
    Node,
    Samples,
    answer,
    api,
    check_devices,
    gathered,
    make_node,
    node,
    on_a_database,
    points_of,
    sample_sets,
    written,
)
from tests.integration.test_ingest import count, running, send
from tests.integration.test_ingest import make_node as make_bare_node
from tests.integration.test_ingest import metrics as measured

__all__ = ["node"]

VALUES = (1410, 1593, 1045, 12_000_000, 3_400_000, 123_456_789, 3, 0, "power_cap,sw_thermal")


def detailed(node_key: int, *gpus: int, seconds: float = 0) -> Arrival:
    """Metrics of two GPUs, with the details of those at these places."""
    arrival = measured(node_key, seconds)
    assert arrival.sample is not None
    sample = type(arrival.sample)(
        arrival.sample.kind,
        arrival.sample.time,
        arrival.sample.values,
        arrival.sample.gpus,
        tuple(GpuDetails(gpu, VALUES) for gpu in gpus),
    )
    return Arrival(node_key, 1, START, arrival.kind, sample, arrival.gpus)


async def details(database: Database) -> list[tuple[Any, ...]]:
    async with database.transaction() as connection:
        found = await connection.execute(text("SELECT * FROM gpu_details ORDER BY time, gpu"))
        return [tuple(row) for row in found]


async def test_details_are_stored_with_their_sample(
    database: Database, engine: StorageEngine, clock: FakeClock
) -> None:
    """Whole, for those GPUs that have any; a sample without has no row, and each row is counted."""
    key = await make_bare_node(database)
    async with running(database, engine, clock) as ingest:
        fates = await send(ingest, detailed(key, 1), detailed(key, 0, 1, seconds=60), measured(key, 120))
        rows = ingest._meters.counts[ROWS.key(table="gpu_details")]
    assert (fates, rows) == ([Outcome.STORED] * 3, 3)
    later = START + timedelta(seconds=60)
    assert await details(database) == [(key, 2, START, *VALUES), (key, 1, later, *VALUES), (key, 2, later, *VALUES)]


async def test_details_sent_again_are_stored_once(database: Database, engine: StorageEngine, clock: FakeClock) -> None:
    """A replay is a duplicate; one that brings details to a sample without is partly new, and stored."""
    key = await make_bare_node(database)
    async with running(database, engine, clock) as ingest:
        await send(ingest, measured(key))
        assert await send(ingest, detailed(key, 0)) == [Outcome.STORED]
        fates = await send(ingest, detailed(key, 0), detailed(key, 0, seconds=60), detailed(key, 0, seconds=60))
    assert fates == [Outcome.DUPLICATE, Outcome.STORED, Outcome.DUPLICATE]
    assert len(await details(database)) == 2
    assert await count(database, "gpu_metrics") == 4


def test_a_batch_without_details_does_not_name_their_table() -> None:
    """Who tells none has no statement more than before."""
    names = [target.name for target, _ in samples._encoded([pack(measured(1))])]
    assert names == ["node_metrics", "gpu_metrics"]


@on_a_database
@given(
    samples=st.fixed_dictionaries({gpu: sample_sets(GPU_DETAIL_FIELDS) for gpu in GPUS}),
    interval=INTERVALS,
    bounds=RANGES,
)
async def test_details_are_what_was_measured(
    node: Node, samples: dict[int, Samples], interval: str, bounds: list[datetime]
) -> None:
    """Every number by every aggregate, throttling by its last; a device that had two models has one series."""
    await check_devices(node, GPU_DETAIL_HISTORY, samples, interval, bounds)


@on_a_database
@given(of_a=COUNTED, of_b=COUNTED, swapped_at=st.integers(0, 15), interval=st.sampled_from(["raw", "1m", "15m"]))
async def test_counters_grow_of_each_device(
    node: Node, of_a: dict[datetime, int], of_b: dict[datetime, int], swapped_at: int, interval: str
) -> None:
    """By themselves, over a driver that was loaded again, and over a device's new number."""
    fresh = await make_node(node.database, node.engine)
    swap = START + timedelta(minutes=swapped_at)
    rows = {time: (*(None,) * 5, value, *(None,) * 3) for time, value in of_a.items()}
    await fresh.insert(tables.gpu_details, {time: it for time, it in rows.items() if time < swap}, 1)
    await fresh.insert(tables.gpu_details, {time: it for time, it in rows.items() if time >= swap}, 3)
    await fresh.insert(tables.gpu_details, {time: (*(None,) * 5, it, *(None,) * 3) for time, it in of_b.items()}, 2)
    start, end = START, START + timedelta(minutes=15)
    asked = {"start": start.isoformat(), "end": end.isoformat(), "interval": interval, "fields": "energy"}
    found = points_of(await answer(fresh, GPU_DETAIL_HISTORY, **asked, agg="rate,increase"))
    for device, counted in (("GPU-a", of_a), ("GPU-b", of_b)):
        expected: dict[str, tuple[int, float]] = {}
        for (before, low), (time, high) in pairwise(sorted(counted.items())):
            if start <= time < end and before >= start - timedelta(hours=1):
                bucket = next(iter(gathered(GPU_DETAIL_FIELDS[:1], [(time, (1,))], interval, start, end)))[1]
                growth, took = expected.get(written(bucket), (0, 0.0))
                grown = high - low if high >= low else high
                expected[written(bucket)] = (growth + grown, took + (time - before).total_seconds())
        increase, rate = (dict(found.get((device, "energy", agg), [])) for agg in ("increase", "rate"))
        assert increase == {time: growth for time, (growth, _) in expected.items()}
        assert rate == {time: pytest.approx(growth / took, abs=1e-4) for time, (growth, took) in expected.items()}


async def test_a_device_that_is_asked_for_has_its_series(node: Node) -> None:
    """Also of nothing, and of counters too."""
    found = points_of(await answer(node, GPU_DETAIL_HISTORY, deviceId="GPU-b", fields="energy", agg="last,increase"))
    assert found == {("GPU-b", "energy", "last"): [], ("GPU-b", "energy", "increase"): []}


async def test_details_over_http(node: Node) -> None:
    """The contract's shape, in JSON and as a table."""
    await node.insert(tables.gpu_details, {START - timedelta(minutes=1): VALUES}, 2)
    async with api(node.database) as client:
        found = await client.get(f"/nodes/{node.id}/gpus/details", params={"fields": "fanSpeed,throttleReasons"})
        time = "2026-11-23T11:59:00.000Z"
        assert found.json() == {
            "from": "2026-11-23T11:00:00.000Z",
            "to": "2026-11-23T12:00:00.000Z",
            "interval": "1m",
            "source": "gpu_details",
            "series": [
                {"deviceId": "GPU-b", "field": "fanSpeed", "agg": "avg", "points": [[time, 104.5]]},
                {
                    "deviceId": "GPU-b",
                    "field": "throttleReasons",
                    "agg": "last",
                    "points": [[time, "power_cap,sw_thermal"]],
                },
            ],
        }
        asked = {"interval": "raw", "format": "csv", "fields": "smClock,fanSpeed,throttleReasons"}
        lines = (await client.get(f"/nodes/{node.id}/gpus/details", params=asked)).text.splitlines()
        assert (
            lines[0]
            == '"time","node_id","node_name","org_id","device_id","gpu_model","sm_clock","fan_speed","throttle_reasons"'
        )
        assert lines[1].endswith('"GPU-b","A100",1410,104.5,"power_cap,sw_thermal"')
        wrong = await client.get(f"/nodes/{node.id}/gpus/details", params={"fields": "throttleReasons", "agg": "avg"})
        assert wrong.status_code == 400


async def test_workers_with_and_without_details(database: Database, clock: FakeClock) -> None:
    """Over a socket: one that uses the extension reads its details back; the document's own has none, and no warning."""
    async with running_gateway(database, clock) as gateway:
        node_id = await gateway.create_node()
        async with gateway.worker(await gateway.make_token(node_id)) as worker:
            await worker.receive()
            info = (await worker.ask(register()))["data"]["controllerInfo"]
            assert info["extensions"] == ["gpuDetails", "gpuEvents", "tokenRenewal"]
            plain = await worker.ask(metrics(timestamp(clock.now()), ack=True))
            assert plain["data"] == {"ackFor": metrics()["messageId"], "status": "stored"}
            path = f"/nodes/{node_id}/gpus/details?to=2026-11-23T12:10:00Z"
            assert (await gateway.http.get(path)).json()["series"] == []
            clock.advance(30)
            frame = metrics(timestamp(clock.now()), ack=True)
            frame["data"]["gpus"][0] |= DETAILS
            assert (await worker.ask(frame))["data"]["status"] == "stored"
        shown = (await gateway.http.get(f"{path}&interval=raw")).json()["series"]
    told = DETAILS | {"throttleReasons": "power_cap,sw_thermal"}
    assert {each["field"]: each["points"][0][1] for each in shown} == told


async def test_details_in_sql_are_in_units(database: Database, engine: StorageEngine, clock: FakeClock) -> None:
    """With whose they are."""
    key = await make_bare_node(database)
    async with running(database, engine, clock) as ingest:
        await send(ingest, detailed(key, 0))
    async with database.transaction() as connection:
        row = (await connection.execute(text("SELECT * FROM history.gpu_details"))).mappings().one()
    assert (row["time"], row["device_id"], row["gpu_model"]) == (START, "GPU-1", "A100")
    assert tuple(row[field.column] for field in GPU_DETAIL_FIELDS) == (1410, 1593, 104.5, *VALUES[3:])
