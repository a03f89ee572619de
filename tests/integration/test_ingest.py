"""Frames into tables: exactly once, acknowledged after the commit, whatever the database does meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from msgspec import structs
from sqlalchemy import text

from app import garbage
from app.domain import ingest as ingesting
from app.domain.ingest import Ingest, Receipt
from app.errors import AiwmError, SampleRefused, StorageUnavailable
from app.meters import Meters
from app.model import GpuReading, Sample, SampleKind
from app.storage import samples
from app.storage.arrivals import Arrival, Outcome
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.packing import Packed
from tests.fakes import START, FakeClock

HEARTBEAT = ("online", 452, 628, 2, 3630)
METRICS = (452, 32, 550, 256_000, 160_000, 96_000, 625, 2_048_000, 1_024_000, 1_024_000, 500, 1_000_000, 500_000)
GPU_METRICS = (850, 80_000, 20_000, 60_000, 720, 2500)


@asynccontextmanager
async def running(database: Database, engine: StorageEngine, clock: FakeClock, **options: int) -> AsyncIterator[Ingest]:
    """An ingest whose flusher runs."""
    capacity_bytes = options.get("capacity_bytes", 1_000_000)
    ingest = Ingest(database, engine, clock, Meters(), capacity_bytes=capacity_bytes, flush_seconds=0.05)
    task = asyncio.create_task(ingest.run())
    try:
        yield ingest
        await ingest.drain(task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def node_key(database: Database) -> int:
    """A node with two GPUs, connected with epoch 1."""
    return await make_node(database)


async def make_node(database: Database) -> int:
    async with database.transaction() as connection:
        node_key = (
            await connection.execute(
                text("""
                    INSERT INTO nodes (id, name, role, is_local, created_by, created_at, updated_at)
                    VALUES (lpad(to_hex((random() * 1e9)::int), 24, '0'), 'n', '{worker}', false, 'me', :now, :now)
                    RETURNING node_key
                """),
                {"now": START},
            )
        ).scalar_one()
        await connection.execute(
            text("""
                INSERT INTO node_state (node_key, status, status_changed_at, last_heartbeat, updated_at, epoch, gateway_id)
                VALUES (:node_key, 'offline', :now, :now, :now, 1, 1)
            """),
            {"node_key": node_key, "now": START},
        )
        for gpu in (1, 2):
            await connection.execute(
                text("""
                    INSERT INTO gpus (node_key, gpu, device_id, model, first_seen, last_seen)
                    VALUES (:node_key, :gpu, :device, 'A100', :now, :now)
                """),
                {"node_key": node_key, "gpu": gpu, "device": f"GPU-{gpu}", "now": START},
            )
    return int(node_key)


def heartbeat(node_key: int, seconds: float = 0, **changes: Any) -> Arrival:
    """A heartbeat of two GPUs."""
    gpus = (GpuReading("GPU-1", None, (850, 720)), GpuReading("GPU-2", None, (None, 650)))
    sample = Sample(SampleKind.HEARTBEAT, START + timedelta(seconds=seconds), changes.pop("values", HEARTBEAT), gpus)
    return Arrival(node_key, changes.pop("epoch", 1), START, SampleKind.HEARTBEAT, sample, (1, 2))


def metrics(node_key: int, seconds: float = 0, gpus: tuple[int, ...] = (1, 2)) -> Arrival:
    """Metrics of some GPUs."""
    readings = tuple(GpuReading(f"GPU-{gpu}", "A100", GPU_METRICS) for gpu in gpus)
    sample = Sample(SampleKind.METRICS, START + timedelta(seconds=seconds), METRICS, readings)
    return Arrival(node_key, 1, START, SampleKind.METRICS, sample, gpus)


async def send(ingest: Ingest, *arrivals: Arrival) -> list[Outcome | AiwmError]:
    """Put frames in and wait for their fates."""
    loop = asyncio.get_running_loop()
    fates: list[asyncio.Future[Outcome | AiwmError]] = [loop.create_future() for _ in arrivals]
    for arrival, fate in zip(arrivals, fates, strict=True):
        ingest.put(arrival, 1000, 0, fate.set_result)
    async with asyncio.timeout(30):
        return list(await asyncio.gather(*fates))


async def count(database: Database, table: str) -> int:
    async with database.transaction() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())


async def test_every_value_of_a_frame_is_stored(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int
) -> None:
    """A heartbeat and a metrics message land whole in their four tables."""
    async with running(database, engine, clock) as ingest:
        assert await send(ingest, heartbeat(node_key), metrics(node_key)) == [Outcome.STORED, Outcome.STORED]
    async with database.transaction() as connection:
        beat = (await connection.execute(text("SELECT * FROM heartbeats"))).one()
        gpu_beats = (await connection.execute(text("SELECT * FROM gpu_heartbeats ORDER BY gpu"))).all()
        measured = (await connection.execute(text("SELECT * FROM node_metrics"))).one()
        gpus = (await connection.execute(text("SELECT * FROM gpu_metrics ORDER BY gpu"))).all()
    assert tuple(beat) == (node_key, START, *HEARTBEAT)
    assert [tuple(row) for row in gpu_beats] == [(node_key, 1, START, 850, 720), (node_key, 2, START, None, 650)]
    assert tuple(measured) == (node_key, START, *METRICS)
    assert [tuple(row) for row in gpus] == [(node_key, 1, START, *GPU_METRICS), (node_key, 2, START, *GPU_METRICS)]


async def test_a_sample_sent_again_is_stored_once(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int
) -> None:
    """A replay is acknowledged as a duplicate, also within one batch, and new frames beside it are stored."""
    async with running(database, engine, clock) as ingest:
        await send(ingest, heartbeat(node_key))
        fates = await send(ingest, heartbeat(node_key), heartbeat(node_key, 30), heartbeat(node_key, 30))
    assert fates == [Outcome.DUPLICATE, Outcome.STORED, Outcome.DUPLICATE]
    assert (await count(database, "heartbeats"), await count(database, "gpu_heartbeats")) == (2, 4)


async def test_a_partly_new_sample_is_stored(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int
) -> None:
    """Metrics of the same time that bring another GPU add that GPU's row."""
    async with running(database, engine, clock) as ingest:
        await send(ingest, metrics(node_key, gpus=(1,)))
        assert await send(ingest, metrics(node_key, gpus=(1, 2))) == [Outcome.STORED]
    assert (await count(database, "node_metrics"), await count(database, "gpu_metrics")) == (1, 2)


