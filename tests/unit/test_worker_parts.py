"""The daemon's small parts: waiting, threads, tasks, systemd, the log."""

import asyncio
import io
import logging
import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.clock import timestamp
from app.protocol import wire
from app.repeats import Repeats
from app.worker import journal
from app.worker.backoff import Backoff, Patience
from app.worker.measuring import Measuring
from app.worker.systemd import Systemd
from app.worker.tasks import first_of
from app.worker.threads import Thread
from tests.samplers import FakeSampler


class TestBackoff:
    """1 s doubled up to 60 s, with full jitter."""

    def test_it_doubles_up_to_its_longest_and_starts_over(self) -> None:
        """Each wait lies between nothing and the delay of its turn."""
        backoff = Backoff()
        for delay in (1, 2, 4, 8, 16, 32, 60, 60):
            assert 0 <= backoff.next() <= delay
        backoff.reset()
        assert backoff.next() <= 1

    def test_it_is_jittered(self) -> None:
        """A fleet that lost its controller comes back all over the time, not at its end."""
        waits = [Backoff(60).next() for _ in range(200)]
        assert min(waits) < 15
        assert max(waits) > 45

    def test_what_somebody_must_mend_is_tried_about_once_an_hour(self) -> None:
        """Never sooner than half of it."""
        refused = Patience().refused
        assert all(1800 <= refused.next() <= 3600 for _ in range(20))


class TestThread:
    """Calls beside the event loop, one after the other."""

    async def test_it_returns_and_raises_what_the_call_does(self) -> None:
        """In the order of asking."""
        thread = Thread("test")
        order: list[int] = []
        await asyncio.gather(*(thread.call(order.append, number, seconds=5) for number in range(20)))
        assert order == list(range(20))
        with pytest.raises(ZeroDivisionError):
            await thread.call(lambda: 1 // 0, seconds=5)
        thread.end()

    async def test_a_call_that_hangs_is_given_up(self) -> None:
        """It is stuck until the call returns, and works again then."""
        thread, released = Thread("test"), threading.Event()
        with pytest.raises(asyncio.TimeoutError):
            await thread.call(released.wait, seconds=0.01)
        while_it_hung = thread.is_stuck
        released.set()
        assert await thread.call(lambda: 7, seconds=5) == 7
        assert (while_it_hung, thread.is_stuck) == (True, False)
        thread.end()


class TestMeasuring:
    """The sampler, seen from the event loop."""

    async def test_events_outlast_a_call_that_nobody_waited_for(self) -> None:
        """A card that falls off the bus makes its driver hang: that is when there is something to tell, and it is told once."""
        sampler, released = FakeSampler(), threading.Event()
        tell = sampler.events

        def events() -> list[dict[str, Any]]:
            released.wait(60)
            return tell()

        sampler.events = events  # type: ignore[method-assign]
        sampler.pending_events = [{"kind": "xid", "deviceId": "GPU-1", "detail": {"xid": 79}}]
        measuring = Measuring(sampler, 0.05)
        assert await measuring.events() == []
        assert await measuring.events() == []
        released.set()
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(10):
            while not found:
                await asyncio.sleep(0.01)
                found = await measuring.events()
        assert [each["kind"] for each in found] == ["xid"]
        assert await measuring.events() == []
        measuring.end()


class TestFirstOf:
    """Tasks that live and end together."""

    async def test_the_others_are_cancelled_and_the_error_is_raised(self) -> None:
        """Nothing of them runs on."""
        ended = asyncio.Event()

        async def other() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        async def fails() -> None:
            await asyncio.sleep(0)
            raise ValueError("first")

        with pytest.raises(ValueError, match="first"):
            await first_of(other(), fails())
        assert ended.is_set()

    async def test_a_task_that_overhears_its_cancellation_is_told_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As `wait_for` of older Pythons may make one do."""
        monkeypatch.setattr("app.worker.tasks._CANCEL_AGAIN_SECONDS", 0.01)

        async def stubborn() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(60)

        async with asyncio.timeout(5):
            await first_of(stubborn(), asyncio.sleep(0))


class TestSystemd:
    """sd_notify(3), by a real socket."""

    @pytest.fixture
    def notify(self, tmp_path: Path) -> Iterator[socket.socket]:
        """What systemd would listen on."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(str(tmp_path / "notify"))
            listener.settimeout(5)
            yield listener

    async def test_it_says_what_systemd_wants_to_hear(self, notify: socket.socket) -> None:
        """Ready, status, stopping; and the watchdog's sign of life while the event loop turns."""
        environ = {"NOTIFY_SOCKET": notify.getsockname(), "WATCHDOG_USEC": "30000", "WATCHDOG_PID": str(os.getpid())}
        systemd = Systemd(environ)
        systemd.ready()
        systemd.status("Connected.")
        alive = asyncio.create_task(systemd.keep_alive())
        heard = [await asyncio.to_thread(notify.recv, 100) for _ in range(4)]
        alive.cancel()
        assert heard == [b"READY=1", b"STATUS=Connected.", b"WATCHDOG=1", b"WATCHDOG=1"]

    @pytest.mark.parametrize(
        "environ", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}]
    )
    def test_elsewhere_it_is_silent(self, environ: dict[str, str]) -> None:
        """No socket, no watchdog, or another process's: nothing happens."""
        systemd = Systemd(environ)
        systemd.ready()
        assert systemd.watchdog_seconds is None

    def test_a_socket_that_is_gone_is_no_trouble(self, tmp_path: Path) -> None:
        """systemd may be restarted beside us."""
        Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")}).stopping()


