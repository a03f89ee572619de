"""Every transition of a node's status, over real sockets, by a clock that the test moves."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from app.clock import timestamp
from app.domain.pace import AT_ONCE, EVERY_SECONDS, Pace
from app.storage.database import Database
from app.storage.gpus import MOST_NUMBERS
from tests.fakes import FakeClock
from tests.frames import heartbeat, metrics, register
from tests.integration.gateway import Gateway, eventually, running_gateway
from tests.worker import Worker


@pytest.fixture
async def gateway(database: Database, clock: FakeClock) -> AsyncIterator[Gateway]:
    """A service that answers."""
    async with running_gateway(database, clock) as gateway:
        yield gateway


async def greet(worker: Worker) -> None:
    """Take the CONNECTION_ACK."""
    assert (await worker.receive())["status"] == "success"


async def introduce(worker: Worker) -> None:
    """Take the CONNECTION_ACK and register."""
    await greet(worker)
    assert (await worker.ask(register()))["type"] == "REGISTER_ACK"


async def beat(gateway: Gateway, worker: Worker) -> None:
    """One acknowledged heartbeat."""
    answer = await worker.ask(heartbeat(timestamp(gateway.clock.now()), ack=True))
    assert answer["data"]["status"] == "stored"


async def test_pending_installing_online_offline(gateway: Gateway) -> None:
    """The document's whole life of a node: created, connected, registered, gone."""
    node_id = await gateway.create_node()
    assert await gateway.status(node_id) == ("pending", False)
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await greet(worker)
        assert await gateway.status(node_id) == ("installing", True)
        assert (await worker.ask(register()))["type"] == "REGISTER_ACK"
        assert await gateway.status(node_id) == ("online", True)
    await gateway.becomes(node_id, "offline", connected=False)


async def test_a_cut_wire_is_offline_at_once(gateway: Gateway) -> None:
    """A connection that breaks without a goodbye counts as a disconnect by the worker."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        worker.vanish()
        await gateway.becomes(node_id, "offline", connected=False)


async def test_silence_is_offline_after_the_timeout_and_a_heartbeat_recovers(gateway: Gateway) -> None:
    """90 s without a heartbeat: offline, its socket still open; the next heartbeat alone makes it online."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        gateway.clock.advance(60)
        await beat(gateway, worker)
        await gateway.passes(89)
        await beat_metrics(gateway, worker)
        assert await gateway.status(node_id) == ("online", True)
        await gateway.passes(2)
        assert await gateway.status(node_id) == ("offline", True)
        await beat(gateway, worker)
        assert await gateway.status(node_id) == ("online", True)


async def test_a_service_that_stood_still_takes_nobody_for_silent(gateway: Gateway) -> None:
    """What was sent meanwhile waits unread: silence counts from the moment when it goes on."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        await gateway.passes(60)
        gateway.clock.advance(200)
        await gateway.clock.all_asleep("liveness")
        await gateway.passes(89)
        assert await gateway.status(node_id) == ("online", True)
        await gateway.passes(2)
        assert await gateway.status(node_id) == ("offline", True)


async def test_a_short_stand_still_counts_where_the_timeout_is_short(database: Database, clock: FakeClock) -> None:
    """Five seconds of six would leave one to be heard in."""
    async with running_gateway(
        database, clock, heartbeat_interval_ms=2000, metrics_interval_ms=2000, heartbeat_timeout_ms=6000
    ) as gateway:
        node_id = await gateway.create_node()
        async with gateway.worker(await gateway.make_token(node_id)) as worker:
            await introduce(worker)
            for seconds, status in ((5, "online"), *[(1, "online")] * 5, (1.5, "offline")):
                clock.advance(seconds)
                await clock.all_asleep("liveness")
                assert await gateway.status(node_id) == (status, True)


async def test_a_node_that_makes_up_devices_runs_out_of_numbers(gateway: Gateway) -> None:
    """Its samples are refused by name; it stays connected, registers with what it had, and that goes on."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        async with gateway.database.transaction() as connection:
            await connection.execute(text("UPDATE gpus SET gpu = :most"), {"most": MOST_NUMBERS})
        new = metrics(timestamp(gateway.clock.now()), ack=True)
        new["data"]["gpus"][0]["deviceId"] = "GPU-made-up"
        answer = (await worker.ask(new))["data"]
        assert (answer["status"], answer["error"]["code"]) == ("rejected", "SAMPLE_REFUSED")
        assert answer["error"]["message"].startswith(f"The sample is of more than the {MOST_NUMBERS:,} GPUs")
        await beat(gateway, worker)
        newer = register()
        newer["data"]["gpuDevices"][0]["deviceId"] = "GPU-made-up"
        answer = await worker.ask(newer)
        assert answer["type"] == "REGISTER_ACK"
        assert answer["data"]["warnings"][0].startswith(
            f"GPU-made-up is not registered: it would be more than the {MOST_NUMBERS:,}"
        )
        assert [gpu["deviceId"] for gpu in (await gateway.node(node_id))["gpuDevices"]] == [
            gpu["deviceId"] for gpu in register()["data"]["gpuDevices"][1:]
        ]
        gateway.clock.advance(1)
        await beat(gateway, worker)
        assert (await worker.ask(register()))["type"] == "REGISTER_ACK"
        assert await gateway.status(node_id) == ("online", True)