@pytest.mark.parametrize(
    ("gpus", "shown"), [((1, 2), "{100,200}"), ((2, 1), "{100,200}"), ((2, 4), "{NULL,200,NULL,400}"), ((1,), "{100}")]
)
async def test_what_gpus_show_stands_at_their_numbers(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int, gpus: tuple[int, ...], shown: str
) -> None:
    """In whatever order a sample tells of them, and where some are gone."""
    arrival = metrics(node_key, gpus=gpus)
    assert arrival.sample is not None
    readings = tuple(GpuReading(f"GPU-{gpu}", "A100", (100 * gpu, *GPU_METRICS[1:])) for gpu in gpus)
    told = structs.replace(arrival, sample=structs.replace(arrival.sample, gpus=readings))
    async with running(database, engine, clock) as ingest:
        await send(ingest, told)
    async with database.transaction() as connection:
        state = await connection.execute(text("SELECT gpu_utilization::text FROM node_state"))
        assert state.scalar_one() == shown


@pytest.mark.parametrize("values", [("on\0line", 1, 0, 0, 0), ("online", 99_999, 0, 0, 0)])
async def test_a_poisoned_sample_is_isolated(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int, values: tuple[Any, ...]
) -> None:
    """One sample that the database refuses, or that no column could hold, is rejected alone; its neighbours are stored."""
    poison = heartbeat(node_key, 7, values=values)
    batch = [heartbeat(node_key, second) for second in range(6)] + [poison, heartbeat(node_key, 8)]
    async with running(database, engine, clock) as ingest:
        fates = await send(ingest, *batch)
    assert isinstance(fates[6], SampleRefused)
    assert [fate for fate in fates if fate is Outcome.STORED] == [Outcome.STORED] * 7
    assert await count(database, "heartbeats") == 7


@pytest.mark.parametrize("values", [("on\0line", 1, 0, 0, 0), ("online", 99_999, 0, 0, 0)])
async def test_a_refused_heartbeat_is_a_sign_of_life(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int, values: tuple[Any, ...]
) -> None:
    """Whatever its worker measures, it is there."""
    async with running(database, engine, clock) as ingest:
        (fate,) = await send(ingest, heartbeat(node_key, values=values))
    assert isinstance(fate, SampleRefused)
    assert await count(database, "heartbeats") == 0
    async with database.transaction() as connection:
        state = await connection.execute(text("SELECT status, alive_at FROM node_state"))
        assert state.one() == ("online", START)


