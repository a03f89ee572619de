"""The WebSocket contract over real sockets: doors, refusals, acknowledgements, and a database that goes away."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import timestamp
from app.domain.auth import Tokens
from app.errors import StorageUnavailable
from app.storage.database import Database
from app.ws import endpoint
from tests.fakes import FakeClock
from tests.frames import heartbeat, metrics, register
from tests.integration.gateway import SECRET, Gateway, eventually, running_gateway
from tests.integration.test_lifecycle import beat, greet, introduce
from tests.worker import Worker

NOWHERE = "0" * 24


class FickleDatabase(Database):
    """A database that is away when the test says so."""

    is_away = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """As usual, unless away."""
        self._may_fail()
        async with super().transaction() as connection:
            yield connection

    @asynccontextmanager
    async def driver_transaction(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """As usual, unless away."""
        self._may_fail()
        async with super().driver_transaction() as driver:
            yield driver

    async def ping(self, seconds: float = 2.0) -> None:
        """As usual, unless away."""
        self._may_fail()
        await super().ping(seconds)

    def portion(self, _connections: int) -> "FickleDatabase":
        """All of it, so that nobody gets round the door."""
        return self

    def _may_fail(self) -> None:
        if self.is_away:
            raise StorageUnavailable


@pytest.fixture
async def fickle(database: Database) -> AsyncIterator[FickleDatabase]:
    """The test's database, behind a door that the test can shut."""
    fickle = FickleDatabase(database.url, pool_size=database.pool_size)
    await database.close()  # a storage engine of the tests has room for one pool at a time
    yield fickle
    await fickle.close()


@pytest.fixture
async def gateway(fickle: FickleDatabase, clock: FakeClock) -> AsyncIterator[Gateway]:
    """A service that answers."""
    async with running_gateway(fickle, clock) as gateway:
        yield gateway


async def refused(gateway: Gateway, token: str | None, first: str | None = None) -> tuple[str, int]:
    """The error code of CONNECTION_ACK and the close code that a token gets."""
    async with gateway.worker(token) as worker:
        if first is not None:
            await worker.send(first)
        ack = await worker.receive()
        assert (ack["type"], ack["status"]) == ("CONNECTION_ACK", "error")
        assert ack["error"]["message"]
        return ack["error"]["code"], await worker.closed()


async def test_the_token_may_come_in_the_first_frame(gateway: Gateway) -> None:
    """A client that cannot set headers sends the document's auth object."""
    node_id = await gateway.create_node()
    token = await gateway.make_token(node_id)
    async with gateway.worker(None) as worker:
        ack = await worker.ask({"auth": {"token": token}})
        assert (ack["status"], ack["nodeId"]) == ("success", node_id)


async def test_each_refusal_has_its_code(gateway: Gateway) -> None:
    """INVALID_TOKEN, TOKEN_EXPIRED, NODE_NOT_FOUND and NODE_INACTIVE, each with its close code."""
    tokens = Tokens((SECRET,), gateway.clock)
    node_id = await gateway.create_node()
    token = await gateway.make_token(node_id, expiresIn=60)
    assert await refused(gateway, "nonsense") == ("INVALID_TOKEN", 4401)
    assert await refused(gateway, None, "{}") == ("INVALID_TOKEN", 4401)
    foreign = Tokens(("f" * 32,), gateway.clock).issue_node(node_id, 0, 3600).token
    assert await refused(gateway, foreign) == ("INVALID_TOKEN", 4401)
    portal = gateway.http.headers["Authorization"].removeprefix("Bearer ")
    assert await refused(gateway, portal) == ("INVALID_TOKEN", 4401)
    assert await refused(gateway, tokens.issue_node(NOWHERE, 0, 3600).token) == ("NODE_NOT_FOUND", 4404)
    await gateway.http.delete(f"/nodes/{node_id}/token")
    assert await refused(gateway, token) == ("NODE_INACTIVE", 4403)
    renewed = await gateway.make_token(node_id)
    assert await refused(gateway, token) == ("INVALID_TOKEN", 4401)
    async with gateway.worker(renewed) as worker:
        await greet(worker)
    gateway.clock.advance(61)
    assert await refused(gateway, token) == ("TOKEN_EXPIRED", 4401)
    await gateway.http.delete(f"/nodes/{node_id}")
    assert await refused(gateway, renewed) == ("NODE_NOT_FOUND", 4404)


