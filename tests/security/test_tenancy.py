"""Organisations in one service: what one of them does, asks and is told knows nothing of the others."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from httpx import Response
from sqlalchemy import text

from app.install.daemon_file import DaemonFile
from app.model import CallerRole
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from tests.fakes import FakeClock
from tests.integration.fleet_of_analysts import seed
from tests.rest_app import Api, rest_api
from tests.security.questions import ABSENT, ABSENT_NODE, FOREIGN, FOREIGN_NODE, OWN, OWN_NODE, questions
from tests.security.statements import statements
from tests.security.tenancy import (
    CALLERS,
    NOBODY,
    OPERATIONS,
    STRANGER,
    Operation,
    Reach,
    Row,
    expected,
    routed,
)

ELSEWHERE = {"X-Forwarded-For": "203.0.113.9"}
"""Whoever is here may read /metrics without a token."""
MARKS = (FOREIGN, FOREIGN_NODE, "gpu-03", "GPU-3-", "b8", "the foreign reason")
"""What stands in the other organisation's rows and nowhere else."""


@pytest.fixture
async def api(database: Database, clock: FakeClock) -> AsyncIterator[Api]:
    """The whole API, with a daemon to give away."""
    async with rest_api(database, clock, daemon=DaemonFile(b"PK", "00" * 32)) as api:
        yield api


@pytest.fixture
async def description(api: Api) -> dict[str, Any]:
    """The OpenAPI document."""
    return dict((await api.client.get("/schema/openapi.json")).json())


async def ask(api: Api, caller: str, method: str, path: str, body: Any = None) -> Response:
    """A request of one of CALLERS."""
    if caller == NOBODY:
        content = None if body is None else msgspec.json.encode(body)
        return await api.client.request(method, path, content=content, headers=ELSEWHERE)
    role, org = (CallerRole.VIEWER, None) if caller == STRANGER else (CallerRole(caller), OWN)
    return await api(method, path, body, role=role, org=org, headers=ELSEWHERE)


def place(operation: Operation, org: str, node_id: str) -> tuple[str, Any]:
    """Path and body of an operation on a node, or on an organisation."""
    match operation.reach:
        case Reach.NODE:
            return operation.path.replace("{node_id}", node_id), operation.body
        case Reach.NODES:
            return f"{operation.path}?orgId={org}", operation.body
        case Reach.NEW:
            return operation.path, {**(operation.body or {}), "orgId": org}
        case Reach.OPEN | Reach.SERVICE:
            return operation.path, operation.body


async def test_every_route_has_its_row(api: Api, description: dict[str, Any]) -> None:
    """Of those that the application really has, and of those that it describes."""
    described = {(method.upper(), path) for path, methods in description["paths"].items() for method in methods}
    assert {(operation.method, operation.path) for operation in OPERATIONS} == described
    assert routed(api.app) == described


async def test_the_matrix(api: Api) -> None:
    """Each operation by each caller on the own, another and no organisation's: the status, and nothing else, tells."""
    found, wanted = [], []
    for operation in OPERATIONS:
        for caller in CALLERS:
            nodes = [await new_node(api, OWN), await new_node(api, FOREIGN), ABSENT_NODE]
            answers = [
                await ask(api, caller, operation.method, *place(operation, org, node_id))
                for org, node_id in zip((OWN, FOREIGN, ABSENT), nodes, strict=True)
            ]
            found.append(Row(operation.name, caller, *(answer.status_code for answer in answers)))
            wanted.append(expected(operation, caller))
            if caller != CallerRole.ADMIN:
                shown = [alike(answer, node_id) for answer, node_id in zip(answers, nodes, strict=True)]
                assert shown[1] == shown[2], (operation.name, caller)
    assert found == wanted


async def new_node(api: Api, org: str) -> str:
    answer = await api(
        "POST", "/nodes", {"name": "n", "role": ["worker"], "orgId": org}, role=CallerRole.ADMIN, org=OWN
    )
    return str(answer.json()["_id"])


def alike(answer: Response, node_id: str) -> tuple[int, dict[str, str], Any]:
    """An answer without what the question itself names: the node, the organisation, the time."""
    headers = dict(answer.headers) | {"content-length": ""}
    body = answer.text.replace(node_id, "the node").replace(FOREIGN, "the org").replace(ABSENT, "the org")
    if answer.status_code >= 400:
        body = json.loads(body) | {"timestamp": ""}
    return answer.status_code, headers, body


