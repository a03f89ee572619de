"""Tokens, issued and verified: those of people at the portal, and those of nodes.

Both are JWTs, HS256 and nothing else. Of PyJWT only the signature is taken; every claim is judged
here, by the service's own clock and with strict types. Neither kind opens the other's door: a node
token carries `aud: "aiwm-node"`, a portal token carries no `aud` at all.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any, Final

import jwt
import msgspec

from app.clock import Clock
from app.errors import Forbidden, InvalidToken, TokenExpired, Unauthorized
from app.model import NODE_ID, Caller, CallerRole, Owner

NODE_AUDIENCE: Final = "aiwm-node"
CLAIM_LENGTH: Final = 256
"""Characters of a text claim: they end up in an indexed column."""

_ALGORITHM: Final = "HS256"
_UNJUDGED: Final = dict.fromkeys(("exp", "nbf", "iat", "aud", "iss", "sub", "jti"), False)
_OPTIONS: Final[Any] = {"verify_signature": True, **{f"verify_{claim}": value for claim, value in _UNJUDGED.items()}}
_ROLES: Final[dict[str, CallerRole]] = {role.value: role for role in CallerRole}
_EXPIRED: Final = "JWT token has expired"


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


class _BadClaimError(Exception):
    """A claim that is missing or of the wrong type; the message names it."""


class _ExpiredError(Exception):
    """Past its `exp`."""


class Tokens:
    """Signs with the first secret, verifies with all. Holds no other state; one for the whole service."""

    def __init__(self, secrets: tuple[str, ...], clock: Clock) -> None:
        if not secrets:
            raise ValueError("at least one secret is needed")
        self._secrets = secrets
        self._clock = clock

    def issue_portal(self, subject: str, role: CallerRole, owner: Owner, expires_in: int) -> str:
        """A portal token that lives `expires_in` seconds."""
        issued = int(self._clock.now().timestamp())
        claims = {"sub": subject, "role": role.value, "iat": issued, "exp": issued + expires_in}
        return self._sign(claims | msgspec.to_builtins(owner))

    def verify_portal(self, token: str) -> Caller:
        """The bearer of a portal token.

        Raises Unauthorized for a token that is not valid here, Forbidden for one that belongs to no org
        and is not an admin's.
        """
        try:
            claims = self._claims(token)
            if "aud" in claims:
                raise _BadClaimError("aud is not for this service")
            caller = _caller(claims)
            self._judge_times(claims)
        except _BadClaimError as error:
            raise Unauthorized(f"Missing or invalid JWT token: {error}") from None
        except _ExpiredError:
            raise Unauthorized(_EXPIRED) from None
        if caller.owner.org_id is None and not caller.is_admin:
            raise Forbidden("Insufficient permissions: the token names no orgId")
        return caller

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
        return IssuedToken(self._sign(claims), _moment(claims, "iat"), _moment(claims, "exp"))

    def verify_node(self, token: str) -> NodeClaims:
        """What a node token says. Raises InvalidToken, or TokenExpired for one that was valid once."""
        try:
            claims = self._claims(token)
            if claims.get("aud") != NODE_AUDIENCE:
                raise _BadClaimError("aud is not that of a node token")
            verified = _node_claims(claims)
            self._judge_times(claims)
        except _BadClaimError as error:
            raise InvalidToken(f"Invalid JWT token: {error}") from None
        except _ExpiredError:
            raise TokenExpired from None
        return verified

    def _sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self._secrets[0], algorithm=_ALGORITHM)

    def _claims(self, token: str) -> Mapping[str, Any]:
        for secret in self._secrets:
            try:
                return jwt.decode(token, secret, algorithms=[_ALGORITHM], options=_OPTIONS)
            except jwt.InvalidSignatureError:
                continue
            # A hostile header can nest too deep, or be of types that PyJWT does not expect.
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
                raise _BadClaimError("it is not a JWT that this service signs") from None
        raise _BadClaimError("the signature does not match")

    def _judge_times(self, claims: Mapping[str, Any]) -> None:
        now = self._clock.now().timestamp()
        expires = _number(claims, "exp")
        if "iat" in claims:
            _number(claims, "iat")
        if "nbf" in claims and _number(claims, "nbf") > now:
            raise _BadClaimError("nbf lies ahead")
        if expires <= now:
            raise _ExpiredError


def _caller(claims: Mapping[str, Any]) -> Caller:
    subject = _text(claims, "sub")
    if subject is None:
        raise _BadClaimError("sub is missing")
    role = _ROLES.get(_text(claims, "role") or CallerRole.VIEWER)
    if role is None:
        raise _BadClaimError(f"role is none of {', '.join(_ROLES)}")
    owner = Owner(
        org_id=_text(claims, "orgId"),
        group_id=_text(claims, "groupId"),
        agent_id=_text(claims, "agentId"),
        app_id=_text(claims, "appId"),
    )
    return Caller(subject=subject, role=role, owner=owner)


def _node_claims(claims: Mapping[str, Any]) -> NodeClaims:
    node_id, token_id = _text(claims, "sub"), _text(claims, "jti")
    if node_id is None or not NODE_ID.fullmatch(node_id):
        raise _BadClaimError("sub is not a node's _id")
    if token_id is None:
        raise _BadClaimError("jti is missing")
    generation = claims.get("gen")
    if type(generation) is not int or not 0 <= generation < 2**31:
        raise _BadClaimError("gen is not a token generation")
    return NodeClaims(node_id, generation, token_id, _moment(claims, "iat"), _moment(claims, "exp"))


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    """A text claim; missing, null and empty are the same. It must be fit to be stored."""
    value = claims.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > CLAIM_LENGTH or "\0" in value:
        raise _BadClaimError(f"{name} is not a text of at most {CLAIM_LENGTH} characters")
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can write and nothing can store
        raise _BadClaimError(f"{name} is not valid Unicode") from None
    return value


def _number(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _BadClaimError(f"{name} is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _BadClaimError(f"{name} is not a time")
    return number


def _moment(claims: Mapping[str, Any], name: str) -> datetime:
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=_number(claims, name))
    except OverflowError:
        raise _BadClaimError(f"{name} lies too far ahead") from None
