"""What a WebSocket client may draw out, or blow up."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.protocol.wire import MAX_FRAME_BYTES
from app.ws import sockets, stalls
from tests.security.doors import Doors, doors, frame

PING = frame(b"", kind=9)


@pytest.fixture
async def there() -> AsyncIterator[Doors]:
    async with doors() as there:
        yield there


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """All times are a third of a second."""
    monkeypatch.setattr(sockets, "FRAME_SECONDS", 0.3)
    monkeypatch.setattr(stalls, "STALL_SECONDS", 0.3)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("begun", "drip"),
    [
        (frame(b"x" * 60_000)[:100], b"x"),
        (frame(b"x", fin=False), frame(b"y", kind=0, fin=False)),
        (b"\x81", b""),
        (b"\x81\xfe", b""),
    ],
    ids=["frame", "fragments", "half a header", "header"],
)
async def test_a_frame_that_drips(there: Doors, begun: bytes, drip: bytes) -> None:
    """1008, however much of it comes."""
    client = await there.websocket()
    client.say(begun)
    said = client.drip(drip) if drip else client.rest()
    assert (1008).to_bytes(2, "big") in await said
    await there.are_left()
    assert there.app.ended == [1008]


@pytest.mark.usefixtures("soon")
async def test_frames_that_are_cut_anywhere(there: Doors) -> None:
    """Each has its own time: who sends all the time, and always breaks off in the middle, is welcome."""
    client = await there.websocket()
    half = len(frame(b"hello")) // 2
    client.say(frame(b"hello")[:half])
    for _ in range(12):
        client.say(frame(b"hello")[half:] + frame(b"hello")[:half])
        await asyncio.sleep(0.05)
    client.say(frame(b"hello")[half:] + frame(b"", kind=8))
    await client.rest()
    assert there.app.heard == ["hello"] * 13


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("first", [frame(b"hello"), frame(b"hel", fin=False) + frame(b"lo", kind=0)])
async def test_silence_between_frames(there: Doors, first: bytes) -> None:
    """May be as long as it likes: no frame has begun."""
    client = await there.websocket()
    for said in (first, first + PING, frame(b"hello")):
        await asyncio.sleep(0.7)
        client.say(said)
    client.say(frame(b"", kind=8))
    await client.rest()
    assert there.app.heard == ["hello"] * 3
    assert there.app.ended == [1005]


@pytest.mark.usefixtures("soon")
async def test_a_frame_that_waits_for_us(there: Doors) -> None:
    """Its time does not run while it is this end that does not read."""
    there.app.may_read.clear()
    client = await there.websocket()
    client.say(frame(b"one") + frame(b"x" * 1000)[:500])
    await asyncio.sleep(0.7)
    client.say(frame(b"x" * 1000)[500:])
    there.app.may_read.set()
    client.say(frame(b"", kind=8))
    await client.rest()
    assert [len(each) for each in there.app.heard] == [3, 1000]


@pytest.mark.parametrize(
    "flood", [PING * 2000, frame(b"", kind=10) * 2000, frame(b"", fin=False) + frame(b"", kind=0, fin=False) * 2000]
)
async def test_frames_of_nothing(there: Doors, flood: bytes) -> None:
    """1008: pings, pongs and empty fragments by the thousand cost us more than whoever sends them."""
    client = await there.websocket()
    client.say(flood)
    assert (1008).to_bytes(2, "big") in await client.rest()


async def test_a_large_message_in_fragments_with_a_ping_in_between(there: Doors) -> None:
    """As any library may send it."""
    client = await there.websocket()
    middle = frame(b"x" * 1000, kind=0, fin=False) * 200 + PING
    client.say(frame(b"x", fin=False) + middle + frame(b"x", kind=0) + frame(b"", kind=8))
    await client.rest()
    assert [len(each) for each in there.app.heard] == [200_002]


async def test_size_is_what_a_message_has_together(there: Doors) -> None:
    """1009 for fragments as well."""
    client = await there.websocket()
    client.say(frame(b"x", fin=False) + frame(b"x" * 65_535, kind=0, fin=False) * 5)
    assert await client.close_code() == 1009
    client = await there.websocket()
    client.say(frame(b"x" * (MAX_FRAME_BYTES + 1) * 20))
    assert await client.close_code() == 1009
    assert there.app.heard == []


async def test_compression_is_not_agreed_to(there: Doors) -> None:
    """Nor taken: a frame that says it is compressed ends the connection, and is not unpacked."""
    offered = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    client = await there.websocket(headers=offered)
    client.say(frame(b"\xaa" * 100, rsv1=True))
    assert await client.close_code() == 1002
    assert there.app.heard == []
    refused = await there.open(
        b"GET /ws HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + offered + b"\r\n"
    )
    assert b"extensions" not in (await refused.head()).lower()


@pytest.mark.usefixtures("soon")
async def test_answers_that_nobody_takes(there: Doors) -> None:
    """A worker that does not read is cut off after a while."""
    there.app.says_much = True
    client = await there.websocket(window=4096)
    await there.are_left()
    client.close()


async def test_pongs_that_nobody_takes(there: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not kept: what waits to be written stays what it was, however many pings come."""
    monkeypatch.setattr(sockets, "PIECES_OF_NOTHING", 10**9)
    there.app.says_much = True
    client = await there.websocket(window=4096)
    [protocol] = there.connections
    while protocol.writable.is_set():
        await asyncio.sleep(0.01)
    waiting = protocol.transport.get_write_buffer_size()
    for _ in range(20):
        client.say(frame(b"p" * 125, kind=9) * 1000)
        await client.writer.drain()
    await asyncio.sleep(0.2)
    assert protocol.transport.get_write_buffer_size() <= waiting
    client.close()


@pytest.mark.usefixtures("soon")
async def test_a_goodbye_that_nobody_takes(there: Doors) -> None:
    """The application is done, the peer does not read: the connection does not stay for it."""
    client = await there.websocket(window=4096)
    [protocol] = there.connections
    while not protocol.transport.get_write_buffer_size():
        protocol.transport.write(bytes(4096))
    assert protocol.writable.is_set()
    client.say(frame(b"", kind=8))
    await there.are_left()
    client.close()
