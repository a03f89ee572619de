"""Answers from the sample tables, held against a plain computation over what was put in."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import msgspec
import pytest
from httpx import ASGITransport, AsyncClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar import Litestar
from litestar.di import Provide
from sqlalchemy import Table, func, insert, select, update

from app.domain.history import History
from app.domain.plans import MAX_POINTS_A_SERIES
from app.domain.questions import GPU_HISTORY, HEARTBEAT_HISTORY, NODE_HISTORY, Subject
from app.domain.ranges import WIDTHS, Interval
from app.errors import StorageUnavailable
from app.model import Caller, CallerRole, Owner
from app.quantities import GPU_HEARTBEAT_FIELDS, GPU_METRIC_FIELDS, HEARTBEAT_FIELDS, NODE_METRIC_FIELDS, Field
from app.rest.errors import EXCEPTION_HANDLERS
from app.rest.history import HistoryAnswer, HistoryController
from app.storage import tables
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.history import reading
from app.storage.statements import compiled
from tests.databases import WITH_TIMERS
from tests.fakes import START, FakeClock
from tests.integration.rolling_up import roll_up

ORG = "68dd05b175d9e3c17bf97f60"
CALLER = Caller("user", CallerRole.VIEWER, Owner(org_id=ORG))
DAYS = [date(2026, 11, 22), date(2026, 11, 23)]
Cards = dict[int, tuple[str, str]]
GPUS: Cards = {1: ("GPU-a", "A100"), 2: ("GPU-b", "A100"), 3: ("GPU-a", "H100")}
"""GPU-a had two models: two numbers, one series."""
PLAIN_GPUS: Cards = {1: ("GPU-a", "A100"), 2: ("GPU-b", "A100")}
"""A number for each: a row of a rollup is a point of its series."""
CARDS = st.sampled_from([GPUS, PLAIN_GPUS])

_ids = count(1)

Values = tuple[Any, ...]
Samples = Mapping[datetime, Values]
Key = tuple[str | None, str, str]


class Node:
    """A node in the database; `id` is its `_id`."""

    def __init__(self, database: Database, engine: StorageEngine, key: int, id_: str) -> None:
        self.database = database
        self.engine = engine
        self.key = key
        self.id = id_
        self.times: set[datetime] = set()

    async def insert(self, table: Table, samples: Samples, gpu: int | None = None) -> None:
        """Put samples into a table; values in steps, in the order of its columns."""
        columns = [column.name for column in table.c if column.name not in {"node_key", "gpu", "time"}]
        place = {"node_key": self.key} | ({} if gpu is None else {"gpu": gpu})
        rows = [place | {"time": time} | dict(zip(columns, values, strict=True)) for time, values in samples.items()]
        if rows:
            async with self.database.transaction() as connection:
                await connection.execute(insert(table), rows)
        self.times |= samples.keys()

    async def roll_up(self, until: datetime) -> None:
        """Everything before a moment; what comes after it is in no rollup yet."""
        await roll_up(self.database, self.engine, until, ((self.key, time) for time in self.times))


@pytest.fixture
async def node(database: Database, engine: StorageEngine) -> Node:
    """A node with two devices, three numbers."""
    async with database.transaction() as connection:
        await engine.make_room(connection, DAYS)
    return await make_node(database, engine)


async def make_node(database: Database, engine: StorageEngine, cards: Cards = GPUS) -> Node:
    id_ = f"{next(_ids):024x}"
    about = {"name": "n", "role": ["worker"], "is_local": False, "created_by": "me", "org_id": ORG}
    async with database.transaction() as connection:
        row = about | {"id": id_, "created_at": START, "updated_at": START}
        key = (
            await connection.execute(insert(tables.nodes).values(row).returning(tables.nodes.c.node_key))
        ).scalar_one()
        for gpu, (device, model) in cards.items():
            named = {"node_key": key, "gpu": gpu, "device_id": device, "model": model}
            await connection.execute(insert(tables.gpus).values(named | {"first_seen": START, "last_seen": START}))
    return Node(database, engine, int(key), id_)


def service(database: Database, **options: int) -> History:
    return History(database, FakeClock(), query_timeout_ms=options.get("query_timeout_ms", 10_000), kept={})


async def answer(node: Node, subject: Subject, **parameters: str) -> dict[str, Any]:
    """The JSON answer; `start` and `end` stand for from and to."""
    names = {"start": "from", "end": "to"}
    pairs = [(names.get(name, name), text) for name, text in parameters.items()]
    found = await service(node.database).read(subject, CALLER, node.id, pairs)
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(HistoryAnswer.of(found)))
    return decoded


def points_of(answered: dict[str, Any]) -> dict[Key, list[Any]]:
    """Points by device, field and aggregate."""
    found = {
        (series.get("deviceId"), series["field"], series["agg"]): series["points"] for series in answered["series"]
    }
    assert len(found) == len(answered["series"])
    return found


# ----- the plain computation -----

AGGREGATES: dict[str, Callable[[list[Any]], Any]] = {
    "avg": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
    "sum": sum,
    "count": len,
    "last": lambda values: values[-1],
}


def computed(
    fields: Sequence[Field], samples: list[tuple[datetime, Values]], interval: str, start: datetime, end: datetime
) -> dict[tuple[str, str], list[Any]]:
    """Points of every field by every aggregate that fits, from samples in steps."""
    buckets = gathered(fields, samples, interval, start, end)
    return {
        (field.name, name): [
            [written(bucket), in_units(field, name, AGGREGATES[name](values))]
            for (of, bucket), values in buckets.items()
            if of == field.name
        ]
        for field in fields
        for name in (AGGREGATES if field.quantity else ("count", "last"))
    }


def gathered(
    fields: Sequence[Field], samples: list[tuple[datetime, Values]], interval: str, start: datetime, end: datetime
) -> dict[tuple[str, datetime], list[Any]]:
    """The values of each field's buckets, in the order of time."""
    width = WIDTHS.get(Interval(interval))
    buckets: dict[tuple[str, datetime], list[Any]] = defaultdict(list)
    for time, values in sorted(samples, key=lambda sample: sample[0]):
        midnight = time.replace(hour=0, minute=0, second=0, microsecond=0)
        bucket = time if width is None else midnight + (time - midnight) // width * width
        for field, value in zip(fields, values, strict=True):
            if start <= time < end and value is not None:
                buckets[field.name, bucket].append(value)
    return buckets


