"""The identity provider's keys: which are taken, how often they are fetched, and what happens while it is away."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from app.domain import provider_keys
from app.domain.provider_keys import KEPT_SECONDS, MOST_BYTES, PAUSE_SECONDS, REFRESH_SECONDS, ProviderKeys
from app.errors import ProviderUnavailable
from tests.fakes import FakeClock
from tests.security.provider import EC, RSA, STRANGER, jwk

SHORT = rsa.generate_private_key(65537, 1024)  # noqa: S505 – which is the point
GOOD = json.dumps({"keys": [jwk(RSA, "rsa")]}).encode()
"""What would be taken, if it came as it should."""

P384 = ec.generate_private_key(ec.SECP384R1())


class Provider:
    """What it answers next, and how often it was asked."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.keys: list[Any] = [jwk(RSA, "rsa"), jwk(EC, "ec")]
        self.answer: httpx.Response | httpx.TransportError | None = None
        self.asked = 0

    def __call__(self, _request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if isinstance(self.answer, httpx.TransportError):
            raise self.answer
        return self.answer or httpx.Response(200, content=json.dumps({"keys": self.keys}))


@pytest.fixture
def provider(clock: FakeClock) -> Provider:
    return Provider(clock)


@pytest.fixture
async def keys(provider: Provider, clock: FakeClock) -> AsyncIterator[ProviderKeys]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(provider)) as client:
        keys = ProviderKeys("https://the.test/jwks", client, clock)
        task = asyncio.create_task(keys.run())
        yield keys
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def fetched(provider: Provider, times: int) -> None:
    """Wait until the provider was asked that often, and its answer is known."""
    async with asyncio.timeout(5):
        while provider.asked < times:
            await asyncio.sleep(0)
    await provider.clock.all_asleep("provider keys due")
    for _ in range(20):
        await asyncio.sleep(0)


async def test_keys_are_found_by_name_and_fetched_once(keys: ProviderKeys, provider: Provider) -> None:
    """However many tokens come, for either algorithm; the first ones wait for the first fetch."""
    found = await asyncio.gather(*(keys.find(*which) for which in [("rsa", "RS256"), ("ec", "ES256")] * 50))
    assert {key.kid for key in found if key is not None} == {"rsa", "ec"}
    assert None not in found
    assert provider.asked == 1


async def test_a_key_verifies_by_its_own_algorithm_alone(keys: ProviderKeys) -> None:
    """A token cannot say how a key is to be used."""
    assert await keys.find("rsa", "ES256") is None
    assert await keys.find("ec", "RS256") is None


async def test_unknown_names_cost_the_provider_one_request_in_ten_seconds(
    keys: ProviderKeys, provider: Provider, clock: FakeClock
) -> None:
    """However many such tokens come."""
    await keys.find("rsa", "RS256")
    for expected in (2, 3):
        clock.advance(PAUSE_SECONDS)
        assert await asyncio.gather(*(keys.find(f"no-{n}", "RS256") for n in range(200))) == [None] * 200
        assert await keys.find("again", "RS256") is None
        assert provider.asked == expected


async def test_a_new_key_is_found_as_soon_as_a_token_names_it(
    keys: ProviderKeys, provider: Provider, clock: FakeClock
) -> None:
    """The provider rotates its keys, and nobody is sent away for it."""
    await keys.find("rsa", "RS256")
    clock.advance(PAUSE_SECONDS)
    provider.keys = [jwk(STRANGER, "next")]
    assert await keys.find("next", "RS256") is not None
    assert await keys.find("rsa", "RS256") is None


async def test_a_key_that_was_taken_back_is_forgotten(keys: ProviderKeys, provider: Provider, clock: FakeClock) -> None:
    """With the next fetch, minutes later, though no token is unknown."""
    await keys.find("rsa", "RS256")
    provider.keys = [jwk(EC, "ec")]
    await clock.all_asleep("provider keys due")
    clock.advance(REFRESH_SECONDS)
    await fetched(provider, 2)
    assert await keys.find("rsa", "RS256") is None


