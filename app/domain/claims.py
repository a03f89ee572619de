"""What a JWT says, read strictly: one meaning for whoever reads it, or none.

Of PyJWT only the signature is taken. JSON that names a key twice, claims of a wrong type, numbers that are none:
each is refused here, with a sentence that names it and never repeats what stood there.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt
import msgspec

TOKEN_LENGTH: Final = 8192
"""Characters of a token; nothing of a longer one is looked at."""

CLAIM_LENGTH: Final = 256
"""Characters of a text claim: they end up in an indexed column."""

Claims = Mapping[str, Any]


class BadClaim(Exception):
    """A token, or a claim in it, that is not as it should be; the message names it."""


class Expired(Exception):
    """Past its `exp`."""


class Header(msgspec.Struct, frozen=True):
    """What chooses the key. Nobody has vouched for it yet: `kid` is for comparing, and for nothing else."""

    alg: str
    kid: str | None


def header_of(token: str) -> Header:
    """A token's header, before anything is verified. Raises BadClaim."""
    if len(token) > TOKEN_LENGTH:
        raise BadClaim(f"it is longer than {TOKEN_LENGTH} characters")
    try:
        head = _strict(jwt.utils.base64url_decode(token.partition(".")[0]))
    except (ValueError, RecursionError):
        raise BadClaim("its header is not JSON") from None
    alg, kid = head.get("alg"), head.get("kid")
    if not isinstance(alg, str) or not isinstance(kid, str | None):
        raise BadClaim("its header names no key")
    return Header(alg, kid)


def verified(token: str, key: Any, algorithm: str) -> Claims | None:
    """The claims, if this key has signed them by this algorithm, None if it has not. Raises BadClaim."""
    try:
        return _strict(jwt.api_jws.decode(token, key, algorithms=[algorithm]))
    except jwt.InvalidSignatureError:
        return None
    # A hostile header can nest too deep, or be of types that PyJWT does not expect.
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise BadClaim("it is not a JWT as this service takes them") from None


def judge_times(claims: Claims, now: datetime, *, early: timedelta = timedelta()) -> None:
    """Raises Expired, or BadClaim for a token that is not valid yet: `early` is by how much clocks may differ there."""
    expires = number(claims, "exp")
    if "iat" in claims:
        number(claims, "iat")
    if "nbf" in claims and number(claims, "nbf") > (now + early).timestamp():
        raise BadClaim("nbf lies ahead")
    if expires <= now.timestamp():
        raise Expired


def is_meant_for(claims: Claims, audience: str) -> bool:
    """Whether `aud` is this audience, or a list with it."""
    meant = claims.get("aud")
    return audience in meant if isinstance(meant, list) else meant == audience


def text(claims: Claims, name: str) -> str | None:
    """A text claim; missing, null and empty are the same. It must be fit to be stored."""
    return fit(claims.get(name), name)


def fit(value: Any, name: str) -> str | None:
    """The same for a value that stood elsewhere."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > CLAIM_LENGTH or "\0" in value:
        raise BadClaim(f"{name} is not a text of at most {CLAIM_LENGTH} characters")
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can write and nothing can store
        raise BadClaim(f"{name} is not valid Unicode") from None
    return value


def number(claims: Claims, name: str) -> float:
    """A number; no truth value, no text, nothing infinite."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadClaim(f"{name} is not a number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise BadClaim(f"{name} is not a time")
    return found


def moment(claims: Claims, name: str) -> datetime:
    """A time, in seconds since 1970."""
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=number(claims, name))
    except OverflowError:
        raise BadClaim(f"{name} lies too far ahead") from None


def _strict(encoded: bytes) -> dict[str, Any]:
    """A JSON object in which no object has a key twice. Raises ValueError."""
    found = json.loads(encoded.decode(), object_pairs_hook=_once)
    if not isinstance(found, dict):
        raise ValueError("no object")  # noqa: TRY004 – what it says is wrong, not what it was called with
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
