"""Who calls: the bearer of a token of the service's own, or of the identity provider's.

The token's algorithm chooses the door and nothing more. Behind each door is one kind of key: secrets verify HS256,
the provider's public keys RS256 and ES256, so that no public key can ever pass for a secret.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from app.clock import Clock
from app.domain import claims as said
from app.domain.auth import ALGORITHM, Tokens, caller_of, of_some_org, refusals
from app.domain.claims import BadClaim, Claims, Header
from app.domain.provider_keys import ALGORITHMS, ProviderKeys
from app.errors import Forbidden
from app.model import Caller, CallerRole
from app.trust import Trust

CLOCKS_DIFFER: Final = timedelta(seconds=60)
"""By so much a provider's `nbf` may lie ahead: it says the moment of the login, by a clock of its own."""


class Callers:
    """Holds no state of its own; one for the whole service. `keys` are the provider's, where there is one."""

    def __init__(self, tokens: Tokens, trust: Trust, keys: ProviderKeys | None, clock: Clock) -> None:
        self._tokens = tokens
        self._trust = trust
        self._keys = keys
        self._clock = clock

    async def of(self, token: str) -> Caller:
        """The bearer of a portal token. Raises Unauthorized, Forbidden, ProviderUnavailable."""
        if self._keys is None:
            return self._tokens.verify_portal(token)
        with refusals():
            header = said.header_of(token)
            if header.alg == ALGORITHM and self._trust.takes_own:
                return self._tokens.verify_portal(token)
            claims = await self._claims(token, header, self._keys)
            self._judge(claims)
            org_id = said.fit(_at(claims, self._trust.org_claim), self._trust.org_claim)
            return of_some_org(caller_of(claims, self._role(claims), org_id))

    async def _claims(self, token: str, header: Header, keys: ProviderKeys) -> Claims:
        if header.alg not in ALGORITHMS.values():
            raise BadClaim("this service takes tokens of its identity provider, signed with RS256 or ES256")
        key = await keys.find(header.kid, header.alg)
        claims = None if key is None else said.verified(token, key.key, key.algorithm)
        if claims is None:
            raise BadClaim("the signature is not that of a key of the identity provider")
        return claims

    def _judge(self, claims: Claims) -> None:
        if claims.get("iss") != self._trust.issuer:
            raise BadClaim("iss is not whom this service trusts")
        if self._trust.audience is None or not said.is_meant_for(claims, self._trust.audience):
            raise BadClaim("aud is not for this service")
        said.judge_times(claims, self._clock.now(), early=CLOCKS_DIFFER)

    def _role(self, claims: Claims) -> CallerRole:
        """The highest that the settings know one of the token's roles by. Raises Forbidden."""
        given = _at(claims, self._trust.role_claim)
        roles = {role for role in (given if isinstance(given, list) else [given]) if isinstance(role, str)}
        for role, names in (
            (CallerRole.ADMIN, self._trust.admin_roles),
            (CallerRole.OPERATOR, self._trust.operator_roles),
            (CallerRole.VIEWER, self._trust.viewer_roles),
        ):
            if not roles.isdisjoint(names):
                return role
        if self._trust.viewer_roles:
            raise Forbidden("Insufficient permissions: the token names no role that this service knows")
        return CallerRole.VIEWER


def _at(claims: Claims, place: str) -> Any:
    """A claim by its name, or by a JSON Pointer (RFC 6901); None where there is nothing."""
    if not place.startswith("/"):
        return claims.get(place)
    found: Any = claims
    for step in place[1:].split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found
