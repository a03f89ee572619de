"""Lines of the log say which connection and which node they are about."""

import asyncio
import io
import logging
from collections.abc import Iterator

import pytest

from app import logs
from app.repeats import Repeats


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
        log.info("one")
        logs.about(connection=name, node="n" + name)
        await asyncio.sleep(0)
        log.info("two")

    log.warning("nobody's")
    await asyncio.gather(*(asyncio.create_task(connection(name)) for name in "ab"))
    lines = [line.split(" ", 2)[2] for line in written.getvalue().splitlines()]
    assert lines[0] == "WARNING app.test: nobody's"
    assert sorted(lines[1:]) == [
        "INFO app.test [connection=a node=na]: two",
        "INFO app.test [connection=a]: one",
        "INFO app.test [connection=b node=nb]: two",
        "INFO app.test [connection=b]: one",
    ]


def test_a_fault_that_repeats_is_told_once_a_second_and_how_often_it_was_not() -> None:
    """Each place of the program by itself; what is no fault is always told."""
    now = 0.0
    repeats = Repeats(logs.REPEAT_SECONDS, lambda: now)

    def record(level: int, line: int) -> logging.LogRecord:
        return logging.LogRecord("app.test", level, "test.py", line, "again", (), None)

    def told(level: int, line: int) -> str | None:
        one = record(level, line)
        return str(one.alike) if repeats.filter(one) else None  # type: ignore[attr-defined]

    assert [told(logging.WARNING, 1) for _ in range(3)] == ["", None, None]
    assert [told(logging.ERROR, 2), told(logging.INFO, 3), told(logging.INFO, 3)] == ["", "", ""]
    now = 0.9
    assert told(logging.WARNING, 1) is None
    now = 1.0
    assert [told(logging.WARNING, 1), told(logging.WARNING, 1)] == [" (+3 alike)", None]
    now = 3.0
    looked_for = record(logging.ERROR, 4)
    looked_for.each_time = True
    assert [repeats.filter(looked_for), repeats.filter(looked_for)] == [True, True]
    assert told(logging.ERROR, 2) == ""


async def test_a_line_may_be_about_another_than_its_task(written: io.StringIO) -> None:
    """For the length of a block."""
    log = logging.getLogger("app.test")
    with logs.speaking_of(connection="a", node="n"):
        log.info("inside")
    log.info("outside")
    lines = [line.split(" ", 2)[2] for line in written.getvalue().splitlines()]
    assert lines == ["INFO app.test [connection=a node=n]: inside", "INFO app.test: outside"]
