"""A new secret while everything runs, and an identity provider that is away: whose tokens are taken meanwhile."""

from collections.abc import AsyncIterator, Callable
from itertools import pairwise, permutations

import pytest

from app.domain.auth import Tokens
from app.model import CallerRole, Owner
from app.storage.database import Database
from app.trust import Trust
from tests.databases import Server
from tests.fakes import FakeClock
from tests.integration.gateway import ORG, running_gateway
from tests.security.provider import RSA, provider, sign

OLD, NEW = "o" * 32, "n" * 32
STEPS = ((OLD,), (OLD, NEW), (NEW, OLD), (NEW,))
"""As docs/operations.md has it: first all verify the new one, then it signs, then the old one goes."""

OUTSIDE = {"sub": "user", "orgId": ORG, "iss": "https://login.test", "aud": "aiwm"}


@pytest.fixture
async def database(servers: Callable[[str], Server]) -> AsyncIterator[Database]:
    """Of one engine: tokens are the same on every one."""
    server = servers("postgresql")
    async with server.fresh(migrated=True) as url:
        database = Database(url, pool_size=server.pool_size)
        yield database
        await database.close()


@pytest.mark.parametrize(("before", "after"), list(pairwise(STEPS)))
async def test_a_secret_is_replaced_one_gateway_after_the_other(
    database: Database, clock: FakeClock, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    """At each step what a gateway of before signs is good at one of after, and the other way round: at both doors."""
    async with (
        running_gateway(database, clock, jwt_secret=before) as one,
        running_gateway(database, clock, jwt_secret=after) as other,
    ):
        node_id = await one.create_node()
        for maker, taker in permutations((one, other)):
            answer = await taker.http.get(f"/nodes/{node_id}", headers=maker.http.headers)
            assert answer.status_code == 200
            async with taker.worker(await maker.make_token(node_id)) as worker:
                assert (await worker.receive())["status"] == "success"


async def test_with_a_provider_the_secret_signs_no_portal_tokens(database: Database, clock: FakeClock) -> None:
    """Unless a setting says so. Nodes are not concerned."""
    async with provider() as known:
        trust = Trust(jwks_url=known.url, issuer="https://login.test", audience="aiwm", admin_roles=("root",))
        async with running_gateway(database, clock, trust=trust) as gateway:
            refused = await gateway.http.get("/nodes")
            assert refused.status_code == 401
            assert "identity provider" in refused.json()["message"]
            claims = OUTSIDE | {"role": "root", "exp": clock.now().timestamp() + 60}
            gateway.http.headers["Authorization"] = f"Bearer {sign(RSA, claims, kid='rsa')}"
            async with gateway.worker(await gateway.make_token(await gateway.create_node())) as worker:
                assert (await worker.receive())["status"] == "success"


async def test_a_provider_that_is_away_is_told_to_people_and_not_to_nodes(database: Database, clock: FakeClock) -> None:
    """503 with a sentence and when to come again; the service starts, and takes what it can verify itself."""
    async with provider() as known:
        known.is_away = True
        trust = Trust(jwks_url=known.url, issuer="https://login.test", audience="aiwm", allow_hs256=True)
        async with running_gateway(database, clock, trust=trust) as gateway:
            token = sign(RSA, OUTSIDE | {"exp": clock.now().timestamp() + 60}, kid="rsa")
            for path in ("/nodes", "/fleet/summary"):
                answer = await gateway.http.get(path, headers={"Authorization": f"Bearer {token}"})
                assert answer.status_code == 503
                assert "identity provider" in answer.json()["message"]
                assert int(answer.headers["Retry-After"]) > 0
            own = Tokens(gateway.settings.jwt_secret, clock).issue_portal("u", CallerRole.VIEWER, Owner(org_id=ORG), 60)
            answer = await gateway.http.get("/nodes", headers={"Authorization": f"Bearer {own}"})
            assert answer.status_code == 200
            async with gateway.worker(await gateway.make_token(await gateway.create_node())) as worker:
                assert (await worker.receive())["status"] == "success"
