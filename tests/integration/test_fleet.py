"""The fleet now: GET /fleet/summary and GET /fleet/prometheus."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.model import CallerRole, GpuDevice
from app.storage.database import Database
from tests.databases import WITH_TIMERS
from tests.fakes import FakeClock
from tests.rest_app import ORG, OTHER_ORG, Api, register, rest_api, worker_did

ADMIN: dict[str, Any] = {"role": CallerRole.ADMIN, "org": None}
VIEWER: dict[str, Any] = {"role": CallerRole.VIEWER}
A100, UNKNOWN = GpuDevice("GPU-0", "A100", 80.0), GpuDevice("GPU-1")


@pytest.fixture
async def api(database: Database, clock: FakeClock) -> AsyncIterator[Api]:
    async with rest_api(database, clock) as api:
        yield api


async def summary(api: Api, query: str = "", **caller: Any) -> dict[str, Any]:
    answer = await api("GET", f"/fleet/summary{query}", **(VIEWER | caller))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def scraped(api: Api, query: str = "", **caller: Any) -> list[str]:
    """The lines of the answer but for comments."""
    answer = await api("GET", f"/fleet/prometheus{query}", **(VIEWER | caller))
    assert answer.status_code == 200, answer.text
    return [line for line in answer.text.splitlines() if not line.startswith("#")]


async def make(api: Api, name: str, org: str = ORG) -> str:
    answer = await api("POST", "/nodes", {"name": name, "role": ["worker"]}, org=org)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["_id"])


async def online(api: Api, database: Database, clock: FakeClock, name: str, *gpus: GpuDevice, **state: Any) -> str:
    """A node that registered and beat just now, with what it measured, in steps."""
    node_id = await make(api, name, state.pop("org", ORG))
    await register(database, node_id, *gpus, now=clock.now())
    await worker_did(database, node_id, last_heartbeat=clock.now(), **state)
    return node_id


@pytest.mark.parametrize("server", WITH_TIMERS, indirect=True)
async def test_questions_that_take_too_long_are_stopped(api: Api, database: Database, clock: FakeClock) -> None:
    """Whatever is asked of the fleet or of what happened: 503, and the sentence says what the limit is."""
    node = await make(api, "n")
    paths = ("/fleet/summary", "/fleet/prometheus", f"/nodes/{node}/status-history", f"/nodes/{node}/events")
    async with rest_api(database, clock, query_timeout_ms=100) as hurried:
        async with database.transaction() as other:
            await other.execute(text("LOCK TABLE nodes IN ACCESS EXCLUSIVE MODE"))
            for path in paths:
                answer = await hurried("GET", path, role=CallerRole.VIEWER)
                assert answer.status_code == 503
                assert "time limit of 100 ms" in answer.json()["message"]
        assert {(await hurried("GET", path, role=CallerRole.VIEWER)).status_code for path in paths} == {200}


async def test_an_empty_fleet(api: Api) -> None:
    """Zeros are counts of nothing; measurements of nothing are left out."""
    assert await summary(api) == {
        "time": "2026-11-23T12:00:00.000Z",
        "nodes": {
            "total": 0,
            "connected": 0,
            "byStatus": {"pending": 0, "installing": 0, "online": 0, "offline": 0, "maintenance": 0},
        },
        "gpus": {"total": 0, "online": 0, "byModel": []},
        "now": {},
        "stale": {"count": 0, "nodes": []},
    }
    assert await scraped(api) == []


async def test_a_fleet_in_numbers(api: Api, database: Database, clock: FakeClock) -> None:
    """Only the GPUs of online nodes measure anything now; missing values count for nothing."""
    await make(api, "pending")
    measured = {
        "gpu_utilization": [850, None],
        "gpu_temperature": [725, 500],
        "gpu_memory_free": [60_000, 1_000],
        "gpu_power_usage": [2_504],
    }
    await online(api, database, clock, "one", A100, UNKNOWN, **measured)
    await online(api, database, clock, "two", A100, **measured | {"gpu_utilization": [0], "gpu_memory_free": None})
    gone = {"status": "offline", "gateway_id": None}
    await online(api, database, clock, "off", A100, GpuDevice("GPU-1", "H100", 94), **measured, **gone)
    await worker_did(database, await make(api, "in"), status="installing")
    found = await summary(api)
    assert found["nodes"] == {
        "total": 5,
        "connected": 2,
        "byStatus": {"pending": 1, "installing": 1, "online": 2, "offline": 1, "maintenance": 0},
    }
    assert found["gpus"] == {
        "total": 5,
        "online": 3,
        "byModel": [
            {"count": 3, "online": 2, "model": "A100"},
            {"count": 1, "online": 0, "model": "H100"},
            {"count": 1, "online": 1},
        ],
    }
    assert found["now"] == {
        "utilizationAvg": 42.5,
        "temperatureAvg": 65,  # (72.5 + 50 + 72.5) / 3
        "temperatureMax": 72.5,
        "powerUsageSum": 500.8,
        "memoryTotalSum": 160,
        "memoryUsedSum": 20,
        "memoryFreeSum": 61,
    }


async def test_what_is_gone_does_not_count(api: Api, database: Database, clock: FakeClock) -> None:
    """Deleted nodes, and GPUs that a later registration no longer has."""
    deleted = await online(api, database, clock, "deleted", A100)
    await api("DELETE", f"/nodes/{deleted}")
    node_id = await online(api, database, clock, "kept", A100, UNKNOWN)
    await register(database, node_id, UNKNOWN, now=clock.now())
    found = await summary(api)
    assert found["nodes"]["total"] == 1
    assert found["gpus"] == {"total": 1, "online": 1, "byModel": [{"count": 1, "online": 1}]}
    lines = await scraped(api)
    assert not [line for line in lines if deleted in line or "GPU-0" in line]
    assert [line for line in lines if "GPU-1" in line]


async def test_stale_nodes(api: Api, database: Database, clock: FakeClock) -> None:
    """Registered, not in maintenance, silent for longer than the timeout; the longest silent first."""
    await make(api, "never registered")
    busy = await online(api, database, clock, "in maintenance")
    await worker_did(database, busy, status="maintenance")
    first = await online(api, database, clock, "first")
    clock.advance(5)
    second = await online(api, database, clock, "second")
    await worker_did(database, first, status="offline")
    clock.advance(85)
    assert (await summary(api))["stale"]["count"] == 0
    clock.advance(0.001)
    shown = [stale(first, "first", "2026-11-23T12:00:00.000Z"), stale(second, "second", "2026-11-23T12:00:05.000Z")]
    assert (await summary(api))["stale"] == {"count": 1, "nodes": shown[:1]}
    clock.advance(5)
    await online(api, database, clock, "heard")
    assert (await summary(api))["stale"] == {"count": 2, "nodes": shown}


def stale(node_id: str, name: str, heartbeat: str) -> dict[str, str]:
    return {"_id": node_id, "name": name, "lastHeartbeat": heartbeat}


async def test_a_node_that_just_registered_is_not_stale(api: Api, database: Database, clock: FakeClock) -> None:
    """Its first heartbeat is still to come, however long ago it was created."""
    node_id = await make(api, "new")
    clock.advance(3600)
    await register(database, node_id, now=clock.now())
    assert (await summary(api))["stale"]["count"] == 0
    clock.advance(91)
    assert (await summary(api))["stale"]["count"] == 1


async def test_a_hundred_stale_nodes_are_shown(api: Api, database: Database, clock: FakeClock) -> None:
    """And all of them counted."""
    async with database.transaction() as connection:
        statement = """
            WITH made AS (
                INSERT INTO nodes (id, name, role, is_local, org_id, created_by, created_at, updated_at, registered_at)
                SELECT lpad(to_hex(i), 24, '0'), 'n', '{worker}', false, :org, 'me', :now, :now, :now
                FROM generate_series(1, 103) i RETURNING node_key
            )
            INSERT INTO node_state (node_key, status, status_changed_at, last_heartbeat, updated_at)
            SELECT node_key, 'offline', :now, :now, :now FROM made
        """
        await connection.execute(text(statement), {"org": ORG, "now": clock.now()})
    clock.advance(100)
    found = (await summary(api))["stale"]
    assert (found["count"], len(found["nodes"])) == (103, 100)
    assert found["nodes"][0]["_id"] == f"{1:024x}"


async def test_orgs(api: Api, database: Database, clock: FakeClock) -> None:
    """Everyone sees the own org, an admin all or the one asked for."""
    ours = await online(api, database, clock, "ours", A100, gpu_power_usage=[1000])
    theirs = await online(api, database, clock, "theirs", A100, org=OTHER_ORG, gpu_power_usage=[2000])
    clock.advance(91)
    for query, caller, ids, watts in [
        ("", VIEWER, [ours], 100),
        ("", {"role": CallerRole.OPERATOR}, [ours], 100),
        (f"?orgId={ORG}", VIEWER, [ours], 100),
        ("", {"org": OTHER_ORG}, [theirs], 200),
        ("", ADMIN, [ours, theirs], 300),
        (f"?orgId={OTHER_ORG}", ADMIN, [theirs], 200),
        ("?orgId=nobody", ADMIN, [], None),
    ]:
        found = await summary(api, query, **caller)
        assert found["nodes"]["total"] == found["gpus"]["total"] == found["stale"]["count"] == len(ids)
        assert [node["_id"] for node in found["stale"]["nodes"]] == ids
        assert found["now"].get("powerUsageSum") == watts
        scrape = "".join(await scraped(api, query, **caller))
        assert set(re.findall('node_id="(.*?)"', scrape)) == set(ids)


@pytest.mark.parametrize("path", ["/fleet/summary", "/fleet/prometheus"])
async def test_refusals(api: Api, path: str) -> None:
    """Always in JSON: no token, no org, another's org, parameters that do not fit."""
    assert (await api.client.get(path)).status_code == 401
    assert (await api("GET", path, org=None)).status_code == 403
    for query in (f"orgId={OTHER_ORG}", "orgId=", "orgId=%00", f"orgId={ORG}&orgId={ORG}", "surprise=1"):
        answer = await api("GET", f"{path}?{query}")
        assert answer.status_code == 400, query
        assert [detail["field"] for detail in answer.json()["details"]] == [query.partition("=")[0]]