def in_units(field: Field, aggregate: str, value: Any) -> Any:
    """Whole numbers stay whole, whatever their size."""
    steps = field.quantity.steps_per_unit if field.quantity else 1
    return value if steps == 1 or aggregate == "count" else value / steps


def written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


def assert_same(found: dict[Key, list[Any]], device: str | None, expected: dict[tuple[str, str], list[Any]]) -> None:
    """The same points; averages to four decimals, the rest exactly."""
    for (field, agg), points in expected.items():
        given_points = found.get((device, field, agg), [])
        assert [time for time, _ in given_points] == [time for time, _ in points]
        for (_, value), (_, right) in zip(given_points, points, strict=True):
            if agg == "avg":
                assert abs(value - right) <= 0.5001e-4 + abs(right) * 1e-15
                assert value == round(value, 4)
            else:
                assert value == right


ROLLED = START - timedelta(minutes=4)
"""Between the samples of most examples: a part of an hour comes from five minutes, a part of those from samples."""
FIRST, LAST = START - timedelta(hours=30), START + timedelta(hours=6)
TICKS = st.integers(-60, 60).map(lambda tick: START + timedelta(seconds=10 * tick))  # often where a bucket starts
MOMENTS = st.one_of(
    TICKS,
    TICKS.map(lambda moment: moment - timedelta(milliseconds=1)),
    st.integers(0, 36 * 3_600_000).map(lambda milliseconds: FIRST + timedelta(milliseconds=milliseconds)),
)
INTERVALS = st.sampled_from(["raw", "1m", "5m", "15m", "1h", "6h", "1d"])
RANGES = st.just([FIRST, LAST]) | st.lists(MOMENTS, min_size=2, max_size=2, unique=True).map(sorted)


def steps(field: Field) -> st.SearchStrategy[Any]:
    if field.quantity is None:
        return st.sampled_from([None, "online", "maintenance"])
    scale, quantity = field.quantity.steps_per_unit, field.quantity
    low, high = int(quantity.low * scale), int(quantity.high * scale)
    return st.sampled_from([None, low, high]) | st.integers(low, high) | st.integers(max(low, 0), min(high, 1000))


def sample_sets(fields: Sequence[Field]) -> st.SearchStrategy[Samples]:
    return st.dictionaries(MOMENTS, st.tuples(*(steps(field) for field in fields)), max_size=12)


