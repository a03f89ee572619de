"""Rollups, held against a plain computation over the samples, whatever came when; and what retention leaves."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.domain.maintenance import JOB, Maintenance
from app.model import GpuReading, Sample, SampleKind
from app.quantities import GPU_METRIC_FIELDS, NODE_METRIC_FIELDS, Field
from app.retention import Retention
from app.storage import dropped, relations, rolling, samples
from app.storage.arrivals import Arrival
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.engines.timescale import REFRESH, RETENTION
from app.storage.packing import pack
from tests.fakes import FakeClock
from tests.integration.test_ingest import make_node

DAY = timedelta(days=1)
WIDTHS = {"5m": timedelta(minutes=5), "1h": timedelta(hours=1), "1d": DAY}
NOW = rolling.floor(datetime.now(UTC), timedelta(minutes=5)) - timedelta(minutes=10)
"""A moment ago: TimescaleDB's policies go by the database's own clock."""

Values = tuple[int | None, ...]
Measured = dict[tuple[int, int | None, datetime], Values]
"""By node, GPU (None: the node itself) and time."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


class Store:
    """Samples go in as ingest stores them; what should be there is remembered."""

    def __init__(self, database: Database, engine: StorageEngine, clock: FakeClock) -> None:
        self.database = database
        self.engine = engine
        self.clock = clock
        self.retention = Retention()
        self.measured: Measured = {}

    async def put(self, *arrivals: Arrival) -> None:
        days = {arrival.sample.time.date() for arrival in arrivals if arrival.sample}
        async with self.database.transaction() as connection:
            await self.engine.make_room(connection, days)
        await samples.insert(self.database, self.engine, [pack(arrival) for arrival in arrivals])
        for arrival in arrivals:
            if sample := arrival.sample:
                self.measured.setdefault((arrival.node_key, None, sample.time), sample.values)
                for gpu, reading in zip(arrival.gpus, sample.gpus, strict=True):
                    self.measured.setdefault((arrival.node_key, gpu, sample.time), reading.values)

    async def maintain(self) -> None:
        """Passes, until there is nothing left to do."""
        maintenance = Maintenance(self.database, self.engine, self.retention, self.clock)
        while await maintenance.once():
            pass

    async def run_jobs(self, kind: str) -> None:
        """What TimescaleDB's scheduler would do, and does not on every server."""
        if self.engine.name != "TimescaleDB":
            return
        for job_id, _ in await self.jobs(kind):
            async with self.database.alone("test") as connection:
                assert connection is not None
                await connection.execute("CALL run_job($1)", job_id)

    async def jobs(self, kind: str) -> list[tuple[int, bool]]:
        """Ids, and whether they are scheduled; in the order in which they were made."""
        async with self.database.transaction() as connection:
            found = await connection.execute(
                text(
                    "SELECT job_id, scheduled FROM timescaledb_information.jobs "
                    "WHERE hypertable_schema = 'aiwm' AND proc_name = :kind ORDER BY job_id"
                ),
                {"kind": kind},
            )
            return [tuple(row) for row in found]

    async def roll(self) -> None:
        """Everything that is due by now."""
        await self.maintain()
        await self.run_jobs(REFRESH)

    async def rollup(self, name: str) -> dict[Any, Any]:
        """The rows of a rollup by their keys."""
        async with self.database.transaction() as connection:
            rows = (await connection.execute(text(f"SELECT * FROM {name}"))).mappings().all()
        return {(row["node_key"], row.get("gpu"), row["time"]): row for row in rows}

    async def check(self) -> None:
        """Every rollup says what the samples say."""
        for width in WIDTHS:
            for table, fields in (("node_metrics", NODE_METRIC_FIELDS), ("gpu_metrics", GPU_METRIC_FIELDS)):
                nodes = {node for node, _, _ in self.measured}
                rows = await self.rollup(f"{table}_{width}")
                found = {key: row for key, row in rows.items() if key[0] in nodes}
                expected = computed(self.measured, fields, width, of_gpus=table == "gpu_metrics")
                assert found.keys() == expected.keys()
                for key, values in expected.items():
                    assert {name: found[key][name] for name in values} == values
        for width in relations.gpu_rollups_by_node:
            await self.check_by_node(width)

    async def check_by_node(self, width: str) -> None:
        """The buckets of a node's GPUs together say what their samples say."""
        apart = computed(self.measured, GPU_METRIC_FIELDS, width, of_gpus=True)
        expected: dict[Any, dict[str, Any]] = {}
        for node, time in {(node, time) for node, _, time in apart}:
            rows = [row for key, row in apart.items() if (key[0], key[2]) == (node, time)]
            expected[node, None, time] = {"samples": sum(row["samples"] for row in rows)}
            for field in GPU_METRIC_FIELDS:
                expected[node, None, time] |= together(field.column, rows)
        nodes = {node for node, _, _ in self.measured}
        rolled = await self.rollup(f"gpu_metrics_{width}_by_node")
        found = {key: row for key, row in rolled.items() if key[0] in nodes}
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            assert {name: found[key][name] for name in values} == pytest.approx(values), key

    async def is_rolled_up(self) -> bool:
        """Whether nothing waits to be rolled up."""
        if self.engine.name == "TimescaleDB":
            return True
        async with self.database.transaction() as connection:
            waiting = await connection.scalar(text("SELECT count(*) FROM touched"))
            until = await connection.scalar(text("SELECT rolled_until FROM rolling"))
        return bool(
            waiting == 0 and until == rolling.floor(self.clock.now() - timedelta(minutes=1), timedelta(minutes=5))
        )


