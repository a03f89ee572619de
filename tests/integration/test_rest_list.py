"""GET /nodes: pages, cursors, filters, orders."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from app.model import CallerRole
from app.storage.database import Database
from tests.fakes import FakeClock
from tests.rest_app import ORG, OTHER_ORG, Api, register, rest_api, worker_did


@pytest.fixture
async def api(database: Database, clock: FakeClock) -> AsyncIterator[Api]:
    async with rest_api(database, clock) as api:
        yield api


async def listed(api: Api, query: str = "", **caller: Any) -> dict[str, Any]:
    answer = await api("GET", f"/nodes?{query}", **caller)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def names(page: dict[str, Any]) -> list[str]:
    return [node["name"] for node in page["data"]]


async def fleet(api: Api, clock: FakeClock, count: int) -> list[str]:
    """Nodes n00, n01 …, three in each millisecond; their ids."""
    ids = []
    for number in range(count):
        ids.append((await api.new_node(f"n{number:02}"))["_id"])
        if number % 3 == 2:
            clock.advance(0.001)
    return ids


async def test_ten_to_a_page_newest_first(api: Api, clock: FakeClock) -> None:
    """Ties by `_id`; the last page has no cursor."""
    await fleet(api, clock, 12)
    first, second = await listed(api), await listed(api, "page=2")
    assert (first["total"], first["page"], first["limit"]) == (12, 1, 10)
    assert names(first) + names(second) == [f"n{number:02}" for number in reversed(range(12))]
    assert "nextCursor" in first
    assert "nextCursor" not in second
    assert names(await listed(api, "page=3")) == []
    assert "nextCursor" not in await listed(api, "limit=12")


@pytest.mark.parametrize("sort", ["", "name", "-name", "createdAt", "-createdAt", "lastHeartbeat", "-lastHeartbeat"])
async def test_a_cursor_neither_repeats_nor_skips(api: Api, database: Database, clock: FakeClock, sort: str) -> None:
    """While others come and go, and every node's heartbeat moves it."""
    ids = await fleet(api, clock, 20)
    seen: list[str] = []
    query = f"limit=3&sort={sort}" if sort else "limit=3"
    cursor = ""
    for step in range(1, 40):
        page = await listed(api, query + cursor)
        assert page["page"] == step
        seen += [node["_id"] for node in page["data"]]
        if "nextCursor" not in page:
            break
        cursor = "&cursor=" + page["nextCursor"]
        clock.advance(1)
        if step <= 5:
            await api.new_node(f"m{step}")
        await api("DELETE", f"/nodes/{(await api.new_node('gone'))['_id']}")
        for place, node_id in enumerate(ids):
            beat = clock.now() + timedelta(seconds=(place * 7 + step * 5) % 20)
            await worker_did(database, node_id, last_heartbeat=beat)
    assert [node_id for node_id in seen if seen.count(node_id) > 1] == []
    assert set(ids) <= set(seen)


async def test_a_deleted_node_leaves_no_gap(api: Api, clock: FakeClock) -> None:
    """Also where it is the one that the cursor stands on."""
    ids = await fleet(api, clock, 6)
    page = await listed(api, "limit=2&sort=createdAt")
    await api("DELETE", f"/nodes/{ids[1]}")
    page = await listed(api, f"limit=2&cursor={page['nextCursor']}")
    assert names(page) == ["n02", "n03"]


async def test_a_cursor_goes_on_from_any_page(api: Api, clock: FakeClock) -> None:
    """Of every order."""
    await fleet(api, clock, 6)
    for sort in ("name", "lastHeartbeat", "createdAt"):
        page = await listed(api, f"limit=2&page=2&sort={sort}")
        rest = await listed(api, f"limit=2&cursor={page['nextCursor']}")
        assert names(rest) == ["n04", "n05"]
        assert rest["page"] == 3


async def test_cursors_that_do_not_fit(api: Api, clock: FakeClock) -> None:
    """Touched, made up, or of another order: 400."""
    await fleet(api, clock, 3)
    cursor = (await listed(api, "limit=2&sort=name"))["nextCursor"]
    for query in (f"cursor={cursor[:-1]}", f"cursor={'A' * 40}", f"cursor={cursor}&sort=createdAt", "cursor="):
        answer = await api("GET", f"/nodes?{query}")
        assert answer.status_code == 400
        assert answer.json()["details"][0]["field"] == "cursor"


