"""The alert rules: each fires on a fleet that has its fault, and is silent on one that is well.

Their SQL is asked as Grafana asks: by a login of `aiwm db analyst`, and read as Grafana's alerting reads a table.
"""

import json
import os
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from sqlalchemy import insert, text

from app.domain.maintenance import Maintenance
from app.retention import Retention
from app.storage import analysts, tables
from app.storage.analysts import Analyst
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.engines.timescale import AGGREGATES
from tests.databases import PASSWORD, as_login
from tests.fakes import FakeClock
from tests.integration.test_analysts import Connection

ROOT: Final = Path(__file__).parents[2]
RULES: Final = {
    rule["uid"]: rule
    for group in yaml.safe_load((ROOT / "dashboards/grafana/provisioning/alerting/rules.yaml").read_text())["groups"]
    for rule in group["rules"]
}
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NODES: Final = ("gpu-01", "gpu-02")
EVERY: Final = 5 * MINUTE

SECOND: Final = "node_key = (SELECT max(node_key) FROM nodes)"

Labels = dict[str, Any]


async def firing(connection: Connection, uid: str) -> list[Labels]:
    """The labels of the alerts of a rule: of each row whose number is over the threshold.

    As Grafana takes a table without times: one column is a number, all others are text and become labels.
    """
    query, threshold = RULES[uid]["data"]
    (over,) = threshold["model"]["conditions"][0]["evaluator"]["params"]
    rows = await connection.fetch(query["model"]["rawSql"])
    alerts = []
    for row in rows:
        numbers = [value for value in row.values() if isinstance(value, int | float)]
        labels = {name: value for name, value in row.items() if isinstance(value, str | None)}
        assert len(numbers) == 1, row
        assert len(labels) == len(row) - 1, row
        if numbers[0] > over:
            alerts.append(labels)
    assert len({tuple(labels.items()) for labels in alerts}) == len(alerts), (
        "two alerts of the same labels are an error"
    )
    return alerts


async def change(database: Database, *statements: str) -> None:
    """Statements of the owner's."""
    async with database.transaction() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def make_fleet(database: Database, engine: StorageEngine, now: datetime) -> None:
    """Two nodes of two GPUs, at work for eight hours, and all is well."""
    start = now - 8 * HOUR
    times = [start + number * EVERY for number in range(int(8 * HOUR / EVERY) + 1)]
    async with database.transaction() as connection:
        await engine.make_room(connection, {time.date() for time in times})
        for number, name in enumerate(NODES, start=1):
            about: dict[str, Any] = {"id": f"{number:024x}", "name": name, "org_id": "acme", "role": ["worker"]}
            about |= {"is_local": False, "created_by": "ada", "created_at": start, "updated_at": start}
            row = await connection.execute(
                insert(tables.nodes).values(about | {"registered_at": start}).returning(tables.nodes.c.node_key)
            )
            node = {"node_key": row.scalar_one()}
            await connection.execute(
                insert(tables.node_state).values(
                    node
                    | dict.fromkeys(("last_heartbeat", "last_metrics_at", "metrics_time", "updated_at"), now)
                    | {"status": "online", "status_changed_at": start}
                    | {"gpu_utilization": [400, 400], "gpu_temperature": [600, 600]}
                )
            )
            for gpu in (1, 2):
                device = node | {"gpu": gpu, "device_id": f"GPU-{number}-{gpu}", "model": "H100"}
                seen = {"memory_total": 80_000, "first_seen": start, "last_seen": start}
                await connection.execute(insert(tables.gpus).values(device | seen))
                values = {"utilization": 400, "memory_total": 80_000, "memory_used": 70_000, "temperature": 600}
                await connection.execute(
                    insert(tables.gpu_metrics), [node | {"gpu": gpu, "time": time} | values for time in times]
                )
            await connection.execute(
                insert(tables.node_metrics), [node | {"time": time, "disk_usage": 500} for time in times]
            )
    await ingested(database, times)


async def ingested(database: Database, times: list[datetime], *, late: bool = False) -> None:
    """Frames were stored in these minutes, on time or all of them late."""
    minutes = {time.replace(second=0, microsecond=0) for time in times}
    counts = {"writer": 1, "frames": 4, "rows": 12, "late_frames": 4 if late else 0, "duplicates": 0}
    delays = {"delay_ms": 40, "longest_delay_ms": 20}
    async with database.transaction() as connection:
        await connection.execute(insert(tables.ingest_minutes), [counts | delays | {"minute": m} for m in minutes])