async def test_a_partition_that_is_gone_is_made_again(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int
) -> None:
    """Dropped for its age, as heartbeats of a clock that is weeks behind are: the next sample is no poison for that."""
    gone = {
        "PostgreSQL": f"DROP TABLE aiwm.heartbeats_p{START:%Y%m%d}",
        "TimescaleDB": "SELECT drop_chunks('heartbeats', older_than => now() + interval '100 years')",
    }
    async with running(database, engine, clock) as ingest:
        assert await send(ingest, heartbeat(node_key, 1)) == [Outcome.STORED]
        async with database.transaction() as connection:
            await connection.execute(text(gone[engine.name]))
        assert await send(ingest, heartbeat(node_key, 2)) == [Outcome.STORED]
    assert await count(database, "heartbeats") == 1


@pytest.mark.parametrize("limit", ["ours", "the server's"])
async def test_a_batch_that_takes_too_long_is_stored_in_parts(
    database: Database,
    engine: StorageEngine,
    clock: FakeClock,
    node_key: int,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
) -> None:
    """A database that is slow, and not away, would never come to the end of the whole."""
    error: Exception = asyncpg.QueryCanceledError("canceling statement due to statement timeout")
    if limit == "ours":
        error = StorageUnavailable()
        error.__cause__ = TimeoutError()
    copy = samples.copy

    async def slow_copy(database: Database, engine: StorageEngine, batch: list[Packed]) -> None:
        if len(batch) > 3:
            raise error
        await copy(database, engine, batch)

    monkeypatch.setattr(samples, "copy", slow_copy)
    async with running(database, engine, clock) as ingest:
        sending = asyncio.create_task(send(ingest, *(heartbeat(node_key, second) for second in range(20))))
        async with asyncio.timeout(20):
            while not sending.done():
                clock.advance(5)
                await asyncio.sleep(0.01)
        assert await sending == [Outcome.STORED] * 20
    assert await count(database, "heartbeats") == 20


async def test_a_failed_flush_is_tried_again(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int
) -> None:
    """While the table is away nothing is acknowledged; when it is back everything is stored."""
    async with running(database, engine, clock) as ingest:
        async with database.transaction() as connection:
            await connection.execute(text("ALTER TABLE heartbeats RENAME TO heartbeats_away"))
        sending = asyncio.create_task(send(ingest, heartbeat(node_key)))
        async with asyncio.timeout(10):
            while not clock.sleepers:
                await asyncio.sleep(0.01)
        assert not sending.done()
        async with database.transaction() as connection:
            await connection.execute(text("ALTER TABLE heartbeats_away RENAME TO heartbeats"))
        clock.advance(10)
        assert await sending == [Outcome.STORED]
    assert await count(database, "heartbeats") == 1


async def test_a_full_buffer_makes_senders_wait(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int
) -> None:
    """At the high mark nobody goes on until a flush has made room; nothing is dropped, and the wait is told whole."""
    meters = Meters()
    ingest = Ingest(database, engine, clock, meters, capacity_bytes=2000, flush_seconds=60)
    fates: list[Outcome | AiwmError] = []
    ingest.put(heartbeat(node_key), 1000, clock.monotonic(), fates.append)
    read_at = clock.monotonic()
    clock.advance(1)  # between reading and the buffer, say for the number of a new GPU
    ingest.put(heartbeat(node_key, 1), 1000, read_at, fates.append)
    waiting = asyncio.create_task(ingest.room())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    clock.advance(3)
    assert ingest.oldest_wait() == 4
    task = asyncio.create_task(ingest.run())
    async with asyncio.timeout(10):
        await waiting
    await ingest.drain(task)
    assert fates == [Outcome.STORED] * 2
    assert meters.ack_seconds.values()["aiwm_acknowledgement_seconds_sum{}"] == 8


async def test_batches_keep_a_distance_unless_there_is_a_full_one(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int
) -> None:
    """What comes after a pause is stored at once, what comes behind it waits for others, and a full batch for nobody."""
    ingest = Ingest(database, engine, clock, Meters(), capacity_bytes=2000, flush_seconds=60)
    task = asyncio.create_task(ingest.run())
    stored: asyncio.Queue[Outcome | AiwmError] = asyncio.Queue()
    async with asyncio.timeout(10):
        ingest.put(heartbeat(node_key), 10, clock.monotonic(), stored.put_nowait)
        assert await stored.get() is Outcome.STORED
        ingest.put(heartbeat(node_key, 1), 10, clock.monotonic(), stored.put_nowait)
        await asyncio.sleep(0.05)
        assert stored.empty()
        ingest.put(heartbeat(node_key, 2), 2000, clock.monotonic(), stored.put_nowait)
        assert [await stored.get(), await stored.get()] == [Outcome.STORED] * 2
    await ingest.drain(task)


