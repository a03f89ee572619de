"""Every attack of the table, at REST and at the socket, and what must go on being taken."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from app.domain.auth import Tokens
from app.model import CallerRole, Owner
from app.storage.database import Database
from app.trust import NODE_AUDIENCE, Trust
from tests.databases import Server
from tests.fakes import FakeClock
from tests.integration.gateway import ORG, SECRET, Gateway, running_gateway
from tests.security.attacks import ATTACKS, Attack, Door, hs256
from tests.security.provider import EC, RSA, FakeProvider, provider, sign

pytestmark = pytest.mark.asyncio(loop_scope="module")

ISSUER, AUDIENCE, RETIRED = "https://login.test/realm", "aiwm", "r" * 32
ADMINS = "fleet-admins"
HEADER_LENGTH = 8000
"""Characters of a token that fit into a line of the handshake."""


class Place(NamedTuple):
    """A service that trusts its own secret and a provider, and one more provider that it was never told of."""

    gateway: Gateway
    stranger: FakeProvider
    portal: Door
    node: Door


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(servers: Callable[[str], Server]) -> AsyncIterator[Place]:
    """One for all attacks: tokens are the same on every storage engine."""
    async with AsyncExitStack() as stack:
        server = servers("postgresql")
        database = Database(await stack.enter_async_context(server.fresh(migrated=True)), pool_size=server.pool_size)
        stack.push_async_callback(database.close)
        known, stranger = [await stack.enter_async_context(provider()) for _ in range(2)]
        trust = Trust(
            jwks_url=known.url,
            issuer=ISSUER,
            audience=AUDIENCE,
            admin_roles=(ADMINS,),
            allow_hs256=True,
            role_claim="/realm/roles",
        )
        gateway = await stack.enter_async_context(running_gateway(database, FakeClock(), trust=trust))
        yield Place(gateway, stranger, *await doors(gateway, stranger.url))


async def doors(gateway: Gateway, elsewhere: str) -> tuple[Door, Door]:
    """The portal's and the node's."""
    tokens, now = Tokens((SECRET,), gateway.clock), int(gateway.clock.now().timestamp())
    times = {"iat": now, "exp": now + 86_400}
    node_id, deleted, revoked, disabled = [await gateway.create_node() for _ in range(4)]
    old = {each: await gateway.make_token(each) for each in (deleted, revoked, disabled)}
    await gateway.http.delete(f"/nodes/{deleted}")
    await gateway.make_token(revoked, revokePrevious=True)
    await gateway.http.delete(f"/nodes/{disabled}/token")
    portal = Door(
        claims=times | {"sub": "user", "orgId": ORG, "role": "viewer"},
        outside=times | {"sub": "user", "orgId": ORG, "iss": ISSUER, "aud": AUDIENCE},
        secret=SECRET,
        retired=RETIRED,
        other_door=tokens.issue_node(node_id, 0, 3600).token,
        deleted=old[deleted],
        revoked=old[revoked],
        disabled=old[disabled],
        elsewhere=elsewhere,
    )
    claims = times | {"aud": NODE_AUDIENCE, "sub": node_id, "jti": "j", "gen": 0}
    intruder = tokens.issue_portal("user", CallerRole.ADMIN, Owner(org_id=ORG), 3600)
    return portal, portal._replace(claims=claims, outside=claims | {"iss": ISSUER}, other_door=intruder)


async def asked(
    gateway: Gateway, token: str, method: str = "GET", path: str = "/nodes", **more: Any
) -> tuple[int, str]:
    """What REST answers to the bearer."""
    headers = {"Authorization": f"Bearer {token}"}
    answer = await gateway.http.request(method, path, headers=headers, **more)
    return answer.status_code, answer.text


async def greeted(gateway: Gateway, token: str, *, in_header: bool) -> dict[str, Any]:
    """What the socket answers, with the code of its close where it refuses."""
    async with gateway.worker(token if in_header else None) as worker:
        ack = await (worker.receive() if in_header else worker.ask({"auth": {"token": token}}))
        return ack if ack["status"] == "success" else ack | {"closed": await worker.closed()}


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
async def test_an_attack_is_refused_at_both_doors(place: Place, attack: Attack) -> None:
    """By the contract's codes, in the header and in the first frame; the answer never repeats the token."""
    status, body = await asked(place.gateway, attack.forge(place.portal))
    assert status == attack.rest, body
    assert not set(attack.forge(place.portal).split(".")) & set(body.split('"'))
    token = attack.forge(place.node)
    for in_header in (False, True)[: 1 + (len(token) < HEADER_LENGTH)]:
        ack = await greeted(place.gateway, token, in_header=in_header)
        assert (ack["status"], ack["error"]["code"], ack["closed"]) == ("error", attack.code, attack.close), ack
        assert not {part for part in token.split(".") if len(part) > 8} & set(str(ack).split())


async def test_what_is_attacked_is_good_without_the_attack(place: Place) -> None:
    """Else the table would prove nothing: the same claims, signed as they should be, open their doors."""
    gateway, portal = place.gateway, place.portal
    for token in (
        hs256(portal, portal.claims),
        hs256(portal, portal.claims | {"aud": AUDIENCE, "iss": ISSUER}),
        sign(RSA, portal.outside, kid="rsa"),
        sign(EC, portal.outside, kid="ec"),
        sign(EC, portal.outside | {"aud": ["other", AUDIENCE]}),
    ):
        assert (await asked(gateway, token))[0] == 200
    assert (await greeted(gateway, hs256(place.node, place.node.claims), in_header=True))["status"] == "success"


async def test_nobody_asks_where_an_attacker_points(place: Place) -> None:
    """Neither `jku` nor `x5u` nor `kid` was followed."""
    for attack in ATTACKS:
        if attack.name in {"jku", "x5u", "kid is a URL"}:
            await asked(place.gateway, attack.forge(place.portal))
    assert place.stranger.asked == 0


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({}, "viewer"),
        ({"role": "admin"}, "viewer"),
        ({"realm": {"roles": ["admin"]}}, "viewer"),
        ({"realm": {"roles": 7}}, "viewer"),
        ({"realm": "operator"}, "viewer"),
        ({"realm": {"roles": ["x", "operator"]}}, "operator"),
        ({"realm": {"roles": "operator"}}, "operator"),
        ({"realm": {"roles": ["operator", ADMINS]}}, "admin"),
    ],
)
async def test_only_a_setting_makes_an_admin_of_somebody_from_outside(
    place: Place, claims: dict[str, Any], role: str
) -> None:
    """A provider's word `admin` means nothing here, unless a setting says which does."""
    token = sign(RSA, place.portal.outside | claims, kid="rsa")
    may_create = await asked(place.gateway, token, "POST", json={"name": "n", "role": ["worker"]})
    may_see_others = await asked(place.gateway, token, path="/nodes?orgId=another")
    found = {(403, 400): "viewer", (201, 400): "operator", (201, 200): "admin"}
    assert found[may_create[0], may_see_others[0]] == role


async def test_somebody_from_outside_without_an_org_may_not_come_in(place: Place) -> None:
    """403, as of the service's own tokens; an org that is no text is 401."""
    for org, status in ((None, 403), ("", 403), (["a", "b"], 401), (7, 401)):
        assert (await asked(place.gateway, sign(RSA, place.portal.outside | {"orgId": org}, kid="rsa")))[0] == status