class TestJournal:
    """Sentences on standard error."""

    @pytest.fixture(autouse=True)
    def _restored(self) -> Iterator[None]:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        yield
        root.handlers[:], root.level = handlers, level
        logging.getLogger("websockets").setLevel(logging.NOTSET)

    def written(self, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> str:
        """Three alike faults and a word."""
        stream = io.StringIO()
        monkeypatch.setattr("sys.stderr", stream)
        journal.configure(environ)
        for number in range(3):
            logging.getLogger("app.worker").warning("Fault %d.", number)
        logging.getLogger("app.worker").info("Word.")
        logging.getLogger("websockets.client").debug("> Authorization: Bearer secret")
        return stream.getvalue()

    def test_journald_gets_priorities_and_keeps_the_time_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A fault that repeats is told once a minute."""
        assert self.written(monkeypatch, {"JOURNAL_STREAM": "8:1"}) == "<4>Fault 0.\n<6>Word.\n"

    def test_a_terminal_gets_the_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And never what websockets would tell of the handshake."""
        first, second = self.written(monkeypatch, {}).splitlines()
        assert first.endswith("WARNING Fault 0.")
        assert second.endswith("INFO Word.")

    def test_how_often_a_fault_was_not_told_is_told(self) -> None:
        """With the next one that is."""
        now = 0.0
        repeats = Repeats(journal.REPEAT_SECONDS, lambda: now)
        records = [logging.LogRecord("n", logging.ERROR, "file.py", 7, "m", None, None) for _ in range(3)]
        assert [repeats.filter(record) for record in records[:2]] == [True, False]
        now = 61.0
        assert repeats.filter(records[2])
        assert records[2].__dict__["alike"] == " (+1 alike)"


@given(st.integers(0, 4_000_000_000_000))
def test_times_on_the_wire_are_the_services_own(milliseconds: int) -> None:
    """To the letter, for every millisecond."""
    seconds, rest = divmod(milliseconds, 1000)
    assert wire.at(milliseconds) == timestamp(datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000))


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "7", '{"type": 7}', "{}", b"\xff", "[" * 100_000])
def test_what_is_no_frame_is_a_value_error(text: str | bytes) -> None:
    """Whatever answers there."""
    with pytest.raises(ValueError, match=r"."):
        wire.parse(text)
