"""Tokens: what is issued verifies; whatever else is refused with the right error, never with a crash."""

import base64
import math
from datetime import timedelta
from typing import Any

import jwt
import msgspec
import pytest

from app.domain.auth import Tokens
from app.errors import Forbidden, InvalidToken, TokenExpired, Unauthorized
from app.model import CallerRole, Owner
from app.trust import NODE_AUDIENCE
from tests.fakes import FakeClock

SECRET = "the first secret of at least 32 bytes"
NEXT_SECRET = "another secret of at least 32 bytes!"
NODE_ID = "673e7a1f5c9d8e001234abcd"


@pytest.fixture
def tokens(clock: FakeClock) -> Tokens:
    return Tokens((SECRET,), clock)


def signed(clock: FakeClock, secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """A token with these claims; `exp` is in an hour, None takes a claim away."""
    body = {"sub": "user", "orgId": "org", "exp": int(clock.now().timestamp()) + 3600} | claims
    body = {name: value for name, value in body.items() if value is not None}
    return jwt.encode(body, secret, algorithm=algorithm)


def node_claims(clock: FakeClock, **claims: Any) -> dict[str, Any]:
    issued = int(clock.now().timestamp())
    return {"aud": NODE_AUDIENCE, "sub": NODE_ID, "jti": "x", "gen": 0, "iat": issued, "orgId": None} | claims


def test_a_portal_token_comes_back_as_its_caller(tokens: Tokens) -> None:
    """Subject, role and all of the owner survive the round trip."""
    owner = Owner(org_id="org", group_id="group", agent_id="agent", app_id="app")
    caller = tokens.verify_portal(tokens.issue_portal("user", CallerRole.OPERATOR, owner, 60))
    assert (caller.subject, caller.role, caller.owner) == ("user", CallerRole.OPERATOR, owner)


def test_no_role_is_viewer(tokens: Tokens, clock: FakeClock) -> None:
    """The least is assumed."""
    assert tokens.verify_portal(signed(clock)).role is CallerRole.VIEWER


def test_only_an_admin_needs_no_org(tokens: Tokens, clock: FakeClock) -> None:
    """Without orgId: 403, except for an admin."""
    assert tokens.verify_portal(signed(clock, orgId=None, role="admin")).owner.org_id is None
    with pytest.raises(Forbidden):
        tokens.verify_portal(signed(clock, orgId=None, role="operator"))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": math.nan},
        {"exp": math.inf},
        {"exp": [1]},
        {"iat": "then"},
        {"iat": False},
        {"nbf": 99_999_999_999},
        {"nbf": "now"},
        {"aud": "aiwm-node"},
        {"aud": "somebody else"},
        {"aud": ["x"]},
        {"sub": None},
        {"sub": 7},
        {"sub": ""},
        {"sub": "nul\0"},
        {"sub": "\ud800"},
        {"sub": "x" * 257},
        {"orgId": 7},
        {"orgId": ["org"]},
        {"groupId": {}},
        {"role": "root"},
        {"role": ["admin"]},
        {"role": True},
    ],
)
def test_claims_that_do_not_fit_are_unauthorized(tokens: Tokens, clock: FakeClock, claims: dict[str, Any]) -> None:
    """Missing, of a wrong type, or not for us."""
    with pytest.raises(Unauthorized):
        tokens.verify_portal(signed(clock, **claims))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "é.é.é",
        "\ud800",
        "....",
        base64.urlsafe_b64encode(b"[" * 20_000).decode().rstrip("=") + ".e30.x",
        base64.urlsafe_b64encode(b'{"alg":["HS256"]}').decode().rstrip("=") + ".e30.x",
        base64.urlsafe_b64encode(b'{"alg":"HS256","kid":7}').decode().rstrip("=") + ".e30.x",
    ],
)
def test_what_is_no_token_is_refused(tokens: Tokens, token: str) -> None:
    """At both doors."""
    with pytest.raises(Unauthorized):
        tokens.verify_portal(token)
    with pytest.raises(InvalidToken):
        tokens.verify_node(token)