async def test_another_organisation_changes_no_answer(
    api: Api, database: Database, engine: StorageEngine, description: dict[str, Any]
) -> None:
    """Lists, counts, searches, orders, histories, fleets, files, errors: the same before it came and after, to the byte."""
    await seed(database, engine, [OWN])
    await about(database, OWN_NODE, "b7", "the own reason")
    asked = [*questions(description)]
    before = {path: await told(api, path) for path in asked}
    by_admin = await ask(api, CallerRole.ADMIN, "GET", "/fleet/summary")
    await seed(database, engine, [FOREIGN])
    await about(database, FOREIGN_NODE, "b8", "the foreign reason")
    after = {path: await told(api, path) for path in asked}
    assert {path for path in asked if before[path] != after[path]} == set()
    for path, (status, body) in after.items():
        if status == 200:
            assert not {mark for mark in MARKS if mark.encode() in body}, path
    assert (await ask(api, CallerRole.ADMIN, "GET", "/fleet/summary")).content != by_admin.content  # it is there


async def about(database: Database, node_id: str, rack: str, reason: str) -> None:
    """What the seed leaves out: metadata, a hostname, a reason."""
    async with database.transaction() as connection:
        values = {"id": node_id, "rack": rack, "reason": reason}
        await connection.execute(
            text(
                "UPDATE nodes SET metadata = jsonb_build_object('rack', CAST(:rack AS text)), hostname = :rack WHERE id = :id"
            ),
            values,
        )
        await connection.execute(
            text("""
                UPDATE node_state SET status_reason = :reason
                WHERE node_key = (SELECT node_key FROM nodes WHERE id = :id)
            """),
            values,
        )


async def told(api: Api, path: str) -> tuple[int, bytes]:
    """What a viewer is told; an error without its time."""
    if path == "/metrics":
        return 0, b""  # counts of the whole service, which says nothing of whose they are
    answer = await ask(api, CallerRole.VIEWER, "GET", path)
    if answer.status_code >= 400:
        return answer.status_code, json.dumps(answer.json() | {"timestamp": ""}).encode()
    return answer.status_code, answer.content


async def test_what_is_foreign_and_what_is_not_there_are_looked_for_alike(api: Api, database: Database) -> None:
    """By the same statements, so that the time an answer takes tells no more than the answer."""
    foreign = await new_node(api, FOREIGN)
    with statements(database) as heard:
        for operation in OPERATIONS:
            if operation.reach is Reach.NODE:
                asked = []
                for node_id in (ABSENT_NODE, foreign, ABSENT_NODE):  # the first time a connection learns its types
                    heard.clear()
                    await ask(api, CallerRole.OPERATOR, operation.method, *place(operation, OWN, node_id))
                    await asyncio.sleep(0)  # the driver tells a turn later
                    asked.append([*heard])
                assert asked[1] == asked[2], operation.name
                assert any("nodes" in statement for statement in asked[1]), operation.name


async def test_a_cursor_of_somebody_elses_walk_shows_nothing_of_it(
    api: Api, database: Database, engine: StorageEngine
) -> None:
    """Whoever got hold of it goes on in their own list, or is refused."""
    await seed(database, engine)
    for sort in ("name", "-name", "createdAt", "-createdAt", "lastHeartbeat", "-lastHeartbeat"):
        walk = await ask(api, CallerRole.ADMIN, "GET", f"/nodes?limit=1&sort={sort}")
        while (cursor := walk.json().get("nextCursor")) is not None:
            path = f"/nodes?limit=1&cursor={cursor}"
            answer = await ask(api, CallerRole.VIEWER, "GET", path)
            assert not any(mark in answer.text for mark in MARKS), sort
            walk = await ask(api, CallerRole.ADMIN, "GET", path)
    events = await ask(api, CallerRole.ADMIN, "GET", f"/nodes/{FOREIGN_NODE}/events?limit=1&from=2026-11-22T00:00:00Z")
    assert events.status_code == 200
    cursor = events.json().get("nextCursor", "AAAA")
    answer = await ask(api, CallerRole.VIEWER, "GET", f"/nodes/{OWN_NODE}/events?cursor={cursor}")
    assert not any(mark in answer.text for mark in MARKS)