def computed(measured: Measured, fields: tuple[Field, ...], width: str, *, of_gpus: bool) -> dict[Any, dict[str, Any]]:
    """The rows of a rollup, from all samples."""
    buckets: dict[Any, list[tuple[datetime, Values]]] = defaultdict(list)
    for (node, gpu, time), values in sorted(measured.items(), key=lambda item: item[0][2]):
        if (gpu is not None) == of_gpus:
            buckets[node, gpu, rolling.floor(time, WIDTHS[width])].append((time, values))
    rows = {}
    for key, found in buckets.items():
        row: dict[str, Any] = {"samples": len(found)}
        for place, field in enumerate(fields):
            known = [value for _, values in found if (value := values[place]) is not None]
            totals = (
                [values[[each.column for each in fields].index(field.total)] for _, values in found]
                if field.total
                else []
            )
            name = field.column
            row |= {f"{name}_count": len(known), f"{name}_sum": sum(known) if known else None}
            row |= {f"{name}_min": min(known, default=None), f"{name}_max": max(known, default=None)}
            row |= {f"{name}_last": known[-1] if known else None}
            if field.scale and width != "5m":
                row[f"{name}_hist"] = histogram(field, [values[place] for _, values in found], totals)
        rows[key] = row
    return rows


def together(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the rows of several GPUs say of one field as one row; what none of them tells is None."""
    known = [row for row in rows if row[f"{name}_count"]]
    found: dict[str, Any] = {f"{name}_count": sum(row[f"{name}_count"] for row in known)}
    found[f"{name}_sum"] = sum(row[f"{name}_sum"] for row in known) if known else None
    found[f"{name}_min"] = min((row[f"{name}_min"] for row in known), default=None)
    found[f"{name}_max"] = max((row[f"{name}_max"] for row in known), default=None)
    found[f"{name}_avg_sum"] = sum(row[f"{name}_sum"] / row[f"{name}_count"] for row in known) if known else None
    return found


def histogram(field: Field, values: list[int | None], totals: list[int | None]) -> list[int] | None:
    scale = field.scale
    assert scale is not None
    counts = [0] * (scale.buckets + 2)
    for place, value in enumerate(values):
        if field.total:
            total = totals[place]
            share = value / total if value is not None and total else None
        else:
            share = None if value is None or field.quantity is None else value / field.quantity.steps_per_unit
        if share is not None:
            bucket = int((share - scale.low) * scale.buckets // (scale.high - scale.low)) + 1
            counts[min(max(bucket, 0), scale.buckets + 1)] += 1
    return counts if any(counts) else None


@pytest.fixture
def store(database: Database, engine: StorageEngine, clock: FakeClock) -> Store:
    return Store(database, engine, clock)


SCANS = """
    SELECT relname, seq_scan + coalesce(idx_scan, 0) FROM pg_stat_xact_user_tables
    WHERE relname ~ '^(node|gpu)_metrics_p[0-9]'
"""


def metrics(node_key: int, time: datetime, value: int | None = 500, gpus: tuple[int, ...] = (1, 2)) -> Arrival:
    """Metrics whose every value hangs on one."""
    node = tuple(None if value is None else value + place for place in range(len(NODE_METRIC_FIELDS)))
    readings = tuple(
        GpuReading(
            f"GPU-{gpu}", "A100", (value, 80_000, value, None if value is None else 80_000 - value, value, value)
        )
        for gpu in gpus
    )
    return Arrival(node_key, 1, NOW, SampleKind.METRICS, Sample(SampleKind.METRICS, time, node, readings), gpus)


async def test_rollups_are_right_before_anything_is_rolled_up(store: Store) -> None:
    """Whoever reads need not know how far the rolling is."""
    node = await make_node(store.database)
    await store.put(*(metrics(node, NOW - timedelta(minutes=7 * tick), 10 * tick) for tick in range(40)))
    await store.check()


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
async def test_a_step_reads_the_samples_of_its_own_time(store: Store) -> None:
    """However many days there are: what it costs is what it rolls up."""
    node = await make_node(store.database)
    step = NOW - timedelta(minutes=10)
    await store.put(*(metrics(node, step - timedelta(days=day)) for day in range(3)))
    bounds = [rolling.floor(step, rolling.BUCKET)], [rolling.floor(step, rolling.BUCKET) + rolling.BUCKET]
    async with store.database.driver_transaction() as connection:
        before = {row[0]: row[1] for row in await connection.fetch(SCANS)}
        for table in ("node_metrics", "gpu_metrics"):
            await connection.execute(f"SELECT roll_{table}_5m($1, $2, $3)", [node], *bounds)
        after = {row[0]: row[1] for row in await connection.fetch(SCANS)}
    assert {name for name, scans in after.items() if scans > before[name]} == {
        f"{table}_p{step:%Y%m%d}" for table in ("node_metrics", "gpu_metrics")
    }


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
async def test_how_a_step_is_rolled_up_does_not_hang_on_statistics(store: Store) -> None:
    """Of the newest minutes they know nothing, and from nothing the planner concludes that there is nothing."""
    async with store.database.driver_transaction() as connection:
        rows = await connection.fetch(
            "SELECT proname, proconfig FROM pg_proc WHERE proname LIKE 'roll\\_%\\_metrics\\_%'"
        )
    plans = {row["proname"]: row["proconfig"] for row in rows}
    assert plans.keys() == {f"roll_{table}" for tables in rolling._ROLLUPS.values() for table in tables}
    assert all("plan_cache_mode=force_generic_plan" in settings for settings in plans.values())


BATCHES = st.lists(
    st.lists(
        st.tuples(
            st.integers(0, 3 * 24 * 12).map(
                lambda bucket: NOW - timedelta(minutes=5 * bucket, seconds=bucket % 3 * 100)
            ),
            st.none() | st.integers(0, 1000),
            st.sampled_from([(1, 2), (1,), ()]),
        ),
        min_size=1,
        max_size=12,
    ),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(batches=BATCHES)
async def test_whatever_comes_when_rollups_say_what_samples_say(
    database: Database,
    engine: StorageEngine,
    clock: FakeClock,
    batches: list[list[tuple[datetime, int | None, tuple[int, ...]]]],
) -> None:
    """Gaps, late rows, duplicates, rows without values; before and after each rolling up."""
    store = Store(database, engine, clock)
    await store.roll()
    nodes = [await make_node(database), await make_node(database)]
    for place, batch in enumerate(batches):
        await store.put(*(metrics(nodes[(place + number) % 2], *each) for number, each in enumerate(batch)))
        await store.roll()
        assert await store.is_rolled_up()
        await store.check()
        store.clock.advance(600)


async def test_a_week_that_comes_late_is_rolled_up(store: Store) -> None:
    """A worker that was cut off sends what it kept: three samples an hour."""
    node = await make_node(store.database)
    await store.put(metrics(node, NOW))
    await store.roll()
    await store.put(*(metrics(node, NOW - timedelta(minutes=20 * tick), tick % 1000) for tick in range(1, 7 * 72)))
    await store.roll()
    assert await store.is_rolled_up()
    await store.check()


async def test_what_comes_into_a_compressed_chunk_is_rolled_up(store: Store) -> None:
    """Late and twice; the columnstore refuses neither."""
    node = await make_node(store.database)
    old = rolling.floor(NOW - 5 * DAY, DAY) + timedelta(hours=12)
    """Noon: at whatever hour this runs, half an hour of samples is in one chunk."""
    await store.put(*(metrics(node, old + timedelta(minutes=tick), tick) for tick in range(30)))
    await store.roll()
    await store.run_jobs("policy_compression")
    if store.engine.name == "TimescaleDB":
        async with store.database.transaction() as connection:
            compressed = await connection.scalar(
                text(
                    "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed AND hypertable_name = 'gpu_metrics'"
                )
            )
        assert compressed == 1
    await store.put(metrics(node, old + timedelta(minutes=12, seconds=30), 999), metrics(node, old))
    await store.roll()
    await store.check()


async def test_retention_leaves_the_rollups(store: Store) -> None:
    """Samples of ten days ago are dropped; what was rolled up from them stays, whatever is refreshed later."""
    node = await make_node(store.database)
    old = [metrics(node, NOW - 10 * DAY + timedelta(minutes=tick), tick) for tick in range(90)]
    await store.put(*old, metrics(node, NOW - timedelta(hours=3)))
    await store.roll()
    store.retention = Retention(raw=3 * DAY)
    await store.maintain()
    await store.run_jobs(RETENTION)
    assert await store.rollup("gpu_metrics_5m")
    async with store.database.transaction() as connection:
        left = await connection.scalar(text("SELECT count(*) FROM gpu_metrics"))
    assert left == 2
    await store.put(metrics(node, NOW - DAY))
    await store.roll()
    await store.check()


async def test_rollups_have_a_retention_of_their_own(store: Store) -> None:
    """Those of a day stay for ever, those of five minutes are dropped."""
    node = await make_node(store.database)
    await store.put(metrics(node, NOW - 70 * DAY), metrics(node, NOW))
    await store.roll()
    store.retention = Retention(raw=3 * DAY, five_minutes=4 * DAY, hour=None)
    await store.maintain()
    await store.run_jobs(RETENTION)
    assert {time for _, _, time in await store.rollup("node_metrics_5m")} == {rolling.floor(NOW, WIDTHS["5m"])}
    assert len(await store.rollup("node_metrics_1h")) == 2
    assert len(await store.rollup("node_metrics_1d")) == 2


async def test_what_comes_too_late_for_one_rollup_is_in_the_others(store: Store) -> None:
    """Its five minutes are no longer kept, and their partition is gone: that stops nothing else, neither then nor later."""
    node = await make_node(store.database)
    old = NOW - 40 * DAY
    store.retention = Retention(raw=None, heartbeats=None, five_minutes=4 * DAY, hour=None)
    await store.put(metrics(node, old, 1))
    await store.roll()
    await store.maintain()
    late = pack(metrics(node, old + timedelta(minutes=1), 2))
    await samples.insert(store.database, store.engine, [late])
    await store.roll()
    assert await store.is_rolled_up()
    assert (await store.rollup("node_metrics_1h"))[node, None, rolling.floor(old, WIDTHS["1h"])]["samples"] == 2


async def test_heartbeats_are_dropped_by_their_own_retention(store: Store) -> None:
    """Metrics of the same day stay."""
    node = await make_node(store.database)
    await store.put(metrics(node, NOW - 20 * DAY))
    sample = Sample(SampleKind.HEARTBEAT, NOW - 20 * DAY, ("online", 1, 2, 3, 4), ())
    await store.put(Arrival(node, 1, NOW, SampleKind.HEARTBEAT, sample, ()))
    await store.roll()
    await store.run_jobs(RETENTION)
    async with store.database.transaction() as connection:
        counts = [
            await connection.scalar(text(f"SELECT count(*) FROM {name}")) for name in ("heartbeats", "node_metrics")
        ]
    assert counts == [0, 1]


async def test_one_process_at_a_time(store: Store) -> None:
    """Whoever comes second has nothing to do."""
    if store.database.pool_size == 1:
        return  # this server has one backend, which holds every lock
    async with store.database.alone(JOB) as first, store.database.alone(JOB) as second:
        assert first is not None
        assert second is None
    async with store.database.alone(JOB) as third:
        assert third is not None


async def test_the_threshold_waits_for_flushes_that_saw_the_old_one(store: Store) -> None:
    """A sample that is stored while the rolling begins is in it."""
    if store.engine.name == "TimescaleDB":
        return  # does it by itself
    node = await make_node(store.database)
    await store.put(metrics(node, NOW - timedelta(hours=2)))
    await store.maintain()
    store.clock.advance(3600)
    async with store.database.driver_transaction() as flush:
        await store.engine.note(flush, [(node, NOW)])
        await flush.execute("INSERT INTO node_metrics (node_key, time, cpu_usage) VALUES ($1, $2, 7)", node, NOW)
        rolling_up = asyncio.create_task(store.maintain())
        async with store.database.transaction() as looking:
            while not await looking.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                await asyncio.sleep(0.01)
        assert not rolling_up.done()
    async with asyncio.timeout(10):
        await rolling_up
    async with store.database.transaction() as connection:
        found = await connection.scalar(
            text("SELECT sum(cpu_usage_sum) FROM node_metrics_5m_rolled WHERE cpu_usage_max = 7")
        )
    assert found == 7


@pytest.mark.parametrize(("seconds_a_stretch", "are_there_rests"), [(900, True), (0, False)])
async def test_many_nodes_are_rolled_up_slice_by_slice(
    store: Store, monkeypatch: pytest.MonkeyPatch, seconds_a_stretch: int, *, are_there_rests: bool
) -> None:
    """With rests between them, in which ingest has the processors, if there is time; and to the same result."""
    rests: list[float] = []
    sleep = asyncio.sleep

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        await sleep(0)

    monkeypatch.setattr(rolling, "SLICE", 1)
    monkeypatch.setattr(rolling, "STRETCH_SECONDS", seconds_a_stretch)
    nodes = [await make_node(store.database) for _ in range(3)]
    await store.put(*(metrics(node, NOW - timedelta(minutes=10)) for node in nodes))
    monkeypatch.setattr(asyncio, "sleep", rest)
    await store.roll()
    await store.put(*(metrics(node, NOW - timedelta(hours=30)) for node in nodes))
    await store.put(*(metrics(node, NOW + timedelta(minutes=1)) for node in nodes))
    store.clock.advance(2 * 3600 + 60)
    await store.roll()
    monkeypatch.undo()
    await store.check()
    if store.engine.name != "TimescaleDB":  # does it by itself
        assert any(seconds > 0 for seconds in rests) == are_there_rests


async def test_a_crash_in_the_middle_leaves_nothing_half_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was noted is still noted, and the views say what the samples say."""
    if store.engine.name == "TimescaleDB":
        return  # does it by itself
    node = await make_node(store.database)
    await store.put(metrics(node, NOW - timedelta(hours=30)))
    await store.maintain()
    await store.put(metrics(node, NOW - timedelta(hours=29), 7), metrics(node, NOW - timedelta(hours=1)))
    store.clock.advance(3600)
    monkeypatch.setitem(rolling._ROLL, "1d", ["SELECT 1 / 0, $1::integer[], $2::timestamptz[], $3::timestamptz[]"])
    with pytest.raises(Exception, match="division by zero"):
        await store.maintain()
    assert not await store.is_rolled_up()
    monkeypatch.undo()
    await store.maintain()
    assert await store.is_rolled_up()
    await store.check()


async def test_of_a_stretch_that_came_to_no_end_nothing_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first slices are stored; who asks reads samples, until a pass has done it all."""
    if store.engine.name == "TimescaleDB":
        return  # does it by itself
    nodes = [await make_node(store.database) for _ in range(3)]
    await store.put(*(metrics(node, NOW - timedelta(minutes=10)) for node in nodes))
    await store.maintain()
    await store.put(*(metrics(node, NOW - timedelta(minutes=2)) for node in nodes))
    store.clock.advance(600)
    monkeypatch.setattr(rolling, "SLICE", 1)
    breaks = f"SELECT 1 / (($1::integer[])[1] - {nodes[1]}), $2::timestamptz[], $3::timestamptz[]"
    monkeypatch.setitem(rolling._ROLL, "5m", [*rolling._ROLL["5m"], breaks])
    with pytest.raises(Exception, match="division by zero"):
        await store.maintain()
    late = {key for key in await store.rollup("gpu_metrics_5m_rolled") if key[2] > NOW - timedelta(minutes=6)}
    assert {node for node, _, _ in late} == set(nodes[:2])
    await store.check()
    monkeypatch.undo()
    await store.maintain()
    assert await store.is_rolled_up()
    await store.check()


async def test_policies_are_those_of_the_settings(store: Store) -> None:
    """Made once, changed with the settings, gone where something is kept for ever."""
    if store.engine.name != "TimescaleDB":
        return  # has no policies
    await store.maintain()
    before = [await store.jobs(kind) for kind in (REFRESH, "policy_compression", RETENTION)]
    assert [len(jobs) for jobs in before] == [12, 13, 11]
    assert not any(scheduled for _, scheduled in before[2])  # until every aggregate has been refreshed
    await store.maintain()
    assert [await store.jobs(kind) for kind in (REFRESH, "policy_compression", RETENTION)] == before
    store.retention = Retention(raw=None, heartbeats=None)
    await store.maintain()
    after = [await store.jobs(kind) for kind in (REFRESH, "policy_compression", RETENTION)]
    assert [len(jobs) for jobs in after] == [12, 13, 6]


def test_the_tables_of_retention_are_there() -> None:
    """Every table that history reads from has one."""
    assert Retention().by_table.keys() == {
        *("heartbeats", "gpu_heartbeats", "node_metrics", "gpu_metrics", "gpu_details"),
        *(
            str(table.name)
            for rollups in (relations.node_rollups, relations.gpu_rollups, relations.gpu_rollups_by_node)
            for table in rollups.values()
        ),
    }


async def test_a_longer_retention_erases_nothing_of_what_was_dropped_before(store: Store) -> None:
    """Samples that are gone are not refreshed from, however long they would be kept from now on."""
    node = await make_node(store.database)
    await store.put(*(metrics(node, NOW - 10 * DAY + timedelta(minutes=tick), tick) for tick in range(90)))
    await store.put(metrics(node, NOW - timedelta(hours=3)))
    await store.roll()
    store.retention = Retention(raw=3 * DAY)
    await store.maintain()
    await store.run_jobs(RETENTION)
    store.retention = Retention()
    await store.roll()
    await store.check()
    async with store.database.driver_transaction() as connection:
        left = store.retention.since(await dropped.read(connection), NOW)
    assert left.max_sample_age < 10 * DAY  # else its hour would be computed anew from one late sample
