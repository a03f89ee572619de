"""Tokens, issued and verified: those of people at the portal, and those of nodes.

These are JWTs that the service's own secrets sign, HS256 and nothing else; what an identity provider signs is
`provider.py`'s. Every claim is judged by the service's own clock and with strict types. Neither kind opens the
other's door: a node token carries `aud: "aiwm-node"`, which no portal token may carry.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from secrets import token_hex
from typing import Any, Final

import jwt
import msgspec

from app.clock import Clock
from app.domain import claims as said
from app.domain.claims import BadClaim, Claims, Expired
from app.errors import Forbidden, InvalidToken, TokenExpired, Unauthorized
from app.model import NODE_ID, Caller, CallerRole, Owner
from app.trust import NODE_AUDIENCE, OWN_ALONE, Trust

ALGORITHM: Final = "HS256"

_ROLES: Final[dict[str, CallerRole]] = {role.value: role for role in CallerRole}


class IssuedToken(msgspec.Struct, frozen=True):
    """A signed token, and the `iat` and `exp` that stand in it."""

    token: str
    issued_at: datetime
    expires_at: datetime


class NodeClaims(msgspec.Struct, frozen=True):
    """What a verified node token says; a generation below the node's present one is revoked."""

    node_id: str
    generation: int
    token_id: str
    issued_at: datetime
    expires_at: datetime


class Tokens:
    """Signs with the first secret, verifies with all. Holds no other state; one for the whole service."""

    def __init__(self, secrets: tuple[str, ...], clock: Clock, trust: Trust = OWN_ALONE) -> None:
        if not secrets:
            raise ValueError("at least one secret is needed")
        self._secrets = secrets
        self._clock = clock
        self._trust = trust

    def issue_portal(self, subject: str, role: CallerRole, owner: Owner, expires_in: int) -> str:
        """A portal token that lives `expires_in` seconds."""
        issued = int(self._clock.now().timestamp())
        claims = {"sub": subject, "role": role.value, "iat": issued, "exp": issued + expires_in}
        return self._sign(claims | msgspec.to_builtins(owner))

    def verify_portal(self, token: str) -> Caller:
        """The bearer of a portal token of the service's own.

        Raises Unauthorized for a token that is not valid here, Forbidden for one that belongs to no org
        and is not an admin's.
        """
        with refusals():
            claims = self._claims(token)
            self._judge_origin(claims)
            role = _ROLES.get(said.text(claims, "role") or CallerRole.VIEWER)
            if role is None:
                raise BadClaim(f"role is none of {', '.join(_ROLES)}")
            caller = caller_of(claims, role, said.text(claims, "orgId"))
            said.judge_times(claims, self._clock.now())
        return of_some_org(caller)

    def issue_node(self, node_id: str, generation: int, expires_in: int) -> IssuedToken:
        """A node token that lives `expires_in` seconds; `generation` is the node's at present."""
        issued = int(self._clock.now().timestamp())
        claims = {
            "aud": NODE_AUDIENCE,
            "sub": node_id,
            "jti": token_hex(16),
            "gen": generation,
            "iat": issued,
            "exp": issued + expires_in,
        }
        return IssuedToken(self._sign(claims), said.moment(claims, "iat"), said.moment(claims, "exp"))

    def verify_node(self, token: str) -> NodeClaims:
        """What a node token says. Raises InvalidToken, or TokenExpired for one that was valid once."""
        try:
            claims = self._claims(token)
            if claims.get("aud") != NODE_AUDIENCE:
                raise BadClaim("aud is not that of a node token")
            verified = _node_claims(claims)
            said.judge_times(claims, self._clock.now())
        except BadClaim as error:
            raise InvalidToken(f"Invalid JWT token: {error}") from None
        except Expired:
            raise TokenExpired from None
        return verified

    def _sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self._secrets[0], algorithm=ALGORITHM)

    def _claims(self, token: str) -> Claims:
        if said.header_of(token).alg != ALGORITHM:
            raise BadClaim("it is not signed as this service signs")
        for secret in self._secrets:
            claims = said.verified(token, secret, ALGORITHM)
            if claims is not None:
                return claims
        raise BadClaim("the signature does not match")

    def _judge_origin(self, claims: Claims) -> None:
        """Whoever has the secret need not say who it is, nor for whom: but what it says must be so."""
        audience, issuer = self._trust.audience, self._trust.issuer
        if "aud" in claims and (audience is None or not said.is_meant_for(claims, audience)):
            raise BadClaim("aud is not for this service")
        if "iss" in claims and issuer is not None and claims["iss"] != issuer:
            raise BadClaim("iss is not whom this service trusts")


@contextmanager
def refusals() -> Iterator[None]:
    """What the bearer of a portal token is told where it is not as it should be. Raises Unauthorized."""
    try:
        yield
    except BadClaim as error:
        raise Unauthorized(f"Missing or invalid JWT token: {error}") from None
    except Expired:
        raise Unauthorized("JWT token has expired") from None


def caller_of(claims: Claims, role: CallerRole, org_id: str | None) -> Caller:
    """The bearer, by the claims that every portal token has. Raises BadClaim."""
    subject = said.text(claims, "sub")
    if subject is None:
        raise BadClaim("sub is missing")
    rest = {field: said.text(claims, name) for field, name in _OWNER_CLAIMS.items()}
    return Caller(subject=subject, role=role, owner=Owner(org_id=org_id, **rest))


def of_some_org(caller: Caller) -> Caller:
    """The same. Raises Forbidden for one that belongs to no org, and is not an admin."""
    if caller.owner.org_id is None and not caller.is_admin:
        raise Forbidden("Insufficient permissions: the token names no orgId")
    return caller


_OWNER_CLAIMS: Final = {"group_id": "groupId", "agent_id": "agentId", "app_id": "appId"}


def _node_claims(claims: Claims) -> NodeClaims:
    node_id, token_id = said.text(claims, "sub"), said.text(claims, "jti")
    if node_id is None or not NODE_ID.fullmatch(node_id):
        raise BadClaim("sub is not a node's _id")
    if token_id is None:
        raise BadClaim("jti is missing")
    generation = claims.get("gen")
    if type(generation) is not int or not 0 <= generation < 2**31:
        raise BadClaim("gen is not a token generation")
    return NodeClaims(node_id, generation, token_id, said.moment(claims, "iat"), said.moment(claims, "exp"))
