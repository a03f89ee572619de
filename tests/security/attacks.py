"""Attacks with tokens: each a token that would be good but for one thing, forged for the door at which it is tried."""

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tests.security.provider import RSA, STRANGER, jwk, pem, sign

Forge = Callable[["Door"], str]


class Door(NamedTuple):
    """What stands at a door: the claims of a good token there, and whose keys it trusts.

    `claims` are those of a token that the service signs, `outside` those of the provider's. The tokens of nodes
    were good once: `deleted` of one that is gone, `revoked` of one that has a newer one, `disabled` of one without.
    """

    claims: dict[str, Any]
    outside: dict[str, Any]
    secret: str
    retired: str
    other_door: str
    deleted: str
    revoked: str
    disabled: str
    elsewhere: str
    """A URL where an attacker publishes keys."""


class Attack(NamedTuple):
    """What is tried, and what it must be answered: an HTTP status, and an error code and a close code of the socket."""

    name: str
    how: str
    forge: Forge
    rest: int = 401
    code: str = "INVALID_TOKEN"
    close: int = 4401


def segment(value: Any) -> str:
    """JSON (or bytes that only look like it) as a part of a token."""
    encoded = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(encoded).decode().rstrip("=")


def by_hand(header: Any, payload: Any, secret: bytes, digest: str = "sha256") -> str:
    """HMAC over whatever there is, which a careful library would not do."""
    text = f"{segment(header)}.{segment(payload)}"
    return f"{text}.{segment(hmac.digest(secret, text.encode(), digest))}"


def hs256(door: Door, payload: Any, **header: Any) -> str:
    """Signed as the service signs."""
    return by_hand({"alg": "HS256", "typ": "JWT"} | header, payload, door.secret.encode())


def with_claims(**claims: Any) -> Forge:
    """A good token with these claims instead; None takes one away."""
    return lambda door: hs256(door, {k: v for k, v in (door.claims | claims).items() if v is not None})


def from_outside(**claims: Any) -> Forge:
    """The same of a token that the provider signs."""
    return lambda door: sign(RSA, {k: v for k, v in (door.outside | claims).items() if v is not None}, kid="rsa")


def unsigned(alg: Any) -> Forge:
    """No signature, under this name."""
    return lambda door: f"{segment({'alg': alg, 'typ': 'JWT'})}.{segment(door.claims)}."


def with_kid(kid: Any, secret: bytes = b"") -> Forge:
    """A token signed with what `kid` would lead to, if anybody followed it."""
    return lambda door: by_hand({"alg": "HS256", "kid": kid}, door.claims, secret)


def by_a_stranger(**header: Any) -> Forge:
    """Signed by the attacker's own key, with a header that offers it."""
    return lambda door: sign(STRANGER, door.outside, **header)


def twice(name: str, first: Any) -> Forge:
    """A claim that stands twice, the second time as in a good token."""
    return lambda door: hs256(door, f'{{"{name}": {json.dumps(first)}, {json.dumps(door.claims)[1:]}'.encode())


def changed(door: Door) -> str:
    """A good token's signature under other claims."""
    head, _, signature = hs256(door, door.claims).split(".")
    return f"{head}.{segment(door.claims | {'role': 'admin', 'gen': 9})}.{signature}"


def zero_signature(door: Door) -> str:
    """ES256 with r = s = 0, which some libraries took for good (CVE-2022-21449)."""
    return f"{segment({'alg': 'ES256', 'kid': 'ec'})}.{segment(door.outside)}.{segment(bytes(64))}"


def public_key_as_secret(key: bytes) -> Forge:
    """What anybody may read, used as a secret."""
    return lambda door: by_hand({"alg": "HS256", "kid": "rsa"}, door.outside | door.claims, key)