on_a_database = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
EVERY = ",".join(AGGREGATES)


@on_a_database
@given(samples=sample_sets(NODE_METRIC_FIELDS), interval=INTERVALS, bounds=RANGES)
async def test_node_metrics_are_what_was_measured(
    node: Node, samples: Samples, interval: str, bounds: list[datetime]
) -> None:
    """Every field by every aggregate: gaps, nulls, values up to the largest, irregular times."""
    fresh = await make_node(node.database, node.engine)
    await fresh.insert(tables.node_metrics, samples)
    await fresh.roll_up(ROLLED)
    start, end = bounds
    answered = await answer(
        fresh, NODE_HISTORY, start=start.isoformat(), end=end.isoformat(), interval=interval, agg=EVERY
    )
    about = {"from": written(start), "to": written(end), "interval": interval}
    assert {name: answered[name] for name in about} == about
    assert interval != "raw" or answered["source"] == "node_metrics"
    expected = computed(NODE_METRIC_FIELDS, list(samples.items()), interval, start, end)
    assert_same(points_of(answered), None, expected)
    assert len(answered["series"]) == len(expected)


@on_a_database
@given(
    samples=st.fixed_dictionaries({gpu: sample_sets(GPU_METRIC_FIELDS) for gpu in GPUS}),
    cards=CARDS,
    interval=INTERVALS,
    bounds=RANGES,
)
async def test_gpu_metrics_are_what_was_measured(
    node: Node, samples: dict[int, Samples], cards: Cards, interval: str, bounds: list[datetime]
) -> None:
    """By device: what a device measured as one model and as another is one series."""
    await check_devices(node, GPU_HISTORY, samples, interval, bounds, cards)


async def check_devices(
    node: Node,
    subject: Subject,
    samples: dict[int, Samples],
    interval: str,
    bounds: list[datetime],
    cards: Cards = GPUS,
) -> None:
    """Put samples of GPUs in, and hold the answer for each device against what is computed."""
    ((table, fields, _),) = subject.sources
    fresh = await make_node(node.database, node.engine, cards)
    of_device: dict[str, dict[datetime, Values]] = {"GPU-a": {}, "GPU-b": {}}
    for gpu in cards:
        last = max(of_device[cards[gpu][0]], default=FIRST - timedelta(days=1))  # a device has one model at a time
        new = {time: values for time, values in samples[gpu].items() if time > last}
        of_device[cards[gpu][0]] |= new
        await fresh.insert(table, new, gpu)
    await fresh.roll_up(ROLLED)
    start, end = bounds
    asked = {"start": start.isoformat(), "end": end.isoformat(), "interval": interval, "agg": EVERY}
    found = points_of(await answer(fresh, subject, **asked))
    for device, measured in of_device.items():
        expected = computed(fields, list(measured.items()), interval, start, end)
        assert_same(found, device, expected)
        only = points_of(await answer(fresh, subject, **asked, deviceId=device))
        assert_same(only, device, expected)
        assert len(only) == len(expected)
    assert {device for device, _, _ in found} == {
        device for device, measured in of_device.items() if any(start <= time < end for time in measured)
    }


@on_a_database
@given(
    beats=sample_sets(HEARTBEAT_FIELDS), gpu_beats=sample_sets(GPU_HEARTBEAT_FIELDS), interval=INTERVALS, bounds=RANGES
)
async def test_heartbeats_are_what_was_measured(
    node: Node, beats: Samples, gpu_beats: Samples, interval: str, bounds: list[datetime]
) -> None:
    """The node's values, its status among them, and each device's beside them."""
    fresh = await make_node(node.database, node.engine)
    await fresh.insert(tables.heartbeats, beats)
    await fresh.insert(tables.gpu_heartbeats, gpu_beats, 2)
    start, end = bounds
    asked = {"start": start.isoformat(), "end": end.isoformat(), "interval": interval}
    answered = await answer(fresh, HEARTBEAT_HISTORY, **asked, agg="count,last", fields="status,utilization")
    assert answered["source"] == "heartbeats"
    found = points_of(answered)
    numbers = ",".join(field.name for field in (*HEARTBEAT_FIELDS, *GPU_HEARTBEAT_FIELDS) if field.quantity)
    found |= points_of(await answer(fresh, HEARTBEAT_HISTORY, **asked, agg=EVERY, fields=numbers))
    assert_same(found, None, computed(HEARTBEAT_FIELDS, list(beats.items()), interval, start, end))
    assert_same(found, "GPU-b", computed(GPU_HEARTBEAT_FIELDS, list(gpu_beats.items()), interval, start, end))


