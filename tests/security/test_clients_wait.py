"""Our own clients do as a busy service says: none of them comes back before `Retry-After`."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from app.simulate.handshake import dial as dial_simulated
from app.simulate.handshake import not_before
from app.worker.handshake import Trouble, dial
from tests.integration.test_worker import until, worker


@asynccontextmanager
async def answering(status: str, header: str) -> AsyncIterator[str]:
    """A service that answers every handshake like this."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        ("429 Too Many Requests", "Retry-After: 7\r\n", 7.0),
        ("503 Service Unavailable", "Retry-After: 7\r\n", 7.0),
        ("503 Service Unavailable", "", 1.0),
        ("404 Not Found", "Retry-After: 7\r\n", 0.0),
    ],
)
async def test_a_worker_reads_when_to_come_again(status: str, header: str, seconds: float) -> None:
    """The daemon's and the simulated one: of 429 and 503; anything else is their own backoff's to say."""
    async with answering(status, header) as url:
        with pytest.raises(Trouble) as trouble:
            await dial(url, "t")
        assert trouble.value.not_before == seconds
        with pytest.raises(InvalidStatus) as refused:
            await dial_simulated(url, "t")
        assert not_before(refused.value) == seconds


async def test_the_daemon_waits_as_long_as_it_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And its own backoff on top: a fleet that is told one moment does not come in one."""
    async with answering("429 Too Many Requests", "Retry-After: 33\r\n") as url, worker(tmp_path, url):
        await until(lambda: "is busy and answered HTTP 429" in caplog.text, "it is told to wait")
    assert re.findall(r"trying again in (\d+) s", caplog.text) == ["33"]
