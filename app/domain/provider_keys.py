"""The identity provider's public keys: fetched, kept, and fetched again. A token never waits for those that are known.

They are fetched every few minutes, and once more for a `kid` that is not among them, at most every PAUSE_SECONDS
however many such tokens come. While the provider is away its keys go on counting, for a day at most: a key that it has
taken back must not live for ever.
"""

import asyncio
import logging
import math
from typing import Any, Final

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK

from app.clock import Clock
from app.errors import ProviderUnavailable

REFRESH_SECONDS: Final = 300.0
PAUSE_SECONDS: Final = 10.0
FETCH_SECONDS: Final = 5.0
KEPT_SECONDS: Final = 86_400.0
MOST_BYTES: Final = 256 * 1024
RSA_BITS: Final = 2048
"""Shorter ones are not safe, says RFC 7518 section 3.3."""

ALGORITHMS: Final = {"RSA": "RS256", "EC": "ES256"}
"""By type of key, so that no token can say how a key is to be used."""

_PLAIN: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}

_log = logging.getLogger(__name__)


class ProviderKey(msgspec.Struct, frozen=True):
    """A public key, and the one algorithm that it verifies."""

    kid: str | None
    algorithm: str
    key: RSAPublicKey | EllipticCurvePublicKey


class _JwkSet(msgspec.Struct):
    keys: list[dict[str, Any]]


class ProviderKeys:
    """Owned by the composition root, which runs `run` as a task and closes the client."""

    def __init__(self, url: str, client: httpx.AsyncClient, clock: Clock) -> None:
        self._url = url
        self._client = client
        self._clock = clock
        self._keys: tuple[ProviderKey, ...] = ()
        self._fetched_at = -math.inf
        self._tried_at = -math.inf
        self._wanted = asyncio.Event()
        self._tried = asyncio.Event()

    async def find(self, kid: str | None, algorithm: str) -> ProviderKey | None:
        """The key of this name; without a name the only one there is. Raises ProviderUnavailable."""
        key = self._known(kid, algorithm)
        if key is None and self._clock.monotonic() - self._tried_at >= PAUSE_SECONDS:
            await self._try_again()
            key = self._known(kid, algorithm)
        if not self._are_good:
            raise ProviderUnavailable
        return key

    async def run(self) -> None:
        """Fetch the keys at once, and from then on when they are due or wanted."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._remind(), name="provider keys due")
            while True:
                await self._wanted.wait()
                await self._try()

    async def _remind(self) -> None:
        while True:
            if self._clock.monotonic() - self._fetched_at >= REFRESH_SECONDS:
                self._wanted.set()
            await self._clock.sleep(PAUSE_SECONDS)

    @property
    def _are_good(self) -> bool:
        return self._clock.monotonic() - self._fetched_at < KEPT_SECONDS

    def _known(self, kid: str | None, algorithm: str) -> ProviderKey | None:
        found = [key for key in self._keys if key.algorithm == algorithm and kid in {None, key.kid}]
        return found[0] if len(found) == 1 and self._are_good else None

    async def _try_again(self) -> None:
        """Wait for one attempt, whoever else waits for it."""
        self._tried.clear()
        self._wanted.set()
        try:
            async with asyncio.timeout(FETCH_SECONDS + 1):
                await self._tried.wait()
        except TimeoutError:
            raise ProviderUnavailable from None

    async def _try(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys = _usable(await self._fetch())
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, msgspec.DecodeError) as error:
            _log.warning(
                "The identity provider's keys cannot be fetched (%s): %s. See that AIWM_JWT_JWKS_URL is right and can be reached.",
                str(error).rstrip(".") or type(error).__name__,
                "those that are known go on counting for a day" if self._are_good else "its tokens are answered 503",
            )
        else:
            self._keys, self._fetched_at = keys, self._clock.monotonic()
        finally:
            self._tried_at = self._clock.monotonic()
            self._wanted.clear()
            self._tried.set()

    async def _fetch(self) -> bytes:
        """The answer's body. Redirects are not followed: the keys are at the address that was set, or nowhere."""
        body = bytearray()
        async with self._client.stream("GET", self._url, headers=_PLAIN) as answer:
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"the answer is {answer.status_code}")
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise ValueError(f"the answer is longer than {MOST_BYTES} bytes")
        return bytes(body)


def _usable(body: bytes) -> tuple[ProviderKey, ...]:
    """The keys that this service can use. Raises ValueError where there are none."""
    keys = tuple(key for jwk in msgspec.json.decode(body, type=_JwkSet).keys if (key := _key(jwk)) is not None)
    if not keys:
        raise ValueError("there is no key for RS256 (2048 bits or more) or ES256 in the answer")
    return keys


def _key(jwk: dict[str, Any]) -> ProviderKey | None:
    """None for one that is for something else: encryption, another algorithm, a secret, too short."""
    kid, algorithm = jwk.get("kid"), ALGORITHMS.get(str(jwk.get("kty")))
    uses = jwk.get("key_ops")
    if algorithm is None or jwk.get("alg", algorithm) != algorithm or jwk.get("use", "sig") != "sig":
        return None
    if not isinstance(kid, str | None) or (isinstance(uses, list) and "verify" not in uses):
        return None
    try:
        key = PyJWK.from_dict(jwk, algorithm).key
    except Exception:  # noqa: BLE001 – one key that is nonsense must not take the others away, nor the task
        return None
    match key:
        case RSAPublicKey() if key.key_size >= RSA_BITS:
            return ProviderKey(kid, algorithm, key)
        case EllipticCurvePublicKey() if isinstance(key.curve, SECP256R1):
            return ProviderKey(kid, algorithm, key)
        case _:
            return None
