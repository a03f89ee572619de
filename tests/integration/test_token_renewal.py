"""Tokens renewed on their own connection, of the extension tokenRenewal."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest

from app.clock import timestamp
from app.storage.database import Database
from tests.fakes import FakeClock
from tests.frames import heartbeat, register, token_renew
from tests.integration.gateway import Gateway, running_gateway
from tests.integration.test_conversation import FickleDatabase, fickle
from tests.integration.test_lifecycle import beat, greet, introduce
from tests.worker import Worker

__all__ = ["fickle"]

LIFE = 600


@pytest.fixture
async def gateway(fickle: FickleDatabase, clock: FakeClock) -> AsyncIterator[Gateway]:
    """A service that answers."""
    async with running_gateway(fickle, clock) as gateway:
        yield gateway


def claims(token: str) -> dict[str, Any]:
    """What stands in a token."""
    return dict(jwt.decode(token, options={"verify_signature": False}))


async def refused(worker: Worker) -> str:
    """The sentence with which a renewal is refused."""
    answer = await worker.ask(token_renew())
    assert (answer["type"], answer["messageId"]) == ("ERROR", token_renew()["messageId"])
    assert answer["error"]["code"] == "TOKEN_RENEWAL_REFUSED"
    return str(answer["error"]["message"])


async def stay(gateway: Gateway, worker: Worker, seconds: float) -> None:
    """Let time pass on a connection that is alive."""
    while seconds > 0:
        await gateway.passes(min(seconds, 60))
        await beat(gateway, worker)
        seconds -= 60


async def test_a_token_is_renewed_in_the_last_third_of_its_life(gateway: Gateway) -> None:
    """With one of the same length and generation, which opens the door; the connection lives on past the old one."""
    clock, node_id = gateway.clock, await gateway.create_node()
    token = await gateway.make_token(node_id, expiresIn=LIFE)
    async with gateway.worker(token) as worker:
        await introduce(worker)
        await stay(gateway, worker, LIFE * 2 / 3 - 20)
        assert "too early" in await refused(worker)
        await stay(gateway, worker, 20)
        answer = await worker.ask(token_renew())
        assert (answer["type"], set(answer)) == ("TOKEN_RENEWED", {"type", "messageId", "timestamp", "data"})
        renewed, old = claims(answer["data"]["token"]), claims(token)
        assert renewed["exp"] - renewed["iat"] == LIFE
        assert renewed["iat"] == int(clock.now().timestamp())
        assert {name: renewed[name] for name in ("aud", "sub", "gen")} == {
            name: old[name] for name in ("aud", "sub", "gen")
        }
        assert renewed["jti"] != old["jti"]
        assert "too early" in await refused(worker)
        shown = await gateway.node(node_id)
        assert shown["tokenMetadata"]["tokenExpiresAt"] == answer["data"]["expiresAt"]
        assert shown.get("updatedBy") == "admin"
        await stay(gateway, worker, LIFE / 3 + 60)
        await stay(gateway, worker, LIFE / 3 - 60)
        assert (await worker.ask(token_renew()))["type"] == "TOKEN_RENEWED"
    async with gateway.worker(answer["data"]["token"]) as worker:
        await greet(worker)
    asked = {"kind": "token_renewed", "from": "now-1d", "to": "2026-11-24T00:00:00Z"}
    events = (await gateway.http.get(f"/nodes/{node_id}/events", params=asked)).json()["events"]
    assert events[1]["detail"] == {"expiresAt": answer["data"]["expiresAt"]}
    assert [each.get("actor") for each in events] == [None, None]


async def test_a_renewed_token_is_revoked_with_the_old_one(gateway: Gateway) -> None:
    """They are of one generation."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id, expiresIn=60)) as worker:
        await introduce(worker)
        await gateway.passes(50)
        renewed = (await worker.ask(token_renew()))["data"]["token"]
        await gateway.http.delete(f"/nodes/{node_id}/token")
        assert await worker.closed() == 4403
    async with gateway.worker(renewed) as worker:
        assert (await worker.receive())["error"]["code"] == "NODE_INACTIVE"


async def test_a_connection_without_renewal_ends_with_its_token(gateway: Gateway) -> None:
    """As the document's worker, which asks for none."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id, expiresIn=60)) as worker:
        await introduce(worker)
        await gateway.passes(60)
        assert await worker.closed() == 4401


async def test_a_database_that_is_away_renews_later(gateway: Gateway, fickle: FickleDatabase) -> None:
    """The worker is told so at once, and may ask again."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id, expiresIn=60)) as worker:
        await introduce(worker)
        gateway.clock.advance(50)
        fickle.is_away = True
        assert "database" in await refused(worker)
        fickle.is_away = False
        assert (await worker.ask(token_renew()))["type"] == "TOKEN_RENEWED"


async def test_renewal_can_be_forbidden(database: Database, clock: FakeClock) -> None:
    """Then workers are not told of it, and who asks all the same is refused; everything else is as it was."""
    async with running_gateway(database, clock, token_renewal=False) as gateway:
        node_id = await gateway.create_node()
        async with gateway.worker(await gateway.make_token(node_id, expiresIn=60)) as worker:
            await greet(worker)
            info = (await worker.ask(register()))["data"]["controllerInfo"]
            assert info["extensions"] == ["gpuDetails", "gpuEvents"]
            clock.advance(50)
            assert "does not renew" in await refused(worker)
            answer = await worker.ask(heartbeat(timestamp(clock.now()), ack=True))
            assert answer["data"]["status"] == "stored"


async def test_no_token_is_logged(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the old one nor the new one, at any level."""
    caplog.set_level(logging.DEBUG)
    token = await gateway.make_token(await gateway.create_node(), expiresIn=60)
    async with gateway.worker(token) as worker:
        await introduce(worker)
        await refused(worker)
        gateway.clock.advance(50)
        renewed = (await worker.ask(token_renew()))["data"]["token"]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("app.")]
    assert any("not renewed" in line for line in ours)
    assert not any(secret in line for line in ours for secret in (token, renewed))