async def beat_metrics(gateway: Gateway, worker: Worker) -> None:
    """Acknowledged metrics, which are no heartbeat."""
    answer = await worker.ask(metrics(timestamp(gateway.clock.now()), ack=True))
    assert answer["data"]["status"] == "stored"


async def test_a_node_comes_back_with_its_first_heartbeat_not_by_connecting(gateway: Gateway) -> None:
    """A registered node that reconnects stays offline until it is heard."""
    node_id = await gateway.create_node()
    token = await gateway.make_token(node_id)
    async with gateway.worker(token) as worker:
        await introduce(worker)
    await gateway.becomes(node_id, "offline", connected=False)
    async with gateway.worker(token) as worker:
        await greet(worker)
        assert await gateway.status(node_id) == ("offline", True)
        gateway.clock.advance(1)
        await beat(gateway, worker)
        assert await gateway.status(node_id) == ("online", True)


async def test_maintenance_is_moved_by_hand_alone(gateway: Gateway) -> None:
    """Neither heartbeats nor goodbyes nor registrations move a node out of maintenance; samples are stored."""
    node_id = await gateway.create_node()
    token = await gateway.make_token(node_id)
    async with gateway.worker(token) as worker:
        await introduce(worker)
        await put_status(gateway, node_id, "maintenance")
        gateway.clock.advance(1)
        await beat(gateway, worker)
        assert await gateway.status(node_id) == ("maintenance", True)
        await worker.ask(register())
        assert await gateway.status(node_id) == ("maintenance", True)
    await gateway.becomes(node_id, "maintenance", connected=False)
    gateway.clock.advance(200)
    await put_status(gateway, node_id, "online")
    assert await gateway.status(node_id) == ("online", False)
    await gateway.passes(91)
    assert await gateway.status(node_id) == ("offline", False)


async def put_status(gateway: Gateway, node_id: str, status: str) -> None:
    """Set a status by hand."""
    answer = await gateway.http.put(f"/nodes/{node_id}", json={"status": status})
    assert answer.status_code == 200, answer.text


async def test_a_takeover_keeps_the_node_online(gateway: Gateway) -> None:
    """The newer connection wins; the older is closed with 4409 and its goodbye changes nothing."""
    node_id = await gateway.create_node()
    token = await gateway.make_token(node_id)
    async with gateway.worker(token) as first:
        await introduce(first)
        async with gateway.worker(token) as second:
            await greet(second)
            assert await first.closed() == 4409
            assert await gateway.status(node_id) == ("online", True)
            gateway.clock.advance(1)
            await beat(gateway, second)
            assert await gateway.status(node_id) == ("online", True)


