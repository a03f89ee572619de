"""How fast a caller may create nodes and make tokens."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.model import CallerRole
from app.storage import allowances
from app.storage.database import Database
from tests.fakes import FakeClock
from tests.rest_app import OTHER_ORG, Api, rest_api

NODE = {"name": "n", "role": ["worker"]}


@pytest.fixture
async def api(database: Database, clock: FakeClock) -> AsyncIterator[Api]:
    async with rest_api(database, clock, creations_per_minute=3) as api:
        yield api


async def create(api: Api, **caller: Any) -> int:
    return (await api("POST", "/nodes", NODE, **caller)).status_code


async def test_beyond_the_allowance_a_caller_waits(api: Api, clock: FakeClock) -> None:
    """429 with Retry-After; after so many seconds there is one more, and after a minute all of them."""
    assert [await create(api) for _ in range(3)] == [201] * 3
    refused = await api("POST", "/nodes", NODE)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "20")
    assert set(refused.json()) == {"statusCode", "error", "message", "path", "timestamp"}
    assert "3 a minute" in refused.json()["message"]
    clock.advance(19)
    assert await create(api) == 429
    clock.advance(1)
    assert [await create(api), await create(api)] == [201, 429]
    clock.advance(60)
    assert [await create(api) for _ in range(4)] == [201, 201, 201, 429]


async def test_who_was_refused_costs_the_database_nothing(
    api: Api, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the moment that it was told, then it is asked again."""
    assert [await create(api) for _ in range(4)][-1] == 429
    asked = 0
    take = allowances.take

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await take(*arguments)

    monkeypatch.setattr(allowances, "take", counted)
    assert {await create(api) for _ in range(10)} == {429}
    clock.advance(19)
    assert (await api("POST", "/nodes", NODE)).headers["Retry-After"] == "1"
    assert asked == 0
    clock.advance(1)
    assert (await create(api), asked) == (201, 1)


async def test_a_caller_takes_one_connection_at_a_time(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much it creates at once; the others of those that requests may have are for others."""
    inside, most = 0, 0
    take = allowances.take

    async def watched(*arguments: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            return await take(*arguments)
        finally:
            inside -= 1

    monkeypatch.setattr(allowances, "take", watched)
    async with rest_api(database, clock, creations_per_minute=10) as api:
        found = await asyncio.gather(*(create(api) for _ in range(20)))
        assert sorted(found) == [201] * 10 + [429] * 10
        assert most == 1
        await asyncio.gather(create(api, org=OTHER_ORG), create(api, org=OTHER_ORG))


async def test_each_has_its_own(api: Api) -> None:
    """Another org's caller, tokens beside nodes; admins have no limit."""
    node_id = (await api.new_node())["_id"]
    assert [await create(api), await create(api), await create(api)] == [201, 201, 429]
    assert await create(api, org=OTHER_ORG) == 201
    made = [(await api("POST", f"/nodes/{node_id}/token")).status_code for _ in range(4)]
    assert made == [200, 200, 200, 429]
    assert {await create(api, role=CallerRole.ADMIN) for _ in range(10)} == {201}


async def test_what_is_not_created_does_not_count(api: Api) -> None:
    """Neither bodies that are refused, nor nodes that are not there."""
    for _ in range(5):
        assert (await api("POST", "/nodes", {})).status_code == 400
        assert (await api("POST", f"/nodes/{'0' * 24}/token")).status_code == 404
    node_id = (await api.new_node())["_id"]
    assert (await api("POST", f"/nodes/{node_id}/token")).status_code == 200


async def test_it_holds_over_all_gateways(database: Database, clock: FakeClock) -> None:
    """Two services on one database, asked at the same time: together they create what one may."""
    async with (
        rest_api(database, clock, creations_per_minute=5) as here,
        rest_api(database, clock, creations_per_minute=5) as there,
    ):
        found = await asyncio.gather(*(create(api) for api in (here, there) * 6))
    assert sorted(found) == [201] * 5 + [429] * 7


async def test_none_is_none(database: Database, clock: FakeClock) -> None:
    """0: no limit."""
    async with rest_api(database, clock, creations_per_minute=0) as api:
        assert {await create(api) for _ in range(20)} == {201}


async def test_what_is_whole_again_is_forgotten(api: Api, database: Database, clock: FakeClock) -> None:
    """The table has those who have created lately, and nobody else."""
    assert [await create(api) for _ in range(4)][-1] == 429
    async with database.driver_transaction() as connection:
        await allowances.forget(connection, clock.now())
    assert await create(api) == 429
    clock.advance(60.001)
    async with database.driver_transaction() as connection:
        await allowances.forget(connection, clock.now())
        assert await connection.fetchval("SELECT count(*) FROM allowances") == 0