async def test_what_prometheus_reads(api: Api, database: Database, clock: FakeClock) -> None:
    """Every metric with its help and type, in base units, under all labels."""
    state = {
        "cpu_usage": 452,
        "ram_usage": 628,
        "ram_free": 96_000,
        "last_metrics_at": clock.now() + timedelta(milliseconds=1500),
        "gpu_utilization": [850],
        "gpu_temperature": [725],
        "gpu_memory_free": [60_000],
        "gpu_power_usage": [2_504],
    }
    node_id = await online(api, database, clock, "n", A100, **state)
    await worker_did(database, node_id, last_heartbeat=clock.now() + timedelta(seconds=1))
    answer = await api("GET", "/fleet/prometheus", **VIEWER)
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    node = f'node_id="{node_id}",node_name="n",org_id="{ORG}"'
    gpu = f'{node},device_id="GPU-0",gpu_model="A100"'
    now = clock.now().timestamp()
    assert answer.text.endswith("\n")
    lines = answer.text.splitlines()
    statuses = ["pending", "installing", "online", "offline", "maintenance"]
    assert [line for line in lines if not line.startswith("#")] == [
        *(f'aiwm_node_status{{{node},status="{status}"}} {int(status == "online")}' for status in statuses),
        f"aiwm_node_websocket_connected{{{node}}} 1",
        f"aiwm_node_last_heartbeat_timestamp_seconds{{{node}}} {now + 1}",
        f"aiwm_node_last_metrics_timestamp_seconds{{{node}}} {now + 1.5}",
        f"aiwm_node_uptime_seconds{{{node}}} 3600",
        f"aiwm_node_cpu_cores{{{node}}} 32",
        f"aiwm_node_cpu_usage_ratio{{{node}}} 0.452",
        f"aiwm_node_memory_usage_ratio{{{node}}} 0.628",
        f"aiwm_node_memory_total_bytes{{{node}}} {256 * 2**30}",
        f"aiwm_node_memory_free_bytes{{{node}}} {96 * 2**30}",
        f"aiwm_gpu_info{{{gpu}}} 1",
        f"aiwm_gpu_utilization_ratio{{{gpu}}} 0.85",
        f"aiwm_gpu_memory_total_bytes{{{gpu}}} {80 * 2**30}",
        f"aiwm_gpu_memory_used_bytes{{{gpu}}} {20 * 2**30}",
        f"aiwm_gpu_memory_free_bytes{{{gpu}}} {60 * 2**30}",
        f"aiwm_gpu_temperature_celsius{{{gpu}}} 72.5",
        f"aiwm_gpu_power_usage_watts{{{gpu}}} 250.4",
    ]
    names = list(dict.fromkeys(line.partition("{")[0] for line in lines if not line.startswith("#")))
    assert [line.split()[2] for line in lines if line.startswith("# HELP ")] == names
    assert [line for line in lines if line.startswith("# TYPE ")] == [f"# TYPE {name} gauge" for name in names]