async def test_a_database_that_is_away_refuses_for_the_moment(gateway: Gateway, fickle: FickleDatabase) -> None:
    """Nobody can be checked without it: INTERNAL_ERROR, 1011, come again."""
    token = await gateway.make_token(await gateway.create_node())
    fickle.is_away = True
    assert await refused(gateway, token) == ("INTERNAL_ERROR", 1011)


async def test_silence_at_the_door_is_refused(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token in time: INVALID_TOKEN, 4401."""
    monkeypatch.setattr(endpoint, "AUTHENTICATION_SECONDS", 0.05)
    assert await refused(gateway, None) == ("INVALID_TOKEN", 4401)


async def test_open_sockets_learn_of_revocation_and_deletion(gateway: Gateway) -> None:
    """revokePrevious closes with 4401, DELETE token with 4403, DELETE node with 4404."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        await gateway.make_token(node_id)
        await beat(gateway, worker)
        newer = await gateway.make_token(node_id, revokePrevious=True)
        assert await worker.closed() == 4401
    async with gateway.worker(newer) as worker:
        await greet(worker)
        await gateway.http.delete(f"/nodes/{node_id}/token")
        assert await worker.closed() == 4403
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await greet(worker)
        await gateway.http.delete(f"/nodes/{node_id}")
        assert await worker.closed() == 4404


async def test_frames_that_do_not_fit_are_answered_and_forgiven(gateway: Gateway) -> None:
    """ERROR with the frame's id; binary frames, unknown types and broken JSON leave the connection open."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await greet(worker)
        assert (await worker.ask("{"))["error"]["code"] == "INVALID_MESSAGE"
        assert (await worker.ask(b"\x00"))["messageId"] is None
        answer = await worker.ask({"type": "HELLO", "messageId": "m"})
        assert (answer["messageId"], answer["error"]["code"]) == ("m", "UNKNOWN_TYPE")
        assert (await worker.ask(heartbeat()))["error"]["code"] == "REGISTRATION_FAILED"
        assert (await worker.ask(register()))["type"] == "REGISTER_ACK"


async def test_too_much_is_too_much(gateway: Gateway) -> None:
    """A frame over 256 KiB closes with 1009, the twentieth malformed one in a row with 1008."""
    node_id = await gateway.create_node()
    token = await gateway.make_token(node_id)
    async with gateway.worker(token) as worker:
        await greet(worker)
        await worker.send(json.dumps({"type": "x" * (256 * 1024)}))
        assert await worker.closed() == 1009
    async with gateway.worker(token) as worker:
        await greet(worker)
        for _ in range(20):
            await worker.send("{")
        assert await worker.closed() == 1008


async def test_a_resent_sample_is_a_duplicate_whatever_the_connection(gateway: Gateway) -> None:
    """The same metrics sent twice, also after a reconnect, are stored once and acknowledged as what they are."""
    node_id = await gateway.create_node()
    token = await gateway.make_token(node_id)
    frame = metrics(ack=True)
    async with gateway.worker(token) as worker:
        await introduce(worker)
        assert (await worker.ask(frame))["data"] == {"ackFor": frame["messageId"], "status": "stored"}
        assert (await worker.ask(frame))["data"]["status"] == "duplicate"
    async with gateway.worker(token) as worker:
        await greet(worker)
        assert (await worker.ask(frame | {"messageId": "again"}))["data"]["status"] == "duplicate"


async def test_frames_without_ack_are_stored_in_silence(gateway: Gateway, fickle: FickleDatabase) -> None:
    """Nobody is told of what nobody asked for; the sample is there all the same."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        await worker.send(metrics())
        await beat(gateway, worker)
    assert await count(fickle, "gpu_metrics") == 1


async def count(database: Database, table: str) -> int:
    """Rows of a table."""
    async with database.transaction() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())