async def roll(database: Database, engine: StorageEngine, until: datetime) -> None:
    """Rollups are computed up to about there, by whichever way the storage engine has."""
    async with database.transaction() as connection:
        has_aggregates = await connection.scalar(text("SELECT edition = 'community' FROM installation"))
    if not has_aggregates:
        maintenance = Maintenance(database, engine, Retention(), FakeClock(until))
        while await maintenance.once():
            pass
        return
    # By hand: policies would be run by the server meanwhile.
    for name in AGGREGATES:
        async with database.alone("test") as connection:
            assert connection is not None
            refresh = "CALL refresh_continuous_aggregate($1::text::regclass, NULL, $2::timestamptz)"
            await connection.execute(refresh, name, until)


@pytest.fixture
def now() -> datetime:
    """The present: rules go by the database's own clock."""
    return datetime.now(UTC)


@pytest.fixture
async def fleet(database: Database, engine: StorageEngine, now: datetime) -> AsyncIterator[Database]:
    """A fleet that is well, and a login for Grafana."""
    await make_fleet(database, engine, now)
    login = f"grafana_{os.getpid()}"
    await analysts.make(database, Analyst(login, None), PASSWORD)
    yield database
    await change(database, f"DROP ROLE {login}")


async def alerts_of(database: Database, uid: str) -> list[Labels]:
    """What fires now, asked by Grafana's login."""
    async with as_login(database, f"grafana_{os.getpid()}") as connection:
        return await firing(connection, uid)


IDLE_NOW = f"UPDATE node_state SET gpu_utilization = '{{400,10}}' WHERE {SECOND}"
IDLE_SAMPLES = f"UPDATE gpu_metrics SET utilization = 10 WHERE gpu = 2 AND {SECOND}"
HOT = f"UPDATE node_state SET gpu_temperature = '{{600,910}}' WHERE {SECOND}"
OFFLINE = f"UPDATE node_state SET status = 'offline' WHERE {SECOND}"
MAINTENANCE = f"UPDATE node_state SET status = 'maintenance' WHERE {SECOND}"
OLD = f"UPDATE node_state SET metrics_time = now() - interval '6 minutes' WHERE {SECOND}"
NEVER = f"UPDATE node_state SET metrics_time = NULL WHERE {SECOND}"
DELETED = f"UPDATE nodes SET deleted_at = now() WHERE {SECOND}"
REMOVED = f"UPDATE gpus SET removed_at = now() WHERE {SECOND}"
FULL = f"UPDATE node_metrics SET disk_usage = 950 WHERE {SECOND}"
CLEARED = f"UPDATE node_metrics SET disk_usage = 500 WHERE time > now() - interval '6 minutes' AND {SECOND}"
NO_DISK = f"UPDATE node_metrics SET disk_usage = NULL WHERE {SECOND}"
EMPTY = f"UPDATE gpu_metrics SET memory_used = 1000 WHERE {SECOND}"
NO_SENSOR = f"UPDATE gpu_metrics SET utilization = NULL WHERE {SECOND}"
GAP = f"DELETE FROM gpu_metrics WHERE time > now() - interval '4 hours' AND {SECOND}"

NODE: Final = {"node_id": f"{2:024x}", "node_name": "gpu-02", "org_id": "acme"}
GPU: Final = NODE | {"device_id": "GPU-2-2", "gpu_model": "H100"}
FAULTS: Final = {
    "offline": ("aiwm-node-offline", (OFFLINE,), NODE),
    "hot": ("aiwm-gpu-hot", (HOT,), GPU),
    "late": ("aiwm-telemetry-late", (OLD,), NODE),
    "without metrics": ("aiwm-telemetry-late", (NEVER,), NODE),
    "idle": ("aiwm-gpu-idle", (IDLE_NOW, IDLE_SAMPLES), GPU),
    "full": ("aiwm-disk-full", (FULL,), NODE),
}
NO_FAULTS: Final = {
    "in maintenance": ("aiwm-node-offline", (MAINTENANCE,)),
    "deleted": ("aiwm-node-offline", (OFFLINE, DELETED)),
    "hot before it went offline": ("aiwm-gpu-hot", (HOT, OFFLINE)),
    "hot and taken out": ("aiwm-gpu-hot", (HOT, REMOVED)),
    "offline, so silent": ("aiwm-telemetry-late", (OLD, OFFLINE)),
    "at work again": ("aiwm-gpu-idle", (IDLE_SAMPLES,)),
    "idle since a moment ago": ("aiwm-gpu-idle", (IDLE_NOW,)),
    "idle and empty": ("aiwm-gpu-idle", (IDLE_NOW, IDLE_SAMPLES, EMPTY)),
    "without a sensor": ("aiwm-gpu-idle", (IDLE_NOW, NO_SENSOR)),
    "silent for some of the hours": ("aiwm-gpu-idle", (IDLE_NOW, IDLE_SAMPLES, GAP)),
    "room again": ("aiwm-disk-full", (FULL, CLEARED)),
    "without a disk": ("aiwm-disk-full", (NO_DISK,)),
}


