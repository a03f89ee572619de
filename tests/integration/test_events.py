"""What happened to a node: periods, uptime and events, over real sockets and by REST."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.clock import timestamp
from app.model import CallerRole, GpuDevice
from app.storage import schema
from app.storage.database import Database
from tests.fakes import START, FakeClock
from tests.frames import heartbeat, register
from tests.integration.gateway import Gateway, eventually, running_gateway
from tests.rest_app import OTHER_ORG, USER, Api, rest_api
from tests.rest_app import register as register_node


@pytest.fixture
async def gateway(database: Database, clock: FakeClock) -> AsyncIterator[Gateway]:
    """A service that answers."""
    async with running_gateway(database, clock) as gateway:
        yield gateway


@pytest.fixture
async def api(database: Database, clock: FakeClock) -> AsyncIterator[Api]:
    """The REST API."""
    async with rest_api(database, clock) as api:
        yield api


def at(seconds: float) -> str:
    """A time after the test's beginning, as the API writes it."""
    return timestamp(START + timedelta(seconds=seconds))


async def history(gateway: Gateway, node_id: str, **query: str) -> tuple[list[tuple[Any, ...]], Any]:
    """Intervals as (status, from, to, reason), and uptimePercent."""
    answer = await gateway.http.get(f"/nodes/{node_id}/status-history", params=query)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    return [tuple(it.get(name) for name in ("status", "from", "to", "reason")) for it in shown["intervals"]], shown.get(
        "uptimePercent"
    )


async def events(api: Api, node_id: str, query: str = "") -> list[dict[str, Any]]:
    """All events of the last day, newest first."""
    answer = await api("GET", f"/nodes/{node_id}/events?from=now-1d&to=2027-01-01T00:00:00Z{query}")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["events"])


async def test_a_life_in_periods(gateway: Gateway) -> None:
    """Pending and installing are no data yet, maintenance is not counted, online and offline make the uptime."""
    clock = gateway.clock
    node_id = await gateway.create_node()
    clock.advance(10)
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await worker.receive()
        clock.advance(10)
        assert await history(gateway, node_id) == (
            [("pending", at(0), at(10), None), ("installing", at(10), at(20), "connected")],
            None,
        )
        await worker.ask(register())
        clock.advance(30)
        await gateway.http.put(f"/nodes/{node_id}", json={"status": "maintenance", "statusReason": "fan"})
        clock.advance(50)
        await gateway.http.put(f"/nodes/{node_id}", json={"status": "online"})
        await worker.ask(heartbeat(timestamp(clock.now()), ack=True))
        clock.advance(30)
    await gateway.becomes(node_id, "offline", connected=False)
    clock.advance(20)
    intervals, uptime = await history(gateway, node_id)
    assert intervals == [
        ("pending", at(0), at(10), None),
        ("installing", at(10), at(20), "connected"),
        ("online", at(20), at(50), "registered"),
        ("maintenance", at(50), at(100), "fan"),
        ("online", at(100), at(130), None),
        ("offline", at(130), at(150), "disconnected"),
    ]
    assert uptime == 75.0
    cut = await history(gateway, node_id, **{"from": at(120), "to": at(3600)})
    assert cut == ([("online", at(120), at(130), None), ("offline", at(130), at(150), "disconnected")], 33.333)
    assert await history(gateway, node_id, **{"from": at(60), "to": at(70)}) == (
        [("maintenance", at(60), at(70), "fan")],
        None,
    )
    assert await history(gateway, node_id, **{"from": at(-60), "to": at(0)}) == ([], None)


