"""format=csv, parquet, arrow: what JSON says, in the columns of the SQL views, piece by piece."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet
from sqlalchemy import insert, text

from app.domain import slices
from app.model import CallerRole
from app.storage import tables
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from tests.databases import WITH_TIMERS
from tests.fakes import FakeClock
from tests.integration.fleet_of_analysts import seed
from tests.integration.gateway import eventually, running_gateway
from tests.rest_app import Api, rest_api

DAY = "from=2026-11-22T00:00Z&to=2026-11-24T00:00Z"
NODE, OTHER = f"{1:024x}", f"{3:024x}"


@pytest.fixture
async def api(database: Database, engine: StorageEngine) -> AsyncIterator[Api]:
    """Three nodes of two orgs, sampled every quarter of an hour for 45 hours."""
    await seed(database, engine)
    async with rest_api(database, FakeClock(datetime(2026, 11, 24, tzinfo=UTC))) as api:
        yield api


async def export(api: Api, path: str, **request: Any) -> bytes:
    answer = await api("GET", path, role=CallerRole.ADMIN, **request)
    assert answer.status_code == 200, answer.text
    assert answer.headers["vary"] == "Accept"
    return answer.content


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


async def series(api: Api, path: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    """What JSON says: points by device, field and aggregate."""
    answer = await api("GET", path, role=CallerRole.ADMIN)
    assert answer.status_code == 200, answer.text
    return {
        (each.get("nodeId", ""), each.get("deviceId", ""), f"{each['field']}_{each['agg']}"): dict(each["points"])
        for each in answer.json()["series"]
    }


async def test_raw_samples_have_the_columns_of_the_view(api: Api, database: Database) -> None:
    """A row for a row, value for value, with the time as the API writes it; all but the database's own key of a node."""
    content = await export(api, f"/nodes/{NODE}/gpus/metrics?{DAY}&interval=raw&format=csv")
    async with database.transaction() as connection:
        found = await connection.execute(
            text("SELECT * FROM history.gpu_metrics WHERE node_id = :id ORDER BY time, device_id"), {"id": NODE}
        )
        expected = [
            {
                name: ""
                if value is None
                else f"{value:%Y-%m-%dT%H:%M:%S}.000Z"
                if isinstance(value, datetime)
                else value
                for name, value in row._mapping.items()
                if name != "node_key"
            }
            for row in found
        ]
    written = rows(content)
    assert list(written[0]) == list(expected[0])
    assert len(written) == len(expected) == 360
    for line, row in zip(written, expected, strict=True):
        assert {name: float(value) if isinstance(row[name], float) else value for name, value in line.items()} == row


@pytest.mark.parametrize("format_", ["csv", "parquet", "arrow"])
@pytest.mark.parametrize("piece", [10, 250_000])
async def test_buckets_are_those_of_json(api: Api, monkeypatch: pytest.MonkeyPatch, format_: str, piece: int) -> None:
    """Whatever the format, and however small the pieces that it is made of."""
    monkeypatch.setattr(slices, "WANTED_POINTS", piece)
    monkeypatch.setattr(slices, "MOST_POINTS", 4 * piece)
    query = f"{DAY}&interval=1h&fields=utilization,memoryUsed&agg=avg,max,p95"
    expected = await series(api, f"/nodes/{NODE}/gpus/metrics?{query}")
    content = await export(api, f"/nodes/{NODE}/gpus/metrics?{query}&format={format_}")
    found = table(content, format_)
    assert [(row["time"], row["device_id"]) for row in found] == sorted(
        (row["time"], row["device_id"]) for row in found
    )
    assert {row["samples"] for row in found} == {4}
    assert {(row["node_id"], row["node_name"], row["org_id"], row["gpu_model"]) for row in found} == {
        (NODE, "gpu-01", "acme", "A100")
    }
    columns = {"utilization": "utilization", "memoryUsed": "memory_used"}
    for (_, device, measure), points in expected.items():
        field, _, aggregate = measure.partition("_")
        column = {row["time"]: row[f"{columns[field]}_{aggregate}"] for row in found if row["device_id"] == device}
        assert column == points, measure


