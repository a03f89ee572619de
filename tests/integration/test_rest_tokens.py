"""Node tokens over HTTP: made, replaced, revoked."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from app.storage.database import Database
from tests.fakes import FakeClock
from tests.rest_app import USER, Api, rest_api


@pytest.fixture
async def api(database: Database, clock: FakeClock) -> AsyncIterator[Api]:
    async with rest_api(database, clock) as api:
        yield api


async def is_disabled(database: Database, node_id: str) -> bool:
    async with database.transaction() as connection:
        found = await connection.execute(text("SELECT disabled FROM nodes WHERE id = :id"), {"id": node_id})
        return bool(found.scalar_one())


async def test_a_token_comes_with_its_script(api: Api) -> None:
    """For a year where nothing is said; neither is to be kept by anything between."""
    node_id = (await api.new_node())["_id"]
    answer = await api("POST", f"/nodes/{node_id}/token", {"expiresIn": 31536000})
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    made = answer.json()
    assert set(made) == {"token", "expiresAt", "installScript"}
    assert made["expiresAt"] == "2027-11-23T12:00:00.000Z"
    claims = api.tokens.verify_node(made["token"])
    assert claims.node_id == node_id
    script = made["installScript"]
    assert script.startswith("#!/bin/bash\n# Hydra Node Installation Script\n# Generated: 2026-11-23T12:00:00.000Z\n")
    assert f'export HYDRA_NODE_TOKEN="{made["token"]}"\n' in script
    assert 'export HYDRA_CONTROLLER_ENDPOINT="ws://localhost:3305"\n' in script


@pytest.mark.parametrize("body", [None, b"", {}])
async def test_the_body_may_be_missing(api: Api, body: Any) -> None:
    """One year is the default."""
    node_id = (await api.new_node())["_id"]
    answer = await api("POST", f"/nodes/{node_id}/token", body)
    assert answer.json()["expiresAt"] == "2027-11-23T12:00:00.000Z"


@pytest.mark.parametrize("expires_in", [60, 315_360_000])
async def test_a_lifetime_within_bounds(api: Api, expires_in: int) -> None:
    """A minute to ten years."""
    node_id = (await api.new_node())["_id"]
    assert (await api("POST", f"/nodes/{node_id}/token", {"expiresIn": expires_in})).status_code == 200


@pytest.mark.parametrize("expires_in", [59, 315_360_001, 0, -60, "3600", 3600.5, True, None, 10**30])
async def test_any_other_lifetime_is_refused(api: Api, expires_in: Any) -> None:
    """And named."""
    node_id = (await api.new_node())["_id"]
    answer = await api("POST", f"/nodes/{node_id}/token", {"expiresIn": expires_in})
    assert answer.status_code == 400
    assert answer.json()["details"][0]["field"] == "expiresIn"


async def test_the_node_tells_of_its_token(api: Api, clock: FakeClock) -> None:
    """When it was made and when it ends, and who made it; never the token itself."""
    node_id = (await api.new_node())["_id"]
    clock.advance(5.5)
    made = (await api("POST", f"/nodes/{node_id}/token", {"expiresIn": 60})).json()
    node = (await api("GET", f"/nodes/{node_id}")).json()
    assert node["tokenMetadata"] == {
        "tokenGeneratedAt": "2026-11-23T12:00:05.500Z",
        "tokenExpiresAt": made["expiresAt"],
    }
    assert (node["updatedAt"], node["updatedBy"]) == ("2026-11-23T12:00:05.500Z", USER)
    assert made["token"] not in str(node)


async def test_older_tokens_stay_valid_unless_revoked(api: Api) -> None:
    """With `revokePrevious` the generation rises and the socket of an older token closes with 4401."""
    node_id = (await api.new_node())["_id"]
    path = f"/nodes/{node_id}/token"
    generations = []
    for body in ({}, {"revokePrevious": False}, {"revokePrevious": True}):
        made = (await api("POST", path, body)).json()
        generations.append(api.tokens.verify_node(made["token"]).generation)
    assert generations == [0, 0, 1]
    assert api.sockets.revoked == [(node_id, 4401, 1)]


async def test_revoking_disables_the_node_until_a_new_token(api: Api, database: Database) -> None:
    """Its socket closes with 4403; the tokens of before stay revoked when it is enabled again."""
    node_id = (await api.new_node())["_id"]
    path = f"/nodes/{node_id}/token"
    before = api.tokens.verify_node((await api("POST", path)).json()["token"]).generation
    answer = await api("DELETE", path)
    assert answer.status_code == 200
    assert list(answer.json()) == ["message"]
    assert await is_disabled(database, node_id)
    assert api.sockets.revoked == [(node_id, 4403, before + 1)]
    assert "tokenMetadata" not in (await api("GET", f"/nodes/{node_id}")).json()
    after = api.tokens.verify_node((await api("POST", path)).json()["token"]).generation
    assert after == before + 1
    assert not await is_disabled(database, node_id)


async def test_a_node_token_opens_nothing_here(api: Api) -> None:
    """401."""
    node_id = (await api.new_node())["_id"]
    token = (await api("POST", f"/nodes/{node_id}/token")).json()["token"]
    answer = await api("GET", "/nodes", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


async def test_a_token_for_nobody(api: Api) -> None:
    """404."""
    assert (await api("POST", f"/nodes/{'0' * 24}/token")).status_code == 404
    assert (await api("DELETE", f"/nodes/{'0' * 24}/token")).status_code == 404


async def test_revocations_at_once_each_count(api: Api) -> None:
    """Read and written under one lock: no two tokens share a generation."""
    node_id = (await api.new_node())["_id"]
    body = {"revokePrevious": True}
    made = await asyncio.gather(*(api("POST", f"/nodes/{node_id}/token", body) for _ in range(8)))
    generations = [api.tokens.verify_node(answer.json()["token"]).generation for answer in made]
    assert sorted(generations) == list(range(1, 9))