async def test_status_events_name_the_person_or_nobody(gateway: Gateway) -> None:
    """Liveness has no actor; a PUT has its caller."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await worker.receive()
        await worker.ask(register())
        gateway.clock.advance(1)
        await gateway.http.put(f"/nodes/{node_id}", json={"status": "maintenance", "statusReason": "fan"})
        await gateway.http.put(f"/nodes/{node_id}", json={"status": "online"})
        gateway.clock.advance(1)
        await worker.ask(heartbeat(timestamp(gateway.clock.now()), ack=True))
        await gateway.passes(91)
        assert await gateway.status(node_id) == ("offline", True)
    answer = await gateway.http.get(f"/nodes/{node_id}/events", params={"kind": "status", "to": at(3600)})
    assert [(it.get("actor"), it["detail"]) for it in answer.json()["events"]] == [
        (None, {"from": "online", "to": "offline", "reason": "heartbeat timeout"}),
        ("admin", {"from": "maintenance", "to": "online"}),
        ("admin", {"from": "online", "to": "maintenance", "reason": "fan"}),
        (None, {"from": "installing", "to": "online", "reason": "registered"}),
        (None, {"from": "pending", "to": "installing", "reason": "connected"}),
    ]


async def test_a_takeover_has_both_epochs(gateway: Gateway) -> None:
    """A connection that replaces an open one is an event; a connection after a goodbye is none."""
    node_id = await gateway.create_node()
    token = await gateway.make_token(node_id)

    async def takeovers() -> Any:
        answer = await gateway.http.get(f"/nodes/{node_id}/events", params={"kind": "taken_over", "to": at(60)})
        return [it["detail"] for it in answer.json()["events"]]

    async with gateway.worker(token) as first:
        await first.receive()
        async with gateway.worker(token) as second:
            await second.receive()
            assert await first.closed() == 4409
            assert await takeovers() == [{"epoch": {"from": 1, "to": 2}}]
    await eventually(lambda: gateway.status(node_id), ("offline", False))
    async with gateway.worker(token) as third:
        await third.receive()
        assert len(await takeovers()) == 1


async def test_what_people_do_names_them(api: Api) -> None:
    """Creation, changes, tokens and revocations, each with its caller; no change is no event."""
    node_id = (await api.new_node())["_id"]
    await api("PUT", f"/nodes/{node_id}", {"name": "b", "vpnIp": "10.0.0.1", "metadata": {"secret": "x"}})
    await api("PUT", f"/nodes/{node_id}", {"name": "b"})
    await api("POST", f"/nodes/{node_id}/token", {"expiresIn": 60})
    await api("POST", f"/nodes/{node_id}/token", {"expiresIn": 60, "revokePrevious": True})
    await api("DELETE", f"/nodes/{node_id}/token")
    found = await events(api, node_id)
    assert {it["actor"] for it in found} == {USER}
    assert [it["kind"] for it in found] == [
        *("tokens_revoked", "token_made", "tokens_revoked", "token_made", "changed", "created")
    ]
    assert found[-2]["detail"]["changed"] == {
        "name": {"from": "GPU-Worker-01", "to": "b"},
        "vpnIp": {"to": "10.0.0.1"},
        "metadata": {},
    }
    assert found[-1] == {
        "time": at(0),
        "kind": "created",
        "actor": USER,
        "address": "127.0.0.1",
        "detail": {"name": "GPU-Worker-01", "role": ["worker"]},
    }


async def test_registrations_tell_what_changed(api: Api, database: Database, clock: FakeClock) -> None:
    """The first one, then only what is new: hardware, GPUs that came and went; the same again is no event."""
    node_id = (await api.new_node())["_id"]
    one, two = GpuDevice("GPU-0", "A100"), GpuDevice("GPU-1", "A100")
    await register_node(database, node_id, one, now=clock.now())
    await register_node(database, node_id, one, now=clock.now())
    await register_node(database, node_id, two, now=clock.now())
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE nodes SET cpu_cores = 16"))
    await register_node(database, node_id, two, now=clock.now())
    found = await events(api, node_id, "&kind=registered,hardware_changed,gpu_appeared,gpu_vanished")
    assert [(it["kind"], it["detail"]) for it in found[:-1]] == [
        ("hardware_changed", {"changed": {"cpuCores": {"from": 16, "to": 32}}}),
        ("gpu_appeared", {"deviceId": "GPU-1", "model": "A100"}),
        ("gpu_vanished", {"deviceId": "GPU-0", "model": "A100"}),
    ]
    assert found[-1]["kind"] == "registered"
    assert found[-1]["detail"]["gpuDevices"] == [{"deviceId": "GPU-0", "model": "A100"}]


async def test_events_come_in_pages(api: Api, clock: FakeClock) -> None:
    """Along the cursor each once, newest first, within the range of the first page."""
    node_id = (await api.new_node())["_id"]
    for number in range(5):
        await api("PUT", f"/nodes/{node_id}", {"name": f"n{number}"})
    seen: list[str] = []
    query = "limit=2&kind=changed&from=now-10m&to=now-0s"
    clock.advance(1)
    while True:
        page = (await api("GET", f"/nodes/{node_id}/events?{query}")).json()
        seen += [it["detail"]["changed"]["name"]["to"] for it in page["events"]]
        if "nextCursor" not in page:
            break
        clock.advance(3600)
        query = f"limit=2&kind=changed&cursor={page['nextCursor']}"
        await api("PUT", f"/nodes/{node_id}", {"name": f"later{len(seen)}"})
    assert seen == ["n4", "n3", "n2", "n1", "n0"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("events?kind=party", "kind"),
        ("events?limit=0", "limit"),
        ("events?cursor=abc", "cursor"),
        ("events?from=yesterday", "from"),
        ("events?limits=1", "limits"),
        ("status-history?kind=status", "kind"),
        ("status-history?from=now&to=now-1h", "from"),
    ],
)
async def test_a_wrong_question_is_told(api: Api, path: str, field: str) -> None:
    """400 that names the parameter."""
    answer = await api("GET", f"/nodes/{'a' * 24}/{path}")
    assert (answer.status_code, answer.json()["details"][0]["field"]) == (400, field)


async def test_all_that_is_wrong_is_told_at_once(api: Api) -> None:
    """Each parameter in the way has its line."""
    answer = await api("GET", f"/nodes/{'a' * 24}/events?kind=party&limit=x&from=yesterday&colour=red")
    assert {it["field"] for it in answer.json()["details"]} == {"kind", "limit", "from", "colour"}


@pytest.mark.parametrize("path", ["status-history", "events"])
async def test_foreign_and_deleted_nodes_are_not_there(api: Api, path: str) -> None:
    """404 for another org, and for everybody after the deletion; an admin sees every org's."""
    node_id = (await api.new_node())["_id"]
    answers = [await api("GET", f"/nodes/{node_id}/{path}", role=CallerRole.VIEWER, org=OTHER_ORG)]
    own = await api("GET", f"/nodes/{node_id}/{path}", role=CallerRole.VIEWER)
    admins = await api("GET", f"/nodes/{node_id}/{path}", role=CallerRole.ADMIN, org=OTHER_ORG)
    assert (own.status_code, admins.status_code) == (200, 200)
    await api("DELETE", f"/nodes/{node_id}")
    answers.append(await api("GET", f"/nodes/{node_id}/{path}"))
    answers.append(await api("GET", f"/nodes/nonsense/{path}"))
    assert [it.status_code for it in answers] == [404, 404, 400]


