"""Events as an audit: who did what to a node, from where and when, told once and never changed."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.storage.database import Database
from tests import frames
from tests.fakes import FakeClock
from tests.frames import token_renew
from tests.integration.gateway import running_gateway
from tests.integration.test_events import events
from tests.integration.test_lifecycle import introduce
from tests.integration.test_token_renewal import stay
from tests.rest_app import OTHER_ORG, USER, register, rest_api

ADDRESS = "203.0.113.10"
DEEDS = [
    ("PUT", "", {"name": "b"}, ["changed"]),
    ("PUT", "", {"status": "maintenance", "statusReason": "fan"}, ["status"]),
    ("PUT", "", {"statusReason": "fan again"}, ["changed"]),
    ("POST", "/token", {"expiresIn": 60}, ["token_made"]),
    ("POST", "/token", {"expiresIn": 60, "revokePrevious": True}, ["tokens_revoked", "token_made"]),
    ("DELETE", "/token", None, ["tokens_revoked"]),
    ("DELETE", "", None, ["deleted"]),
]
"""All that a person can do to a node, and the events of it."""


async def written(database: Database) -> list[tuple[str, str | None, str | None]]:
    """Every event as analysts see it: kind, actor, address."""
    async with database.transaction() as connection:
        rows = await connection.execute(
            text("SELECT kind, actor, host(address) FROM history.node_events ORDER BY time, kind DESC")
        )
        return [tuple(row) for row in rows]


async def test_every_deed_says_who_did_it_and_from_where(database: Database, clock: FakeClock) -> None:
    """Status by hand too, which a trigger writes; what the worker does in between is nobody's."""
    async with rest_api(database, clock, address=ADDRESS) as api:
        node_id = (await api.new_node())["_id"]
        clock.advance(1)
        await register(database, node_id, now=clock.now())
        for method, path, body, _ in DEEDS:
            clock.advance(1)
            answer = await api(method, f"/nodes/{node_id}{path}", body)
            assert answer.status_code == 200, answer.text
    people = [("created", USER, ADDRESS), *((kind, USER, ADDRESS) for *_, kinds in DEEDS for kind in kinds)]
    found = await written(database)
    assert [each for each in found if each[1] is not None] == people
    others = [each for each in found if each[1] is None]
    assert {kind for kind, *_ in others} == {"status", "registered"}
    assert {address for *_, address in others} == {None}


async def test_its_org_reads_it(database: Database, clock: FakeClock) -> None:
    """By REST, whatever the address is written like; no other org does."""
    async with rest_api(database, clock, address="::ffff:203.0.113.10") as api:
        node_id = (await api.new_node())["_id"]
        (created,) = await events(api, node_id)
        assert (created["actor"], created["address"]) == (USER, ADDRESS)
        assert (await api("GET", f"/nodes/{node_id}/events", org=OTHER_ORG)).status_code == 404


async def test_a_renewed_token_says_from_where_it_was_asked_for(database: Database, clock: FakeClock) -> None:
    """The worker has no name but its node's, and an address."""
    async with running_gateway(database, clock) as gateway:
        node_id = await gateway.create_node()
        async with gateway.worker(await gateway.make_token(node_id, expiresIn=60)) as worker:
            await introduce(worker)
            await stay(gateway, worker, 50)
            assert (await worker.ask(token_renew()))["type"] == "TOKEN_RENEWED"
        clock.advance(1)
        answer = await gateway.http.get(f"/nodes/{node_id}/events", params={"kind": "token_renewed"})
        (renewed,) = answer.json()["events"]
        assert ("actor" in renewed, renewed["address"]) == (False, "127.0.0.1")


async def test_a_registration_says_from_where(database: Database, clock: FakeClock) -> None:
    """The first one, and what another one changes: whoever has the token may be anywhere."""
    async with running_gateway(database, clock) as gateway:
        node_id = await gateway.create_node()
        async with gateway.worker(await gateway.make_token(node_id)) as worker:
            await introduce(worker)
            clock.advance(1)
            moved = frames.register()
            moved["data"]["hostname"] = "moved"
            await worker.ask(moved)
        clock.advance(1)
        found = (await gateway.http.get(f"/nodes/{node_id}/events")).json()["events"]
    told = {each["kind"]: each.get("address") for each in found if "actor" not in each and each["kind"] != "status"}
    assert told == {"registered": "127.0.0.1", "hardware_changed": "127.0.0.1"}


STATEMENTS = (
    "UPDATE node_events SET actor = 'somebody else'",
    "UPDATE node_events SET address = NULL WHERE kind = 'created'",
    "DELETE FROM node_events",
    "TRUNCATE node_events",
    "TRUNCATE nodes CASCADE",
    "DELETE FROM nodes",
)


async def test_what_was_written_stays(database: Database, clock: FakeClock) -> None:
    """Not even the tables' owner, as whom the service itself comes, can change or take away any of it."""
    async with rest_api(database, clock, address=ADDRESS) as api:
        await api.new_node()
    for statement in STATEMENTS:
        with pytest.raises(DBAPIError, match="What happened is neither changed nor taken away"):
            async with database.transaction() as connection:
                await connection.execute(text(statement))
    assert await written(database) == [("created", USER, ADDRESS)]


async def test_no_deed_without_its_event(database: Database, clock: FakeClock) -> None:
    """Where the event cannot be written the node stays as it was, and no node is made: they are one transaction."""
    async with rest_api(database, clock) as api:
        node_id = (await api.new_node())["_id"]
        await register(database, node_id, now=clock.now())
        before = await whole(database)
        async with database.transaction() as connection:
            await connection.execute(text("ALTER TABLE node_events ADD CHECK (actor IS NULL) NOT VALID"))
        deeds = [("POST", "/nodes", {"name": "n", "role": ["worker"]})]
        for method, path, body in deeds + [
            (method, f"/nodes/{node_id}{path}", body) for method, path, body, _ in DEEDS
        ]:
            assert (await api(method, path, body)).status_code == 500, (method, path, body)
            assert await whole(database) == before


async def whole(database: Database) -> list[tuple[object, ...]]:
    """Every node with all that is kept of it."""
    async with database.transaction() as connection:
        rows = await connection.execute(text("SELECT * FROM nodes JOIN node_state USING (node_key)"))
        return [tuple(row) for row in rows]