def test_algorithms_are_pinned(tokens: Tokens, clock: FakeClock) -> None:
    """Neither `none` nor another HMAC opens a door."""
    with pytest.raises(Unauthorized):
        tokens.verify_portal(signed(clock, algorithm="HS512", secret=SECRET * 2))
    with pytest.raises(Unauthorized):
        tokens.verify_portal(signed(clock, algorithm="HS384", secret=SECRET * 2))
    claims = {"sub": "user", "orgId": "org", "exp": clock.now().timestamp() + 60}
    unsigned = jwt.encode(claims, key="", algorithm="none")
    with pytest.raises(Unauthorized):
        tokens.verify_portal(unsigned)


def test_a_payload_that_is_no_object_is_refused(tokens: Tokens) -> None:
    """Signed by us, and still not claims."""
    listed = jwt.api_jws.encode(b"[1]", SECRET, algorithm="HS256")
    with pytest.raises(Unauthorized):
        tokens.verify_portal(listed)


def test_a_token_ends_by_the_service_clock(tokens: Tokens, clock: FakeClock) -> None:
    """The moment of `exp` is already too late."""
    portal = tokens.issue_portal("user", CallerRole.VIEWER, Owner(org_id="org"), 60)
    node = tokens.issue_node(NODE_ID, 0, 60)
    clock.advance(59)
    tokens.verify_portal(portal)
    tokens.verify_node(node.token)
    clock.advance(1)
    with pytest.raises(Unauthorized, match="expired"):
        tokens.verify_portal(portal)
    with pytest.raises(TokenExpired):
        tokens.verify_node(node.token)


def test_the_first_secret_signs_and_all_verify(clock: FakeClock) -> None:
    """Secrets can be rotated without logging anybody out."""
    old, rotated = Tokens((SECRET,), clock), Tokens((NEXT_SECRET, SECRET), clock)
    caller = rotated.verify_portal(old.issue_portal("user", CallerRole.ADMIN, Owner(), 60))
    assert caller.is_admin
    with pytest.raises(Unauthorized):
        old.verify_portal(rotated.issue_portal("user", CallerRole.ADMIN, Owner(), 60))


def test_a_node_token_says_which_node_and_generation(tokens: Tokens, clock: FakeClock) -> None:
    """And its `exp` is the one that the answer shows."""
    issued = tokens.issue_node(NODE_ID, 3, 86_400)
    claims = tokens.verify_node(issued.token)
    assert (claims.node_id, claims.generation) == (NODE_ID, 3)
    assert claims.expires_at == issued.expires_at == clock.now() + timedelta(days=1)
    assert claims.token_id != tokens.verify_node(tokens.issue_node(NODE_ID, 3, 60).token).token_id


def test_the_claims_of_a_node_token_are_the_contracts(tokens: Tokens) -> None:
    """`aud`, `sub`, `jti`, `iat`, `exp`, and our own `gen`."""
    payload = msgspec.json.decode(
        base64.urlsafe_b64decode(tokens.issue_node(NODE_ID, 0, 60).token.split(".")[1] + "==")
    )
    assert set(payload) == {"aud", "sub", "jti", "iat", "exp", "gen"}
    assert payload["exp"] - payload["iat"] == 60


def test_neither_token_opens_the_others_door(tokens: Tokens) -> None:
    """A node token at REST is unauthorized, a portal token at the WebSocket invalid."""
    with pytest.raises(Unauthorized):
        tokens.verify_portal(tokens.issue_node(NODE_ID, 0, 60).token)
    with pytest.raises(InvalidToken):
        tokens.verify_node(tokens.issue_portal("user", CallerRole.ADMIN, Owner(), 60))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [NODE_AUDIENCE]},
        {"aud": None},
        {"sub": "user"},
        {"sub": NODE_ID.upper()},
        {"jti": None},
        {"jti": 5},
        {"gen": None},
        {"gen": True},
        {"gen": "0"},
        {"gen": -1},
        {"gen": 2**40},
        {"iat": None},
        {"exp": None},
        {"exp": 1e300},
        {"exp": 10**400},
    ],
)
def test_node_claims_that_do_not_fit_are_invalid(tokens: Tokens, clock: FakeClock, claims: dict[str, Any]) -> None:
    """Missing, of a wrong type, or out of range."""
    with pytest.raises(InvalidToken) as caught:
        tokens.verify_node(signed(clock, **node_claims(clock, **claims)))
    assert type(caught.value) is InvalidToken