def in_scale(field: Field) -> st.SearchStrategy[Any]:
    """Values as machines have them: of 80 GB, under 100 °C, under 1,600 W."""
    if field.column.endswith("_total"):
        return st.just(80_000)
    if field.scale is None or field.quantity is None:
        return st.just(1)
    top = 80_000 if field.total else int(field.scale.high * field.quantity.steps_per_unit)
    return st.none() | st.integers(0, top)


PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@on_a_database
@given(
    samples=st.dictionaries(MOMENTS, st.tuples(*(in_scale(field) for field in GPU_METRIC_FIELDS)), max_size=40),
    cards=CARDS,
    interval=INTERVALS,
    bounds=RANGES,
)
async def test_percentiles_are_exact_or_off_by_a_bucket(
    node: Node, samples: Samples, cards: Cards, interval: str, bounds: list[datetime]
) -> None:
    """Below an hour to the resolution of samples; from there on off by one bucket of the histogram at most."""
    fresh = await make_node(node.database, node.engine, cards)
    await fresh.insert(tables.gpu_metrics, samples, 1)
    await fresh.roll_up(ROLLED)
    start, end = bounds
    fields = [field for field in GPU_METRIC_FIELDS if field.scale]
    asked = {"start": start.isoformat(), "end": end.isoformat(), "interval": interval}
    names = ",".join(field.name for field in fields)
    found = points_of(await answer(fresh, GPU_HISTORY, **asked, fields=names, agg=",".join(PERCENTILES)))
    buckets = gathered(GPU_METRIC_FIELDS, list(samples.items()), interval, start, end)
    for field in fields:
        scale, of_unit = field.scale, field.quantity.steps_per_unit if field.quantity else 1
        bucket_of = (scale.high - scale.low) / scale.buckets * (80 if field.total else 1) if scale else 0
        allowed = bucket_of if interval in ("1h", "6h", "1d") else 0
        for name, share in PERCENTILES.items():
            expected = {
                written(bucket): linear(sorted(values), share) / of_unit
                for (of, bucket), values in buckets.items()
                if of == field.name
            }
            points = dict(found.get(("GPU-a", field.name, name), []))
            assert points.keys() == expected.keys()
            for time, value in points.items():
                assert abs(value - expected[time]) <= allowed + 1e-4


def linear(values: list[Any], share: float) -> float:
    """The percentile as percentile_cont has it."""
    place = share * (len(values) - 1)
    low, rest = values[int(place)], place - int(place)
    return float(low + (values[min(int(place) + 1, len(values) - 1)] - low) * rest)


COUNTED = st.dictionaries(TICKS, st.integers(0, 10**6), min_size=2, max_size=30)


@on_a_database
@given(samples=COUNTED, interval=st.sampled_from(["raw", "1m", "5m", "15m"]), lateness=st.integers(0, 20))
async def test_counters_grow_across_restarts(
    node: Node, samples: dict[datetime, int], interval: str, lateness: int
) -> None:
    """Whatever a counter falls to was counted since; growth belongs to the later of two samples."""
    fresh = await make_node(node.database, node.engine)
    await fresh.insert(tables.node_metrics, {time: (*(None,) * 11, value, None) for time, value in samples.items()})
    start, end = START - timedelta(seconds=30 * lateness), START + timedelta(minutes=15)
    asked = {"start": start.isoformat(), "end": end.isoformat(), "interval": interval, "fields": "networkBytesIn"}
    found = points_of(await answer(fresh, NODE_HISTORY, **asked, agg="rate,increase"))
    expected: dict[str, tuple[int, float]] = {}
    ordered = sorted(samples.items())
    for (before, low), (time, high) in pairwise(ordered):
        if start <= time < end and before >= start - timedelta(hours=1):
            bucket = next(iter(gathered(NODE_METRIC_FIELDS[:1], [(time, (1,))], interval, start, end)))[1]
            growth, took = expected.get(written(bucket), (0, 0.0))
            expected[written(bucket)] = (
                growth + (high - low if high >= low else high),
                took + (time - before).total_seconds(),
            )
    assert dict(found[None, "networkBytesIn", "increase"]) == {time: growth for time, (growth, _) in expected.items()}
    assert dict(found[None, "networkBytesIn", "rate"]) == {
        time: pytest.approx(growth / took, abs=1e-4) for time, (growth, took) in expected.items()
    }


