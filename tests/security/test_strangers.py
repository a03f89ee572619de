"""Connections of one address that have shown no token yet: as many as a setting says, and any number without it."""

import asyncio

import pytest

from app.strangers import Strangers
from tests.security.doors import TOKEN, UPGRADE, Doors, doors, frame

GET = b"GET /early HTTP/1.1\r\nHost: t\r\n"


async def test_without_a_setting_as_many_as_come() -> None:
    """Fleets sit behind one address."""
    async with doors() as there:
        clients = [await there.open() for _ in range(30)]
        await settled(there, 30)
        for client in clients:
            client.say(GET + b"\r\n")
        heads = await asyncio.gather(*(client.head() for client in clients))
        assert all(head.startswith(b"HTTP/1.1 200 ") for head in heads)


async def test_one_too_many_is_told_to_come_later() -> None:
    """429 with Retry-After and the contract's body; a place that becomes free is taken."""
    async with doors(strangers_per_address=2) as there:
        first, second = [await there.open() for _ in range(2)]
        await settled(there, 2)
        third = await (await there.open()).rest()
        assert third.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nRetry-After: 10\r\n" in third
        assert b'"statusCode":429,"error":"Too Many Requests"' in third
        first.close()
        await settled(there, 1)
        fourth = await there.open(GET + b"\r\n")
        assert (await fourth.head()).startswith(b"HTTP/1.1 200 ")
        second.close()


async def test_who_shows_a_token_is_no_stranger() -> None:
    """By REST as on a socket: they stay connected, and leave the place to others."""
    async with doors(strangers_per_address=1) as there:
        for _ in range(3):
            known = await there.open(GET + TOKEN + b"\r\n")
            assert (await known.head()).startswith(b"HTTP/1.1 200 ")
            await there.websocket(headers=TOKEN)
        stranger = await there.websocket()
        assert (await (await there.open()).rest()).startswith(b"HTTP/1.1 429 ")
        stranger.say(frame(b"", kind=8))
        await stranger.rest()
        await settled(there, 6)
        await there.websocket()


async def test_behind_a_proxy_the_forwarded_address_counts() -> None:
    """The last one that is no proxy of ours: what a client puts before it is only said."""
    async with doors(strangers_per_address=1, trusted_proxies=("127.0.0.0/8",)) as there:
        idle = [await there.open() for _ in range(5)]
        await there.websocket(headers=b"X-Forwarded-For: 198.51.100.1\r\n")
        await there.websocket(headers=b"X-Forwarded-For: 198.51.100.1, 198.51.100.2, 127.0.0.9\r\n")
        again = await there.open(UPGRADE + b"X-Forwarded-For: 203.0.113.9, 198.51.100.2\r\n\r\n")
        assert (await again.rest()).startswith(b"HTTP/1.1 429 ")
        # A proxy keeps its connections, and speaks for one client after the other.
        for address in (b"198.51.100.3", b"198.51.100.4", b"198.51.100.3"):
            idle[0].say(GET + b"X-Forwarded-For: " + address + b"\r\n\r\n")
            assert (await idle[0].head()).startswith(b"HTTP/1.1 200 ")
            await idle[0].reader.readexactly(len(b"early"))
        assert there.app.clients[-3:] == ["198.51.100.3", "198.51.100.4", "198.51.100.3"]


async def test_a_stranger_that_claims_to_be_a_proxy_is_not_believed() -> None:
    """Without AIWM_TRUSTED_PROXIES the header is nobody's word."""
    async with doors(strangers_per_address=1) as there:
        await there.websocket(headers=b"X-Forwarded-For: 198.51.100.1\r\n")
        assert (await (await there.open()).rest()).startswith(b"HTTP/1.1 429 ")
        assert there.app.clients == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::1%eth1", True),
        ("unknown", "_hidden", False),
    ],
)
def test_what_one_address_is(one: str, other: str, is_same: bool) -> None:  # noqa: FBT001
    """A provider gives a customer half of the bits of IPv6; IPv4 is itself, however it is written."""
    strangers = Strangers(1, ())
    place = strangers.enter(one)
    assert place is not None
    assert (strangers.enter(other) is None) == is_same
    place.leave()
    place.leave()
    assert strangers.enter(one) is not None


async def settled(there: Doors, connections: int) -> None:
    """Wait until so many are open: a client is ahead of the server that accepts it."""
    async with asyncio.timeout(10):
        while len(there.connections) != connections:
            await asyncio.sleep(0.01)