async def test_warnings_come_with_the_acknowledgement(gateway: Gateway) -> None:
    """A measurement that can't be true is named; the rest is stored."""
    frame = metrics(ack=True)
    frame["data"]["cpu"]["usage"] = 1000
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        data = (await worker.ask(frame))["data"]
    assert data["status"] == "stored"
    assert len(data["warnings"]) == 1
    assert "cpuUsage" in data["warnings"][0]


async def test_a_gpu_that_was_not_registered_is_stored_too(gateway: Gateway, fickle: FickleDatabase) -> None:
    """A card that shows up between registrations gets a number of its own."""
    frame = metrics(ack=True)
    frame["data"]["gpus"].append({"deviceId": "GPU-new", "model": "H100", "utilization": 7})
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        assert (await worker.ask(frame))["data"]["status"] == "stored"
        devices = [device["deviceId"] for device in (await gateway.node(node_id))["gpuDevices"]]
    assert devices == ["GPU-0", "GPU-new"]


async def test_while_the_database_is_away_samples_wait(gateway: Gateway, fickle: FickleDatabase) -> None:
    """503 by REST, sockets open, nothing acknowledged; afterwards everything is stored and nobody was offline."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        fickle.is_away = True
        assert (await gateway.http.get("/health/ready")).status_code == 503
        assert (await gateway.http.get("/health/live")).status_code == 200
        answer = await gateway.http.get(f"/nodes/{node_id}")
        assert (answer.status_code, answer.json()["statusCode"]) == (503, 503)
        await worker.send(heartbeat(timestamp(gateway.clock.now()), ack=True))
        for _ in range(20):
            await gateway.passes(10)
        fickle.is_away = False
        while not await _answered(worker):
            gateway.clock.advance(1)
        await gateway.passes(80)
        assert await gateway.status(node_id) == ("online", True)
        await beat(gateway, worker)
    assert await count(fickle, "heartbeats") == 2


async def _answered(worker: Worker) -> bool:
    """Whether the acknowledgement has come."""
    try:
        async with asyncio.timeout(0.05):
            data = (await worker.receive())["data"]
    except TimeoutError:
        return False
    assert data["status"] == "stored"
    return True


async def test_silence_during_an_outage_proves_nothing(gateway: Gateway, fickle: FickleDatabase) -> None:
    """Nobody is offline for a time in which the database could not be told; one timeout later silence counts again."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        fickle.is_away = True
        for _ in range(20):
            await gateway.passes(10)
        fickle.is_away = False
        await gateway.passes(80)
        assert await gateway.status(node_id) == ("online", True)
        await gateway.passes(20)
        assert await gateway.status(node_id) == ("offline", True)


async def test_a_goodbye_during_an_outage_is_recorded_afterwards(gateway: Gateway, fickle: FickleDatabase) -> None:
    """Who leaves while the database is away is offline as soon as it is back."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        fickle.is_away = True
    await gateway.clock.all_asleep("goodbyes")
    fickle.is_away = False
    gateway.clock.advance(1)
    await eventually(lambda: gateway.status(node_id), ("offline", False))


async def test_a_clock_that_is_off_is_measured_shown_and_told(gateway: Gateway) -> None:
    """An event when it goes over 30 s, a warning with each acknowledgement, and the present skew by API."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await worker.receive()
        await worker.send(json.dumps(register()))
        await worker.receive()
        for seconds, warns in ((-2, False), (-45, True), (-50, True), (-1, True)):
            sent = gateway.clock.now() - timedelta(seconds=seconds)
            await worker.send(json.dumps(heartbeat(timestamp(sent), ack=True)))
            data = (await worker.receive())["data"]
            assert data["status"] == "stored"
            assert any("ahead of the server's" in each for each in data.get("warnings", ())) is warns
    assert (await gateway.node(node_id))["clockSkewMs"] == -50_000
    answer = await gateway.http.get(
        f"/nodes/{node_id}/events?kind=clock_skew&from=2026-01-01T00:00Z&to=2027-01-01T00:00Z"
    )
    assert [event["detail"] for event in answer.json()["events"]] == [{"clockSkewMs": -45_000}]