async def test_filters(api: Api, database: Database, clock: FakeClock) -> None:
    """Each alone, and together."""
    alpha = await api.new_node("alpha_1", role=["worker", "storage"], metadata={"rack": "a1", "slot": 7, "x.y": "z"})
    clock.advance(10)
    beta = await api.new_node("betaX1", role=["proxy"], metadata={"rack": "b2"})
    await register(database, beta["_id"], now=clock.now())
    expected = {
        "status=pending": ["alpha_1"],
        "status=online": ["betaX1"],
        "status=maintenance": [],
        "role=storage": ["alpha_1"],
        "role=proxy": ["betaX1"],
        "name=alpha_1": ["alpha_1"],
        "name=alpha": [],
        "search=PHA": ["alpha_1"],
        "search=_1": ["alpha_1"],
        "search=%251": [],
        "search=gpu-server": ["betaX1"],
        "metadata.rack=a1": ["alpha_1"],
        "metadata.slot=7": ["alpha_1"],
        "metadata.x.y=z": ["alpha_1"],
        "metadata.rack=": [],
        "metadata.'%20OR%20true--=": [],
        "metadata.rack=b2&role=proxy&status=online": ["betaX1"],
        "metadata.rack=b2&role=worker": [],
        f"changedSince={alpha['createdAt']}": ["betaX1", "alpha_1"],
        f"changedSince={beta['createdAt']}": ["betaX1"],
        f"changedSince={quote('2026-11-23T13:00:05+01:00')}": ["betaX1"],
    }
    for query, found in expected.items():
        page = await listed(api, query)
        assert (names(page), page["total"]) == (found, len(found)), query
    await worker_did(database, alpha["_id"], updated_at=clock.now() + timedelta(seconds=1))
    assert names(await listed(api, "changedSince=2026-11-23T12:00:11Z")) == ["alpha_1"]


async def test_orgs(api: Api) -> None:
    """An admin sees all or one; others see their own, and may say so."""
    await api.new_node("ours")
    await api("POST", "/nodes", {"name": "theirs", "role": ["worker"]}, org=OTHER_ORG)
    admin: dict[str, Any] = {"role": CallerRole.ADMIN, "org": None}
    assert sorted(names(await listed(api, **admin))) == ["ours", "theirs"]
    assert names(await listed(api, f"orgId={OTHER_ORG}", **admin)) == ["theirs"]
    assert names(await listed(api)) == ["ours"]
    assert names(await listed(api, f"orgId={ORG}")) == ["ours"]
    assert (await listed(api))["total"] == 1
    assert (await api("GET", f"/nodes?orgId={OTHER_ORG}")).status_code == 400


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=1.5", "page"),
        ("page=", "page"),
        ("page=%D9%A1", "page"),
        (f"page={10**40}", "page"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("status=broken", "status"),
        ("role=boss", "role"),
        ("sort=updatedAt", "sort"),
        ("sort=--name", "sort"),
        ("changedSince=yesterday", "changedSince"),
        ("changedSince=2025-11-21T10:00:00", "changedSince"),
        ("search=", "search"),
        ("search=%00", "search"),
        ("name=a%00b", "name"),
        ("metadata.=x", "metadata."),
        ("metadata.%00=x", "metadata.\0"),
        ("metadata.x=%00", "metadata.x"),
        ("page=1&page=2", "page"),
        ("surprise=1", "surprise"),
    ],
)
async def test_a_wrong_parameter_is_named(api: Api, query: str, field: str) -> None:
    """400."""
    answer = await api("GET", f"/nodes?{query}")
    assert answer.status_code == 400
    assert [detail["field"] for detail in answer.json()["details"]] == [field]


async def test_the_last_page_that_can_be_asked_for(api: Api) -> None:
    """Is empty."""
    assert (await listed(api, f"page={2**53}&limit=1000"))["data"] == []