async def test_a_node_that_comes_too_often_waits_in_silence(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer connection waits in the place of the one before, and is let in when it is time."""
    waits: list[float] = []
    step = Pace.step

    def watched(pace: Pace, node_id: str) -> float:
        waits.append(step(pace, node_id))
        return waits[-1]

    async def how_many_came() -> int:
        return len(waits)

    monkeypatch.setattr(Pace, "step", watched)
    node_id = await gateway.create_node()
    token = await gateway.make_token(node_id)
    for _ in range(AT_ONCE):
        async with gateway.worker(token) as worker:
            await greet(worker)
    async with gateway.worker(token) as former:
        await eventually(how_many_came, AT_ONCE + 1)
        async with gateway.worker(token) as newest:
            assert await former.closed() == 4409
            await gateway.becomes(node_id, "offline", connected=False)
            gateway.clock.advance(EVERY_SECONDS)
            await greet(newest)
            assert await gateway.status(node_id) == ("installing", True)
    assert waits == [0] * AT_ONCE + [EVERY_SECONDS, EVERY_SECONDS, 0]


async def test_a_restart_leaves_nobody_falsely_connected_and_flaps_nobody(database: Database, clock: FakeClock) -> None:
    """A stopped service closes with 1012 and leaves statuses alone; only the timeout after the restart decides."""
    async with running_gateway(database, clock) as gateway:
        stays, leaves = await gateway.create_node(), await gateway.create_node()
        token = await gateway.make_token(stays)
        worker, other = gateway.worker(token), gateway.worker(await gateway.make_token(leaves))
        await worker.__aenter__()
        await other.__aenter__()
        await introduce(worker)
        await introduce(other)
    assert (await worker.closed(), await other.closed()) == (1012, 1012)
    clock.advance(3600)
    async with running_gateway(database, clock) as gateway:
        assert await gateway.status(stays) == ("online", False)
        await gateway.passes(60)
        assert await gateway.status(stays) == ("online", False)
        async with gateway.worker(token) as worker:
            await greet(worker)
            await beat(gateway, worker)
            await gateway.passes(31)
            assert await gateway.status(leaves) == ("offline", False)
            assert await gateway.status(stays) == ("online", True)


async def test_a_killed_gateway_leaves_nobody_falsely_connected(database: Database, clock: FakeClock) -> None:
    """Whoever takes the seat of a gateway that died clears what it left; the statuses wait for the timeout."""
    async with running_gateway(database, clock) as gateway:
        node_id = await gateway.create_node()
        async with gateway.worker(await gateway.make_token(node_id)) as worker:
            await introduce(worker)
            async with running_gateway(database, clock, seat_port=gateway.settings.port) as successor:
                assert await successor.status(node_id) == ("online", False)


async def test_an_expired_token_ends_its_connection(gateway: Gateway) -> None:
    """A socket does not outlive its token: 4401."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id, expiresIn=60)) as worker:
        await introduce(worker)
        await gateway.passes(61)
        assert await worker.closed() == 4401


async def test_values_of_the_newest_heartbeat_and_metrics_are_shown(gateway: Gateway) -> None:
    """What was acknowledged is what `GET /nodes/:id` shows."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        gateway.clock.advance(60)
        await beat(gateway, worker)
        await beat_metrics(gateway, worker)
        node = await gateway.node(node_id)
    now = timestamp(gateway.clock.now())
    assert (node["cpuUsage"], node["ramUsage"], node["ramFree"], node["uptimeSeconds"]) == (45.2, 62.8, 96, 3630)
    assert (node["lastHeartbeat"], node["lastMetricsAt"], node["lastSeenAt"], node["updatedAt"]) == (now,) * 4
    assert node["gpuDevices"] == [
        {
            "deviceId": "GPU-0",
            "model": "NVIDIA A100",
            "memoryTotal": 80,
            "memoryFree": 60,
            "utilization": 85,
            "temperature": 72,
        }
    ]


async def test_an_unregistered_node_that_leaves_is_offline(gateway: Gateway) -> None:
    """A disconnect is a disconnect, also while installing; connecting again installs again."""
    node_id = await gateway.create_node()
    token = await gateway.make_token(node_id)
    async with gateway.worker(token) as worker:
        await greet(worker)
    await gateway.becomes(node_id, "offline", connected=False)
    async with gateway.worker(token) as worker:
        await greet(worker)
        await eventually(lambda: gateway.status(node_id), ("installing", True))
