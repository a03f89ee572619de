"""Lines of the log say which connection and which node they are about."""

import asyncio
import io
import logging
from collections.abc import Iterator

import pytest

from app import logs


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the root logger writes, configured as the service does it."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    logs.configure("info")
    stream = io.StringIO()
    handler = root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    yield stream
    root.handlers = before


async def test_each_task_s_lines_are_about_its_own_connection(written: io.StringIO) -> None:
    """Whoever else speaks at the same time."""
    log = logging.getLogger("app.test")

    async def connection(name: str) -> None:
        logs.about(connection=name)
        await asyncio.sleep(0)
        log.warning("one")
        logs.about(connection=name, node="n" + name)
        await asyncio.sleep(0)
        log.warning("two")

    log.warning("nobody's")
    await asyncio.gather(*(asyncio.create_task(connection(name)) for name in "ab"))
    lines = [line.split(" ", 2)[2] for line in written.getvalue().splitlines()]
    assert lines[0] == "WARNING app.test: nobody's"
    assert sorted(lines[1:]) == [
        "WARNING app.test [connection=a node=na]: two",
        "WARNING app.test [connection=a]: one",
        "WARNING app.test [connection=b node=nb]: two",
        "WARNING app.test [connection=b]: one",
    ]