async def test_all_is_quiet_where_all_is_well(fleet: Database, engine: StorageEngine, now: datetime) -> None:
    """None of them fires."""
    await roll(fleet, engine, now)
    assert {uid: await alerts_of(fleet, uid) for uid in RULES} == {uid: [] for uid in RULES}


async def test_all_is_quiet_before_the_first_node(database: Database) -> None:
    """On a platform that has just been made, too."""
    async with database.transaction() as connection:
        for rule in RULES.values():
            found = await connection.execute(text(rule["data"][0]["model"]["rawSql"]))
            assert found.all() == []


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_told(fleet: Database, engine: StorageEngine, now: datetime, fault: str) -> None:
    """By its own rule alone, with the labels of what has it."""
    uid, statements, labels = FAULTS[fault]
    await change(fleet, *statements)
    await roll(fleet, engine, now)
    assert {each: alerts for each in RULES if (alerts := await alerts_of(fleet, each))} == {uid: [labels]}


@pytest.mark.parametrize("case", NO_FAULTS)
async def test_what_is_no_fault_is_not_told(fleet: Database, engine: StorageEngine, now: datetime, case: str) -> None:
    """However much it looks like one."""
    uid, statements = NO_FAULTS[case]
    await change(fleet, *statements)
    await roll(fleet, engine, now)
    assert await alerts_of(fleet, uid) == []


async def test_rollups_that_stand_still_are_told(fleet: Database, engine: StorageEngine, now: datetime) -> None:
    """Those of 5 minutes after an hour; those of an hour have time yet."""
    await roll(fleet, engine, now - 3 * HOUR)
    behind = await alerts_of(fleet, "aiwm-rollup-behind")
    assert sorted(labels["rollup"] for labels in behind) == [
        *("gpu_metrics_5m", "gpu_metrics_5m_by_node"),
        "node_metrics_5m",
    ]
    await roll(fleet, engine, now)
    assert await alerts_of(fleet, "aiwm-rollup-behind") == []


async def test_a_fleet_that_is_silent_has_nothing_to_roll_up(
    fleet: Database, engine: StorageEngine, now: datetime
) -> None:
    """Nor has one that sends what it could not send before: rollups of the past are computed in their turn."""
    await roll(fleet, engine, now - 3 * HOUR)
    await change(fleet, "DELETE FROM ingest_minutes WHERE minute > now() - interval '200 minutes'")
    assert await alerts_of(fleet, "aiwm-rollup-behind") == []
    await ingested(fleet, [now - 2 * HOUR], late=True)
    assert await alerts_of(fleet, "aiwm-rollup-behind") == []


@pytest.mark.parametrize("uid", RULES)
def test_a_rule_leads_to_what_is_there(uid: str) -> None:
    """Its runbook's heading, its dashboard's panel; its words are never taken for variables of Grafana's environment."""
    rule = RULES[uid]
    notes = rule["annotations"]
    (anchor,) = re.findall(r"See docs/operations\.md#([a-z-]+)$", notes["runbook"])
    headings = re.findall(r"^### (.+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
    boards = [json.loads(file.read_text()) for file in (ROOT / "dashboards/grafana/dashboards").glob("*.json")]
    panels = {(board["uid"], panel["id"]) for board in boards for panel in board["panels"]}
    assert (rule["dashboardUid"], rule["panelId"]) in panels
    assert (notes["__dashboardUid__"], notes["__panelId__"]) == (rule["dashboardUid"], str(rule["panelId"]))
    assert "$" not in json.dumps(rule)
    assert rule["noDataState"] == "OK"
    assert {each["execErrState"] for each in RULES.values()} == {"KeepLast", "Error"}
