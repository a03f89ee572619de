"""An identity provider of the tests: keys of its own, a JWKS over HTTP, and tokens that it signs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

RSA: Final = rsa.generate_private_key(65537, 2048)
EC: Final = ec.generate_private_key(ec.SECP256R1())
STRANGER: Final = rsa.generate_private_key(65537, 2048)
"""A key of somebody whom nobody trusts."""


def jwk(key: Private, kid: str | None, **more: Any) -> dict[str, Any]:
    """The public half, as a provider publishes it; None for `kid` leaves it out."""
    public = key.public_key()
    algorithm = RSAAlgorithm if isinstance(public, rsa.RSAPublicKey) else ECAlgorithm
    named = {} if kid is None else {"kid": kid}
    return dict(json.loads(algorithm.to_jwk(public))) | named | more  # type: ignore[arg-type]


def pem(key: Private) -> bytes:
    """The public half as text, which anybody may have."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def sign(key: Private, claims: dict[str, Any], **headers: Any) -> str:
    """A token of this key."""
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


class FakeProvider:
    """Publishes `keys`, and counts how often it was asked; away, it hangs up."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [jwk(RSA, "rsa"), jwk(EC, "ec")]
        self.asked = 0
        self.is_away = False
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            if not self.is_away:
                body = json.dumps({"keys": self.keys}).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
                )
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def provider() -> AsyncIterator[FakeProvider]:
    """A provider that listens on this machine."""
    fake = FakeProvider()
    server = await asyncio.start_server(fake.answer, "127.0.0.1", 0)
    async with server:
        fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"
        yield fake