async def test_the_rest_of_a_backlog_does_not_wait_for_more(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a large batch, what nothing follows is stored soon, however far apart batches are."""
    monkeypatch.setattr(ingesting, "LARGE_ROWS", 1)
    ingest = Ingest(database, engine, clock, Meters(), capacity_bytes=1_000_000, flush_seconds=60)
    task = asyncio.create_task(ingest.run())
    stored: asyncio.Queue[Outcome | AiwmError] = asyncio.Queue()
    async with asyncio.timeout(10):
        for number in range(3):
            ingest.put(heartbeat(node_key, number), 10, clock.monotonic(), stored.put_nowait)
            assert await stored.get() is Outcome.STORED
    await ingest.drain(task)


async def test_what_a_backlog_took_is_given_back(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once all of it is stored; what comes and goes all the time is not worth it."""
    given: list[None] = []
    monkeypatch.setattr(garbage, "give_back", lambda: given.append(None))
    async with running(database, engine, clock, capacity_bytes=2 * ingesting.BACKLOG_BYTES) as ingest:
        assert await send(ingest, heartbeat(node_key, 1)) == [Outcome.STORED]
        fate: asyncio.Future[Outcome | AiwmError] = asyncio.get_running_loop().create_future()
        ingest.put(heartbeat(node_key, 2), ingesting.BACKLOG_BYTES + 1, 0, fate.set_result)
        assert await fate is Outcome.STORED
        assert await send(ingest, heartbeat(node_key, 3)) == [Outcome.STORED]
    assert given == [None]


async def test_a_late_sample_does_not_replace_newer_values(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int
) -> None:
    """The shown values are those of the newest sample, in whatever order samples come."""
    async with running(database, engine, clock) as ingest:
        await send(ingest, heartbeat(node_key, 60))
        await send(ingest, heartbeat(node_key, 0, values=("online", 1, 2, 3, 4)))
    async with database.transaction() as connection:
        state = (await connection.execute(text("SELECT cpu_usage, uptime_seconds FROM node_state"))).one()
    assert tuple(state) == (452, 3630)


async def test_the_power_of_each_gpu_is_kept_as_present(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int
) -> None:
    """At the place of its number; heartbeats, which tell no power, and metrics without GPUs leave it."""
    async with running(database, engine, clock) as ingest:
        await send(ingest, metrics(node_key, 60, gpus=(2,)))
        await send(ingest, metrics(node_key, 0), heartbeat(node_key, 90))
        await send(ingest, metrics(node_key, 120, gpus=()))
    async with database.transaction() as connection:
        power = (await connection.execute(text("SELECT gpu_power_usage FROM node_state"))).scalar_one()
    assert power == [None, 2500]


async def test_only_the_owner_s_heartbeat_revives_a_node(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int
) -> None:
    """A buffered heartbeat of a connection that was taken over stores its sample and leaves the status alone."""
    async with running(database, engine, clock) as ingest:
        await send(ingest, heartbeat(node_key, 0, epoch=0))
        async with database.transaction() as connection:
            assert (await connection.execute(text("SELECT status FROM node_state"))).scalar_one() == "offline"
        await send(ingest, heartbeat(node_key, 1))
        async with database.transaction() as connection:
            assert (await connection.execute(text("SELECT status FROM node_state"))).scalar_one() == "online"


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
async def test_a_node_that_sends_again_holds_up_nobody_else(
    database: Database, engine: StorageEngine, clock: FakeClock, node_key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others' samples go by COPY, and are acknowledged before; who sends what is new again is one of them again."""
    other = await make_node(database)
    told: list[int] = []
    inserted: list[set[int]] = []
    insert = samples.insert

    async def watched(*arguments: Any) -> Any:
        inserted.append({arrival.node_key for arrival in arguments[2]} | set(told))
        return await insert(*arguments)

    async with running(database, engine, clock) as ingest:
        assert await send(ingest, metrics(node_key)) == [Outcome.STORED]
        assert await send(ingest, metrics(node_key), metrics(other)) == [Outcome.DUPLICATE, Outcome.STORED]
        monkeypatch.setattr(samples, "insert", watched)
        fates = [asyncio.get_running_loop().create_future() for _ in range(2)]

        def remember(who: int) -> Receipt:
            def tell(outcome: Outcome | AiwmError) -> None:
                told.append(-who)
                fates[who].set_result(outcome)

            return tell

        ingest.put(metrics(node_key), 1000, 0, remember(0))
        ingest.put(metrics(other, seconds=1), 1000, 0, remember(1))
        assert await asyncio.gather(*fates) == [Outcome.DUPLICATE, Outcome.STORED]
        assert inserted == [{node_key, -1}]
        assert await send(ingest, metrics(node_key, seconds=2)) == [Outcome.STORED]
        inserted.clear()
        assert await send(ingest, metrics(node_key, seconds=3), metrics(other, seconds=3)) == [Outcome.STORED] * 2
        assert inserted == []
