"""What an HTTP client may draw out, or blow up: each has an end, and a sentence that says which."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import cast

import pytest

from app.ws import requests, stalls
from tests.security.doors import Doors, doors

HOST = b"Host: t\r\n"
GET = b"GET /early HTTP/1.1\r\n" + HOST
POST = b"POST /take HTTP/1.1\r\n" + HOST


@pytest.fixture
async def there() -> AsyncIterator[Doors]:
    async with doors() as there:
        yield there


@pytest.fixture(autouse=True)
def quick_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is refused is closed soon after."""
    monkeypatch.setattr(requests, "LINGER_SECONDS", 0.2)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """All times are a third of a second."""
    monkeypatch.setattr("app.server.SILENT_SECONDS", 0.3)
    monkeypatch.setattr(requests, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(stalls, "STALL_SECONDS", 0.3)


def refused(answer: bytes) -> tuple[int, str]:
    """Status and path of an error in the contract's shape, with which the connection was closed."""
    head, _, body = answer.partition(b"\r\n\r\n")
    told = json.loads(body)
    assert set(told) == {"statusCode", "error", "message", "path", "timestamp"}
    assert b"Connection: close" in head
    assert head.split(b" ")[1] == str(told["statusCode"]).encode()
    return told["statusCode"], told["path"]


@pytest.mark.parametrize(
    "head",
    [
        GET + b"X-Long: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET /early?" + b"x" * 40_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        GET + b"".join(b"X-%d: 1\r\n" % number for number in range(200)) + b"\r\n",
        GET + b"".join(b"X-%d: %s\r\n" % (number, b"x" * 400) for number in range(100)) + b"\r\n",
    ],
    ids=["header", "address", "headers", "together"],
)
async def test_a_head_that_is_too_large(there: Doors, head: bytes) -> None:
    """431, however its size comes about; the application does not see it."""
    assert refused(await (await there.open(head)).rest())[0] == 431
    assert there.app.clients == []


async def test_a_header_without_an_end(there: Doors) -> None:
    """The parser would collect it for ever: it is refused after some chunks of it."""
    client = await there.open(GET + b"X-Endless: ")
    for _ in range(200):
        client.say(b"x" * 16_384)
        await asyncio.sleep(0)
    assert refused(await client.rest()) == (431, "/early")


async def test_trailers_count_too(there: Doors) -> None:
    """What stands behind a body in chunks is a header as well."""
    client = await there.open(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X-T: 1\r\n" * 200 + b"\r\n")
    assert refused(await client.rest()) == (431, "/take")


async def test_a_head_of_the_usual_size_is_taken(there: Doors) -> None:
    """A token of 8 KiB and a long question."""
    head = b"GET /early?" + b"d=x&" * 2000 + b" HTTP/1.1\r\n" + HOST + b"X-Token: " + b"x" * 8192 + b"\r\n"
    client = await there.open(head + b"Connection: close\r\n\r\n")
    assert (await client.rest()).startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_grows_in_its_wrapping(there: Doors) -> None:
    """Chunks of one byte: the request as a whole has an end where the body's own has not come yet."""
    client = await there.open(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    piece = b"1;" + b"e" * 1000 + b"\r\nx\r\n"
    for _ in range(requests.REQUEST_BYTES // len(piece) + 1000):
        client.say(piece)
    assert refused(await client.rest()) == (413, "/take")
    assert there.app.taken == []


async def test_compressed_bodies_stay_compressed(there: Doors) -> None:
    """Nothing here unpacks them: a bomb is as large as it is on the wire."""
    bomb = zlib.compress(bytes(10_000_000))
    head = POST + b"Content-Encoding: deflate\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(bomb)
    await (await there.open(head + bomb)).rest()
    assert there.app.taken == [len(bomb)]


@pytest.mark.usefixtures("soon")
async def test_a_head_that_drips(there: Doors) -> None:
    """Closed in time, however often there is something new: the first one, and the next on the same connection."""
    assert await (await there.open()).drip(GET) == b""
    client = await there.open(GET + b"\r\n")
    assert (await client.drip(GET)).endswith(b"early")
    await there.are_left()


@pytest.mark.usefixtures("soon")
async def test_a_body_that_drips(there: Doors) -> None:
    """408; the application's task ends."""
    client = await there.open(POST + b"Content-Length: 100000\r\n\r\n")
    assert refused(await client.drip(b"x"))[0] == 408
    await there.are_left()
    assert not there.server.server_state.tasks


@pytest.mark.usefixtures("soon")
async def test_a_body_that_waits_for_us(there: Doors) -> None:
    """Its time does not run while it is this end that does not read."""
    there.app.may_read.clear()
    body = b"x" * 1_000_000
    client = await there.open(POST + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
    await asyncio.sleep(0.8)
    there.app.may_read.set()
    assert (await client.rest()).endswith(b"taken")


@pytest.mark.usefixtures("soon")
async def test_a_body_that_nobody_wants_drips(there: Doors) -> None:
    """Answered already, as without a token: what still comes does not keep the connection."""
    client = await there.open(b"POST /early HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n")
    assert (await client.drip(b"x")).endswith(b"early")
    await there.are_left()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("ending", [b"", b"Connection: close\r\n"])
async def test_an_answer_that_nobody_takes(there: Doors, ending: bytes) -> None:
    """A client that does not read is cut off; its answer is not kept for it."""
    client = await there.open(b"GET /much HTTP/1.1\r\n" + HOST + ending + b"\r\n", window=4096)
    await there.are_left()
    client.close()


def test_slow_is_not_still() -> None:
    """Who takes a kilobyte a second is waited for, however much there is; who takes less is cut off."""
    waiting, aborted = 10_000_000, False
    turns: list[Callable[[], None]] = []

    def abort() -> None:
        nonlocal aborted
        aborted = True

    loop = SimpleNamespace(call_later=lambda _, turn: turns.append(turn))
    transport = SimpleNamespace(get_write_buffer_size=lambda: waiting, abort=abort)
    stall = stalls.Stall(cast(asyncio.AbstractEventLoop, loop), cast(asyncio.Transport, transport))
    stall.begin()
    for more in (0, 0, 0, 1_000_000, 0):
        # What is written meanwhile is not what was left.
        stall.write(more)
        waiting += more - stalls.STALL_BYTES
        turns.pop()()
        assert not aborted
    waiting -= stalls.STALL_BYTES - 1
    turns.pop()()
    assert aborted
    assert not turns


async def test_requests_that_do_not_wait_for_answers(there: Doors) -> None:
    """A few may be on their way at once; a thousand are a client that wants our memory."""
    few = await there.open((GET + b"\r\n") * 10 + GET + b"Connection: close\r\n\r\n")
    assert (await few.rest()).count(b"early") == 11
    many = await there.open((GET + b"\r\n") * 1000)
    assert (await many.rest()).count(b"early") < 100
    assert len(there.app.clients) < 200


async def test_who_is_gone_is_answered_no_more(there: Doors) -> None:
    """Nor is the first of three requests that came at once: an answer on a wire that is cut is a traceback in the log."""
    there.app.may_read.clear()
    await there.open((POST + b"Content-Length: 1\r\n\r\nx") * 3)
    await there.become(lambda: len(there.app.clients), 1)
    for each in there.connections:
        each.transport.abort()
    await there.are_left()
    there.app.may_read.set()
    await there.become(lambda: len(there.server.server_state.tasks), 0)
    assert there.app.taken == []


async def test_what_is_no_http(there: Doors) -> None:
    """400 in the shape that all errors have."""
    assert refused(await (await there.open(b"\x16\x03\x01\x02\x00hello\r\n\r\n")).rest())[0] == 400