async def test_a_deleted_nodes_last_period_ends(api: Api, database: Database, clock: FakeClock) -> None:
    """Analysts see it end with the deletion, and nothing after, whatever its worker still does."""
    node_id = (await api.new_node())["_id"]
    await register_node(database, node_id, now=clock.now())
    clock.advance(5)
    await api("DELETE", f"/nodes/{node_id}")
    clock.advance(5)
    async with database.transaction() as connection:
        await connection.execute(
            text("UPDATE node_state SET status = 'offline', status_changed_at = :now"), {"now": clock.now()}
        )
        periods = await connection.execute(
            text("SELECT status, started_at, ended_at FROM history.status_periods ORDER BY ended_at DESC LIMIT 1")
        )
        assert [tuple(row) for row in periods] == [("online", START, START + timedelta(seconds=5))]
        last = text("SELECT kind, actor, node_id FROM history.node_events ORDER BY time DESC LIMIT 1")
        assert tuple((await connection.execute(last)).one()) == ("deleted", USER, node_id)


async def test_nodes_that_are_there_already_get_their_present_period(database: Database, clock: FakeClock) -> None:
    """The migration makes up nothing of the past; that of a deleted node ended with it."""
    async with rest_api(database, clock) as api:
        there, gone = [(await api.new_node())["_id"] for _ in range(2)]
        clock.advance(5)
        await api("DELETE", f"/nodes/{gone}")
    await schema.downgrade(database, "0001")
    await schema.upgrade(database)
    async with database.transaction() as connection:
        rows = await connection.execute(
            text(
                "SELECT node_id, status, started_at, ended_at FROM history.status_periods ORDER BY ended_at NULLS FIRST"
            )
        )
        assert [tuple(row) for row in rows] == [
            (there, "pending", START, None),
            (gone, "pending", START, START + timedelta(seconds=5)),
        ]