async def test_counters_of_long_ranges_come_from_the_finest_rollup(node: Node) -> None:
    """A restart within an hour is seen: 100 before it, 30 since."""
    start = START - timedelta(hours=5)
    counted = {0: 1000, 60: 1050, 65: 1100, 70: 30, 130: 90}
    values = {start + timedelta(minutes=minute): (*(None,) * 11, value, None) for minute, value in counted.items()}
    await node.insert(tables.node_metrics, values)
    await node.roll_up(START)
    asked = {"start": start.isoformat(), "end": START.isoformat(), "interval": "1h", "fields": "networkBytesIn"}
    answered = await answer(node, NODE_HISTORY, **asked, agg="increase")
    assert [point[1] for point in answered["series"][0]["points"]] == [0, 130, 60] or [
        point[1] for point in answered["series"][0]["points"]
    ] == [130, 60]


async def test_days_of_a_time_zone_begin_at_its_midnights(node: Node) -> None:
    """The day on which Berlin's clocks go back has 25 hours; Kolkata's midnight is no whole hour."""
    begin = datetime(2026, 10, 24, tzinfo=UTC)
    async with node.database.transaction() as connection:
        await node.engine.make_room(connection, [begin.date() + timedelta(days=day) for day in range(4)])
    hours = {begin + timedelta(minutes=30 * half): half for half in range(4 * 48)}
    await node.insert(tables.gpu_metrics, dict.fromkeys(hours, (10, *((None,) * 5))), 2)
    await node.roll_up(begin + timedelta(days=3, hours=5))
    asked = {"start": begin.isoformat(), "end": (begin + timedelta(days=4)).isoformat(), "interval": "1d"}
    for zone, expected in {
        "Europe/Berlin": [("23T22", 44), ("24T22", 50), ("25T23", 48), ("26T23", 48), ("27T23", 2)],
        "Asia/Kolkata": [("23T18", 37), ("24T18", 48), ("25T18", 48), ("26T18", 48), ("27T18", 11)],
        "UTC": [("24T00", 48), ("25T00", 48), ("26T00", 48), ("27T00", 48)],
    }.items():
        answered = await answer(node, GPU_HISTORY, **asked, tz=zone, agg="count", fields="utilization")
        points = answered["series"][0]["points"]
        assert [(time[8:13], number) for time, number in points] == expected


async def test_days_that_cut_hours_are_there_as_long_as_hours_are(node: Node) -> None:
    """Of what nothing finer is kept, an hour that Kolkata's midnight cuts counts in the day in which it starts."""
    begin = datetime(2026, 10, 24, tzinfo=UTC)
    end = begin + timedelta(days=4)
    async with node.database.transaction() as connection:
        await node.engine.make_room(connection, [begin.date() + timedelta(days=day) for day in range(4)])
    halves = {begin + timedelta(minutes=30 * half): half for half in range(4 * 48)}
    await node.insert(tables.gpu_metrics, dict.fromkeys(halves, (10, *((None,) * 5))), 2)
    await node.roll_up(end)
    kept = {"gpu_metrics": timedelta(days=10), "gpu_metrics_5m": timedelta(days=20), "gpu_metrics_1h": None}
    old = History(node.database, FakeClock(), query_timeout_ms=10_000, kept=kept)
    asked = {"from": begin.isoformat(), "to": end.isoformat(), "interval": "1d", "tz": "Asia/Kolkata"}
    for agg, expected in {"count": [38, 48, 48, 48, 10], "p50": [1] * 5}.items():
        parameters = [*asked.items(), ("fields", "utilization"), ("agg", agg)]
        found = await old.read(GPU_HISTORY, CALLER, node.id, parameters)
        assert found.source == "gpu_metrics_1h"
        assert found.series[0].values == expected
        assert [f"{time:%dT%H:%M}" for time in found.series[0].times] == [f"{day}T18:30" for day in range(23, 28)]