async def test_keys_outlive_a_provider_that_is_away_for_a_day(
    keys: ProviderKeys, provider: Provider, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Then its tokens are answered 503 instead of taken: and when it is back, at once taken again."""
    await keys.find("rsa", "RS256")
    provider.answer = httpx.ConnectError("refused")
    with caplog.at_level(logging.WARNING):
        await clock.all_asleep("provider keys due")
        clock.advance(KEPT_SECONDS - 1)
        await fetched(provider, 2)
    assert "AIWM_JWT_JWKS_URL" in caplog.text
    assert await keys.find("rsa", "RS256") is not None
    clock.advance(1)
    with pytest.raises(ProviderUnavailable):
        await keys.find("rsa", "RS256")
    provider.answer = None
    clock.advance(PAUSE_SECONDS)
    assert await keys.find("rsa", "RS256") is not None


async def test_a_provider_that_hangs_holds_nobody_whose_key_is_known(
    keys: ProviderKeys, provider: Provider, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known keys are at hand while a fetch is on its way; who needs it is told to come again."""
    await keys.find("rsa", "RS256")

    async def never() -> bytes:
        provider.asked += 1
        await asyncio.get_running_loop().create_future()
        return b""

    monkeypatch.setattr(keys, "_fetch", never)
    monkeypatch.setattr(provider_keys, "FETCH_SECONDS", 0.05)
    clock.advance(PAUSE_SECONDS)
    waiting = asyncio.create_task(keys.find("new", "RS256"))
    async with asyncio.timeout(5):
        while provider.asked < 2:
            await asyncio.sleep(0)
    assert await keys.find("rsa", "RS256") is not None
    assert not waiting.done()
    assert await waiting is None


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500, content=GOOD),
        httpx.Response(302, headers={"Location": "https://elsewhere.test/"}, content=GOOD),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, content=b'{"keys": 7}'),
        httpx.Response(200, content=b'{"keys": []}'),
        httpx.Response(200, content=GOOD + b" " * MOST_BYTES),
        httpx.ConnectTimeout("too late"),
    ],
    ids=["500", "redirect", "html", "no list", "no keys", "too long", "timeout"],
)
async def test_an_answer_without_keys_is_told_and_tokens_get_503(
    keys: ProviderKeys,
    provider: Provider,
    answer: httpx.Response | httpx.TransportError,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A sentence in the log says what was wrong with it; the service goes on."""
    provider.answer = answer
    with pytest.raises(ProviderUnavailable):
        await keys.find("rsa", "RS256")
    assert "cannot be fetched" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "useless",
    [
        jwk(SHORT, "it"),
        jwk(P384, "it"),
        jwk(RSA, "it", use="enc"),
        jwk(RSA, "it", alg="RS512"),
        jwk(RSA, "it", key_ops=["encrypt"]),
        jwk(RSA, None) | {"kid": 7},
        jwk(RSA, "it") | {"n": "!"},
        jwk(RSA, "it") | {"n": None},
        {"kty": "RSA", "kid": "it"},
        {"kty": "oct", "kid": "it", "k": "c2VjcmV0"},
        {"kty": ["RSA"], "kid": "it"},
        {},
    ],
    ids=(
        "short",
        "P-384",
        "encryption",
        "RS512",
        "no verifying",
        "kid 7",
        "n no base64",
        "n null",
        "no n",
        "secret",
        "kty list",
        "empty",
    ),
)
async def test_keys_for_something_else_are_passed_over(
    keys: ProviderKeys, provider: Provider, useless: dict[str, Any]
) -> None:
    """And those beside them are taken."""
    provider.keys = [useless, jwk(EC, "ec")]
    assert await keys.find("ec", "ES256") is not None
    assert await keys.find("it", "RS256") is None


async def test_a_token_without_kid_takes_the_only_key(keys: ProviderKeys, provider: Provider) -> None:
    """And none where there are two."""
    provider.keys = [jwk(RSA, "one"), jwk(STRANGER, "two"), jwk(EC, None)]
    assert await keys.find(None, "ES256") is not None
    assert await keys.find(None, "RS256") is None