def table(content: bytes, format_: str) -> list[dict[str, Any]]:
    """The rows of a file, numbers as numbers and times as the API writes them."""
    if format_ == "csv":
        texts = ("time", "node_id", "node_name", "org_id", "device_id", "gpu_model")
        return [
            {name: value if name in texts else float(value) for name, value in row.items()} for row in rows(content)
        ]
    made = parquet.read_table(pa.BufferReader(content)) if format_ == "parquet" else ipc.open_stream(content).read_all()
    assert made.schema.field("time").type == pa.timestamp("ms", tz="UTC")
    return [row | {"time": f"{row['time']:%Y-%m-%dT%H:%M:%S}.000Z"} for row in made.to_pylist()]


async def test_counters_and_days_of_a_zone_are_those_of_json(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece begins with what the counter was before it."""
    monkeypatch.setattr(slices, "WANTED_POINTS", 10)
    for query in (
        f"{DAY}&interval=1h&fields=networkBytesIn&agg=increase,rate,avg",
        f"{DAY}&interval=1d&tz=Asia/Ho_Chi_Minh&fields=networkBytesIn&agg=increase,rate,avg",
    ):
        expected = await series(api, f"/nodes/{NODE}/metrics?{query}")
        found = rows(await export(api, f"/nodes/{NODE}/metrics?{query}&format=csv"))
        names = {"networkBytesIn": "network_bytes_in", "cpuUsage": "cpu_usage"}
        for (_, _, measure), points in expected.items():
            field, _, aggregate = measure.partition("_")
            column = f"{names[field]}_{aggregate}"
            assert {row["time"]: float(row[column]) for row in found if row[column]} == pytest.approx(points), measure


async def test_heartbeats_have_rows_of_the_node_and_of_its_devices(api: Api) -> None:
    """The node's own without a device."""
    found = rows(await export(api, f"/nodes/{NODE}/heartbeats?{DAY}&interval=raw&format=csv"))
    assert [row["device_id"] for row in found] == ["", "GPU-1-1", "GPU-1-2"]
    assert (found[0]["status"], found[0]["utilization"], found[1]["utilization"]) == ("ok", "", "0.5")


@pytest.mark.parametrize(
    ("group_by", "keys"),
    [
        ("node", ["node_id", "node_name", "org_id"]),
        ("gpu", ["node_id", "node_name", "org_id", "device_id", "gpu_model"]),
        ("gpuModel", ["gpu_model"]),
        ("role", ["role"]),
        ("org", ["org_id"]),
        ("none", []),
    ],
)
async def test_the_fleet_is_a_table_of_its_groups(
    api: Api, monkeypatch: pytest.MonkeyPatch, group_by: str, keys: list[str]
) -> None:
    """As many values as JSON has points, and the same."""
    monkeypatch.setattr(slices, "WANTED_POINTS", 10)
    query = f"/fleet/metrics?{DAY}&interval=1h&fields=powerUsage&agg=avg,sum&groupBy={group_by}"
    answer = (await api("GET", query, role=CallerRole.ADMIN)).json()["series"]
    found = rows(await export(api, f"{query}&format=csv"))
    assert list(found[0]) == ["time", *keys, "samples", "power_usage_avg", "power_usage_sum"]
    for aggregate in ("avg", "sum"):
        expected = sorted(tuple(point) for each in answer if each["agg"] == aggregate for point in each["points"])
        assert sorted((row["time"], float(row[f"power_usage_{aggregate}"])) for row in found) == expected


async def test_the_first_groups_stay_the_first(api: Api) -> None:
    """top looks at the whole range, not at a piece of it."""
    query = f"/fleet/metrics?{DAY}&interval=1h&fields=temperature&groupBy=gpu&top=1"
    answer = (await api("GET", query, role=CallerRole.ADMIN)).json()["series"]
    found = rows(await export(api, f"{query}&format=csv"))
    assert {row["device_id"] for row in found} == {answer[0]["deviceId"]}
    assert len(found) == len(answer[0]["points"])


async def test_who_asks_sees_only_the_own_org(api: Api) -> None:
    """In a table as in JSON."""
    path = f"/fleet/metrics?{DAY}&interval=1d&fields=powerUsage&groupBy=node&format=csv"
    found = rows((await api("GET", path, role=CallerRole.VIEWER, org="umbrella")).content)
    assert {row["node_id"] for row in found} == {OTHER}
    assert (await api("GET", f"/nodes/{NODE}/metrics?format=csv", org="umbrella")).status_code == 404


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/csv", "text/csv; charset=utf-8"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("application/json;q=0.5, application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream"),
        ("*/*", "application/json"),
        ("image/png", "application/json"),
    ],
)
async def test_accept_chooses_too(api: Api, accept: str, media_type: str) -> None:
    """`format` stands above it."""
    path = f"/nodes/{NODE}/metrics?{DAY}"
    answer = await api("GET", path, role=CallerRole.ADMIN, headers={"Accept": accept})
    assert answer.headers["content-type"] == media_type
    answer = await api("GET", f"{path}&format=csv", role=CallerRole.ADMIN, headers={"Accept": accept})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="gpu-01-node_metrics.csv"'


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("format=xml", "must be one of json, csv, parquet, arrow"),
        ("format=csv&format=csv", "more than once"),
        ("format=csv&fill=null", "goes with format=json"),
        ("format=csv&fields=nothing", "there is no 'nothing'"),
        ("format=csv&from=now&to=now-1h", "is not before to"),
    ],
)
async def test_a_question_that_does_not_fit_is_refused_in_json(api: Api, query: str, message: str) -> None:
    """Before the first byte of a table."""
    for path in (f"/nodes/{NODE}/metrics", "/fleet/metrics"):
        answer = await api("GET", f"{path}?{query}", role=CallerRole.ADMIN)
        assert answer.status_code == 400
        assert message in answer.json()["message"]