async def test_gaps_are_filled_as_asked(node: Node) -> None:
    """Nothing, null, the last value, or the line between two; never 0."""
    begin = START - timedelta(hours=1)
    await node.insert(
        tables.gpu_metrics,
        {begin + timedelta(minutes=minute): (value, *(None,) * 5) for minute, value in {5: 100, 20: 400}.items()},
        2,
    )
    asked = {"start": begin.isoformat(), "end": (begin + timedelta(minutes=30)).isoformat(), "interval": "5m"}
    for fill, expected in {
        "none": [10, 40],
        "null": [None, 10, None, None, 40, None],
        "locf": [None, 10, 10, 10, 40, 40],
        "linear": [None, 10, 20, 30, 40, None],
    }.items():
        answered = await answer(node, GPU_HISTORY, **asked, fill=fill, fields="utilization")
        assert [value for _, value in answered["series"][0]["points"]] == expected


async def test_the_coarsest_table_serves_what_it_can(node: Node) -> None:
    """And says so; what was not rolled up yet, the samples themselves."""
    async with node.database.transaction() as connection:
        await node.engine.make_room(connection, [START.date() - timedelta(days=day) for day in range(4)])
    hours = [START - timedelta(hours=hour) for hour in range(1, 73)]
    await node.insert(tables.gpu_metrics, dict.fromkeys(hours, (1, 2, 3, 4, 5, 6)), 1)
    await node.roll_up(START)
    for start, interval, source in (
        (timedelta(hours=3), "1m", "gpu_metrics"),
        (timedelta(hours=3), "15m", "gpu_metrics_5m"),
        (timedelta(hours=3), "1h", "gpu_metrics_1h"),
        (timedelta(days=3), "6h", "gpu_metrics_1h"),
        (timedelta(days=3), "1d", "gpu_metrics_1d"),
        (timedelta(hours=0), "1h", "gpu_metrics"),
    ):
        until = START + timedelta(minutes=10)
        asked = {"start": (START - start).isoformat(), "end": until.isoformat(), "interval": interval}
        assert (await answer(node, GPU_HISTORY, **asked))["source"] == source


def seconds(number: int) -> Samples:
    """So many samples of node metrics, one a second, the newest a second ago."""
    values = (452, 32, 550, 256_000, 160_000, 96_000, 625, 2_048_000, 1_024_000, 1_024_000, 500, 1, 2)
    return {START - timedelta(seconds=second): values for second in range(1, number + 1)}


async def test_raw_answer_that_is_too_long_is_refused(node: Node) -> None:
    """What counts are the samples that are there, not those that might be."""
    await node.insert(tables.node_metrics, seconds(MAX_POINTS_A_SERIES))
    asked = {"interval": "raw", "fields": "cpuUsage"}
    full = await answer(node, NODE_HISTORY, **asked, start="now-30d")
    assert len(full["series"][0]["points"]) == MAX_POINTS_A_SERIES
    await node.insert(tables.node_metrics, {START - timedelta(hours=20): (None,) * 13})
    async with api(node.database) as client:
        refused = await client.get(f"/nodes/{node.id}/metrics", params=asked | {"from": "now-30d"})
    assert refused.status_code == 400
    assert refused.json()["details"] == [
        {
            "field": "interval",
            "message": "raw gives more points than the 10,000 that each of 1 series may have: "
            "interval=5m would do (8,640)",
        }
    ]


async def test_raw_limit_holds_for_each_device(node: Node) -> None:
    """One device's samples do not use up another's room, nor may they."""
    values = dict.fromkeys(seconds(MAX_POINTS_A_SERIES + 1), (1, 2, 3, 4, 5, 6))
    await node.insert(tables.gpu_metrics, values, 1)
    async with api(node.database) as client:
        query = {"interval": "raw", "fields": "utilization", "from": "now-12h"}
        assert (await client.get(f"/nodes/{node.id}/gpus/metrics", params=query)).status_code == 400
        query |= {"to": "now-1s"}
        assert (await client.get(f"/nodes/{node.id}/gpus/metrics", params=query)).status_code == 200


@pytest.mark.parametrize("server", WITH_TIMERS, indirect=True)
async def test_query_over_its_time_limit_is_stopped(node: Node) -> None:
    """With a sentence that says so; the next question is answered."""
    started = datetime.now(UTC)
    with pytest.raises(StorageUnavailable, match="time limit of 100 ms"):
        async with reading(node.database, 100) as reader:
            await reader.fetch(compiled(select(func.pg_sleep(30))), {})
    assert datetime.now(UTC) - started < timedelta(seconds=5)
    await answer(node, NODE_HISTORY)