async def test_what_is_missing_has_no_line(api: Api, database: Database, clock: FakeClock) -> None:
    """Nor has what an offline node measured when it was last heard."""
    pending = await make(api, "pending")
    bare = await online(api, database, clock, "bare", UNKNOWN)
    offline = await online(api, database, clock, "offline", A100, gpu_power_usage=[2_504], cpu_usage=452)
    await worker_did(database, offline, status="offline")
    lines = await scraped(api)
    assert metrics_of(lines, pending) == {"aiwm_node_status", "aiwm_node_websocket_connected"}
    hardware = {"aiwm_node_cpu_cores", "aiwm_node_memory_total_bytes", "aiwm_gpu_info"}
    known = metrics_of(lines, pending) | hardware
    assert metrics_of(lines, bare) == known | {"aiwm_node_uptime_seconds"}
    assert metrics_of(lines, offline) == known | {"aiwm_gpu_memory_total_bytes"}
    assert not [line for line in lines if bare in line and "gpu_model" in line]


def metrics_of(lines: list[str], node_id: str) -> set[str]:
    return {line.partition("{")[0] for line in lines if node_id in line}


async def test_maintenance_measures_while_it_is_heard(api: Api, database: Database, clock: FakeClock) -> None:
    """Its samples are stored all the same; no sweep tells when they end."""
    node_id = await online(api, database, clock, "n", A100, gpu_power_usage=[2_504], status="maintenance")
    clock.advance(90)
    assert "aiwm_gpu_power_usage_watts" in metrics_of(await scraped(api), node_id)
    clock.advance(1)
    assert "aiwm_gpu_power_usage_watts" not in metrics_of(await scraped(api), node_id)


async def test_label_values_are_escaped(api: Api, database: Database, clock: FakeClock) -> None:
    """Backslash, quote and line feed, as the format demands; nothing else."""
    await online(api, database, clock, 'a"b\\c\nd\\n é{}', GpuDevice('G"0', "A\\100\n", 80.0))
    answer = await api("GET", "/fleet/prometheus", **VIEWER)
    lines = [line for line in answer.text.split("\n") if line.startswith("aiwm_gpu_info")]
    assert len(lines) == 1
    assert 'node_name="a\\"b\\\\c\\nd\\\\n é{}"' in lines[0]
    assert lines[0].endswith(',device_id="G\\"0",gpu_model="A\\\\100\\n"} 1')