async def test_a_table_has_no_limit_of_points(api: Api, database: Database) -> None:
    """Nor does nothing for centuries take long."""
    async with database.transaction() as connection:
        key = await connection.scalar(text("SELECT node_key FROM nodes WHERE id = :id"), {"id": NODE})
        moments = [datetime(2026, 11, 23, 23, tzinfo=UTC) + timedelta(milliseconds=200 * n) for n in range(12_000)]
        await connection.execute(
            insert(tables.node_metrics), [{"node_key": key, "time": moment, "cpu_usage": 1} for moment in moments]
        )
    query = "from=0001-01-01T00:00Z&to=9999-01-01T00:00Z&fields=cpuUsage&interval=raw"
    assert (await api("GET", f"/nodes/{NODE}/metrics?{query}", role=CallerRole.ADMIN)).status_code == 400
    assert len(rows(await export(api, f"/nodes/{NODE}/metrics?{query}&format=csv"))) >= 12_000


async def test_an_empty_table_has_its_columns(api: Api) -> None:
    """A file that other programs can read."""
    query = "from=2020-01-01T00:00Z&to=2020-01-02T00:00Z&interval=1h&fields=cpuUsage"
    assert (await export(api, f"/nodes/{NODE}/metrics?{query}&format=csv")).decode().strip() == (
        '"time","node_id","node_name","org_id","samples","cpu_usage_avg"'
    )
    made = parquet.read_table(pa.BufferReader(await export(api, f"/nodes/{NODE}/metrics?{query}&format=parquet")))
    assert (made.num_rows, made.column_names[-1]) == (0, "cpu_usage_avg")


@pytest.mark.parametrize("server", WITH_TIMERS, indirect=True)
@pytest.mark.parametrize("format_", ["json", "csv"])
async def test_a_client_that_goes_away_takes_its_query_along(
    database: Database, clock: FakeClock, caplog: pytest.LogCaptureFixture, format_: str
) -> None:
    """Whatever the query waits for; and nothing is wrong here."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() "
        "AND query LIKE '%node_metrics%'"  # the first refresh of aggregates waits for the table, too, and names it not
    )
    watcher = Database(database.url, pool_size=2)

    async def queries() -> int:
        async with watcher.transaction() as connection:
            return int(await connection.scalar(waiting) or 0)

    async with running_gateway(database, clock) as gateway:
        node_id = await gateway.create_node()
        async with watcher.transaction() as blocker:
            await blocker.execute(text("LOCK TABLE node_metrics"))
            path = f"/nodes/{node_id}/metrics?interval=raw&format={format_}"
            asking = asyncio.create_task(gateway.http.get(path))
            await eventually(queries, 1)
            asking.cancel()
            await eventually(queries, 0)
        assert (await gateway.http.get(path)).status_code == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    await watcher.close()