ATTACKS: Final = (
    Attack("no algorithm", "`alg: none`, no signature", unsigned("none")),
    Attack("no algorithm, in capitals", "`alg: NoNe`, no signature", unsigned("NoNe")),
    Attack("empty algorithm", "`alg` is empty, no signature", unsigned("")),
    Attack("algorithm of a wrong type", '`alg: ["HS256"]`', unsigned(["HS256"])),
    Attack("none over a signature", "`alg: none` and a signature", lambda d: unsigned("none")(d) + segment(b"x" * 32)),
    Attack("public key as secret", "HS256 with the provider's RSA key (PEM)", public_key_as_secret(pem(RSA))),
    Attack(
        "public JWK as secret",
        "HS256 with the provider's JWK",
        public_key_as_secret(json.dumps(jwk(RSA, "rsa")).encode()),
    ),
    Attack(
        "another HMAC",
        "HS512 with the right secret",
        lambda d: by_hand({"alg": "HS512"}, d.claims, d.secret.encode(), "sha512"),
    ),
    Attack("RSA's name for an EC key", "RS256, signed by a stranger, `kid` of the EC key", by_a_stranger(kid="ec")),
    Attack("zero signature", "ES256 with r = s = 0", zero_signature),
    Attack(
        "foreign secret",
        "HS256 with a secret of somebody else's",
        lambda d: by_hand({"alg": "HS256"}, d.claims, b"f" * 32),
    ),
    Attack("foreign key", "RS256 by a stranger under the provider's `kid`", by_a_stranger(kid="rsa")),
    Attack("tampered claims", "role and generation raised under an old signature", changed),
    Attack("no signature", "the signature is cut off", lambda d: hs256(d, d.claims).rpartition(".")[0] + "."),
    Attack("half a signature", "the last bytes are cut off", lambda d: hs256(d, d.claims)[:-8]),
    Attack("no exp", "a token for ever", with_claims(exp=None)),
    Attack("no exp, from outside", "the same, signed by the provider", from_outside(exp=None)),
    Attack("expired", "`exp` is now", lambda d: hs256(d, d.claims | {"exp": d.claims["iat"]}), code="TOKEN_EXPIRED"),
    Attack(
        "expired, from outside",
        "the same, signed by the provider",
        lambda d: sign(RSA, d.outside | {"exp": d.outside["iat"]}, kid="rsa"),
    ),
    Attack("exp without end", "`exp: Infinity`", with_claims(exp=float("inf"))),
    Attack("exp that is no number", "`exp: NaN`", with_claims(exp=float("nan"))),
    Attack("exp as text", '`exp: "tomorrow"`', with_claims(exp="tomorrow")),
    Attack("exp as truth", "`exp: true`", with_claims(exp=True)),
    Attack("exp as a list", "`exp: [1]`", with_claims(exp=[1])),
    Attack("nbf ahead", "`nbf` in an hour", lambda d: hs256(d, d.claims | {"nbf": d.claims["iat"] + 3600})),
    Attack(
        "nbf ahead, from outside",
        "the same, signed by the provider",
        lambda d: sign(RSA, d.outside | {"nbf": d.outside["iat"] + 3600}, kid="rsa"),
    ),
    Attack("wrong aud", "`aud` of another service", with_claims(aud="another-service")),
    Attack("wrong aud, from outside", "the same, signed by the provider", from_outside(aud="another-service")),
    Attack("wrong aud in a list", "a list without this service", from_outside(aud=["one", "other"])),
    Attack("no aud, from outside", "the provider names no service", from_outside(aud=None)),
    Attack("aud of a wrong type", "`aud: {…}`", with_claims(aud={"aiwm-node": True})),
    Attack(
        "wrong iss",
        "`iss` of another provider",
        lambda d: hs256(d, d.claims | {"iss": "https://evil.test", "aud": "x"}),
    ),
    Attack("wrong iss, from outside", "the same, signed by the provider", from_outside(iss="https://evil.test")),
    Attack("no iss, from outside", "the provider does not name itself", from_outside(iss=None)),
    Attack("kid is a path", "`kid: ../../dev/null`, signed with its content", with_kid("../../../../../dev/null")),
    Attack(
        "kid is a URL", "`kid` where an attacker publishes keys", lambda d: sign(STRANGER, d.outside, kid=d.elsewhere)
    ),
    Attack("kid is SQL", "`kid: ' UNION SELECT 'k`, signed with `k`", with_kid("' UNION SELECT 'k", b"k")),
    Attack("kid is SQL, RS256", "the same by a stranger", by_a_stranger(kid="x' OR '1'='1")),
    Attack("kid of a wrong type", "`kid: 7`", with_kid(7, b"7")),
    Attack("kid with NUL", "`kid: rsa\\0`", by_a_stranger(kid="rsa\0")),
    Attack("unknown kid", "`kid: rsa-2`", by_a_stranger(kid="rsa-2")),
    Attack(
        "jku", "a header that says where the keys are", lambda d: sign(STRANGER, d.outside, kid="x", jku=d.elsewhere)
    ),
    Attack(
        "x5u",
        "a header that says where the certificate is",
        lambda d: sign(STRANGER, d.outside, kid="x", x5u=d.elsewhere),
    ),
    Attack("jwk", "a header that brings the key", by_a_stranger(kid="stranger", jwk=jwk(STRANGER, "stranger"))),
    Attack("unknown crit", "`crit: [exp]`: to be understood or refused", lambda d: hs256(d, d.claims, crit=["exp"])),
    Attack("payload apart", "`b64: false`", lambda d: hs256(d, d.claims, b64=False, crit=["b64"])),
    Attack("huge token", "9,000 characters, well signed", with_claims(x="x" * 9000)),
    Attack(
        "deep claims",
        "100 lists in each other in `sub`, well signed",
        with_claims(sub=json.loads("[" * 100 + "]" * 100)),
    ),
    Attack("too deep claims", "3,000 lists in each other, well signed", lambda d: hs256(d, b"[" * 3000)),
    Attack(
        "deep header", "3,000 lists in each other as header", lambda d: f"{segment(b'[' * 3000)}.{segment(d.claims)}.x"
    ),
    Attack("claim twice: sub", "two `sub`, well signed", twice("sub", "somebody")),
    Attack("claim twice: exp", "two `exp`, well signed", twice("exp", 99_999_999_999)),
    Attack("claim twice: aud", "two `aud`, well signed", twice("aud", "aiwm-node")),
    Attack(
        "alg twice",
        "`alg` none and HS256",
        lambda d: by_hand(b'{"alg": "none", "alg": "HS256"}', d.claims, d.secret.encode()),
    ),
    Attack("claims in a list", "the payload is no object, well signed", lambda d: hs256(d, [d.claims])),
    Attack("claims that are no text", "bytes that are not UTF-8, well signed", lambda d: hs256(d, b'{"sub": "\xff"}')),
    Attack("sub as a number", "`sub: 7`", with_claims(sub=7)),
    Attack("no sub", "nobody", with_claims(sub=None)),
    Attack("sub with NUL", "what no column can hold", with_claims(sub="user\0")),
    Attack("half a character in sub", "`sub: \\ud800`", with_claims(sub="\ud800")),
    Attack("orgId in a list", "or as `jti`, at the socket", with_claims(orgId=["org"], jti=["x"])),
    Attack("role in a list", "or `gen` as truth, at the socket", with_claims(role=["admin"], gen=True)),
    Attack("role that is none", "or a `gen` below zero", with_claims(role="root", gen=-1)),
    Attack("the other door's token", "a node's at REST, a portal's at the socket", lambda d: d.other_door),
    Attack(
        "token of a deleted node", "good until its node went", lambda d: d.deleted, code="NODE_NOT_FOUND", close=4404
    ),
    Attack("revoked jti", "replaced by `revokePrevious`", lambda d: d.revoked),
    Attack("disabled node", "after `DELETE /nodes/:id/token`", lambda d: d.disabled, code="NODE_INACTIVE", close=4403),
    Attack(
        "retired secret",
        "good until the secret was taken out",
        lambda d: by_hand({"alg": "HS256"}, d.claims, d.retired.encode()),
    ),
    Attack("five parts", "a JWE, which nobody here can open", lambda d: hs256(d, d.claims) + ".x.y"),
    Attack("no JWT", "text", lambda _: "no.token.atall"),
    Attack("foreign alphabet", "base64 as it is not in tokens", lambda d: hs256(d, d.claims).replace(".", ".+/", 1)),
)