@asynccontextmanager
async def api(database: Database, caller: Caller = CALLER) -> AsyncIterator[AsyncClient]:
    """The endpoints, served in memory to one caller."""
    history = service(database)
    app = Litestar(
        route_handlers=[HistoryController],
        dependencies={
            "history": Provide(lambda: history, sync_to_thread=False),
            "caller": Provide(lambda: caller, sync_to_thread=False),
        },
        exception_handlers=EXCEPTION_HANDLERS,
    )
    transport = ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]
    async with AsyncClient(transport=transport, base_url="http://localhost:3305") as client:
        yield client


async def test_answers_over_http(node: Node) -> None:
    """The contract's shape, in JSON."""
    await node.insert(tables.gpu_metrics, {START - timedelta(minutes=1): (850, 80_000, 20_000, None, 720, 2_504)}, 2)
    async with api(node.database) as client:
        found = await client.get(
            f"/nodes/{node.id}/gpus/metrics", params={"fields": "powerUsage,memoryFree", "agg": "max,count"}
        )
        assert found.status_code == 200
        time = "2026-11-23T11:59:00.000Z"
        assert found.json() == {
            "from": "2026-11-23T11:00:00.000Z",
            "to": "2026-11-23T12:00:00.000Z",
            "interval": "1m",
            "source": "gpu_metrics",
            "series": [
                {"deviceId": "GPU-b", "field": "powerUsage", "agg": "max", "points": [[time, 250.4]]},
                {"deviceId": "GPU-b", "field": "powerUsage", "agg": "count", "points": [[time, 1]]},
                {"deviceId": "GPU-b", "field": "memoryFree", "agg": "max", "points": []},
                {"deviceId": "GPU-b", "field": "memoryFree", "agg": "count", "points": []},
            ],
        }
        beats = (await client.get(f"/nodes/{node.id}/heartbeats")).json()
        assert [series["field"] for series in beats["series"]] == [field.name for field in HEARTBEAT_FIELDS]
        assert all(series["points"] == [] for series in beats["series"])
        metrics = (await client.get(f"/nodes/{node.id}/metrics")).json()
        assert len(metrics["series"]) == len(NODE_METRIC_FIELDS)


@pytest.mark.parametrize("path", ["metrics", "gpus/metrics", "heartbeats"])
async def test_nodes_that_cannot_be_seen(node: Node, path: str) -> None:
    """Deleted, another org's, never there: 404, all the same; of another shape: 400."""
    stranger = Caller("user", CallerRole.OPERATOR, Owner(org_id="another"))
    admin = Caller("user", CallerRole.ADMIN, Owner())
    async with api(node.database, stranger) as client:
        assert (await client.get(f"/nodes/{node.id}/{path}")).status_code == 404
    async with api(node.database, admin) as client:
        assert (await client.get(f"/nodes/{node.id}/{path}")).status_code == 200
        never = await client.get(f"/nodes/{'f' * 24}/{path}")
        assert (never.status_code, never.json()["message"]) == (404, "Node not found")
        assert (await client.get(f"/nodes/x/{path}")).json()["details"][0]["field"] == "_id"
    async with node.database.transaction() as connection:
        await connection.execute(
            update(tables.nodes).where(tables.nodes.c.node_key == node.key).values(deleted_at=START)
        )
    async with api(node.database) as client:
        assert (await client.get(f"/nodes/{node.id}/{path}")).status_code == 404


@pytest.mark.parametrize("device", ["GPU-c", "", "x" * 1000, "' OR true --"], ids=["another", "empty", "long", "SQL"])
async def test_device_that_never_was(node: Node, device: str) -> None:
    """404 with a sentence; one without samples has series without points."""
    async with api(node.database) as client:
        path = f"/nodes/{node.id}/gpus/metrics"
        refused = await client.get(path, params={"deviceId": device})
        assert refused.status_code == 404
        assert "never had a GPU of this deviceId" in refused.json()["message"]
        assert (await client.get(path, params={"deviceId": "GPU\0"})).status_code == 400
        silent = (await client.get(path, params={"deviceId": "GPU-a"})).json()
        assert [series["points"] for series in silent["series"]] == [[]] * len(GPU_METRIC_FIELDS)
        assert (await client.get(path)).json()["series"] == []
