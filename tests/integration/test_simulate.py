"""The simulated fleet against a controller that behaves, and against several that do not."""

import asyncio
import io
import itertools
import json
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from app.errors import StartupError
from app.protocol import messages
from app.protocol.messages import Metrics, NodeRegister, decode
from app.simulate.command import simulate_command
from app.simulate.report import Report
from app.simulate.simulation import Interruption, Options, simulate
from tests.integration.fake_controller import Close, FakeController, Message, Received, acknowledge, reply, running

HEARTBEAT, METRICS = "TELEMETRY_HEARTBEAT", "TELEMETRY_METRICS"


async def run(controller: FakeController, interruption: Interruption | None = None, **options: Any) -> Report:
    """A small, quick simulation; its output goes nowhere."""
    chosen: dict[str, Any] = {"nodes": 3, "gpus": 2, "speed": 10.0, "duration": 1.0, "token": "portal"}
    chosen |= {"url": controller.url, "console": Console(file=io.StringIO())} | options
    async with asyncio.timeout(30):
        return await simulate(Options(**chosen), interruption)


def seconds(moment: str) -> float:
    """A moment of a frame, in seconds since 1970."""
    return datetime.fromisoformat(moment).timestamp()


async def test_sends_the_documents_messages_and_counts_every_acknowledgement() -> None:
    """Nodes are created, register, send frames of the document's shapes, and leave with 1000."""
    async with running(FakeController()) as controller:
        report = await run(controller)
    tally = report.tally
    assert report.succeeded
    assert report.exit_code == 0
    assert len(controller.created) == len(tally.registered) == len(controller.of("NODE_REGISTER")) == 3
    assert tally.stored == len(controller.of(HEARTBEAT)) + len(controller.of(METRICS)) == tally.sent.total() - 3
    assert tally.outstanding == tally.sent_again == tally.reconnects == 0
    assert not tally.errors
    assert controller.closed == [1000] * 3
    for received in controller.received:
        message = decode(received.text)
        assert isinstance(message, NodeRegister) or (
            isinstance(message, messages.Heartbeat | Metrics) and message.ack is True
        )
        assert len(message.data.gpus or ()) == 2 if isinstance(message, Metrics) else True


async def test_metrics_fill_the_past_in_even_steps_and_end_at_the_present() -> None:
    """At speed X a duration of S seconds walks through S·X seconds that end now, at the cadence told."""
    async with running(FakeController(metrics_interval=400)) as controller:
        await run(controller, speed=50.0, duration=1.0)
        ended = time.time()
        for node in {received.node_id for received in controller.received}:
            moments = [seconds(it.message["data"]["timestamp"]) for it in controller.of(METRICS, node)]
            steps = [after - before for before, after in itertools.pairwise(moments)]
            assert len(moments) == 125
            assert all(abs(step - 0.4) < 0.0015 for step in steps)
            assert ended - 2 < moments[-1] <= ended


async def test_nodes_do_not_march_in_step() -> None:
    """Each node walks in a phase of its own."""
    async with running(FakeController()) as controller:
        await run(controller, nodes=8)
        first = {node: controller.of(METRICS, node)[0] for node in {it.node_id for it in controller.received}}
    assert len({it.message["data"]["timestamp"] for it in first.values()}) == 8


async def test_heartbeats_carry_the_real_time_each_its_own_millisecond() -> None:
    """A heartbeat's time is when it was sent, at any speed, and never twice the same."""
    async with running(FakeController()) as controller:
        began = time.time()
        await run(controller, speed=100.0)
        for node in {received.node_id for received in controller.received}:
            moments = [seconds(it.message["timestamp"]) for it in controller.of(HEARTBEAT, node)]
            assert len(set(moments)) == len(moments) > 10
            assert began - 0.001 <= min(moments) <= max(moments) <= time.time()


async def test_without_a_duration_it_stays_at_the_present_until_interrupted() -> None:
    """An open-ended run sends samples of now, and Ctrl-C ends it with everything acknowledged."""
    interruption = Interruption()
    late: list[float] = []

    def answer(received: Received) -> Message:
        if received.message["type"] == METRICS:
            late.append(time.time() - seconds(received.message["data"]["timestamp"]))
            if len(late) == 20:
                interruption.request()
        return acknowledge(received)

    async with running(FakeController(answer)) as controller:
        report = await run(controller, interruption, duration=None)
    assert report.succeeded
    assert report.ended_early
    assert max(late) < 1


async def test_a_lost_connection_loses_nothing() -> None:
    """What was not acknowledged goes out again: metrics in a fresh envelope, heartbeats byte for byte."""
    counts: Counter[str] = Counter()
    swallowed: dict[str, Received] = {}

    def answer(received: Received) -> Message | None:
        counts[received.node_id] += 1
        if received.connection <= 3:
            if counts[received.node_id] == 8:
                raise Close(1012)
            swallowed[received.message["messageId"]] = received
            return None
        return acknowledge(received, "duplicate" if received.message["messageId"] in swallowed else "stored")

    async with running(FakeController(answer)) as controller:
        report = await run(controller, duration=3.0)
    tally = report.tally
    assert report.succeeded
    assert tally.reconnects == 3
    assert tally.errors == {"closed 1012": 3}
    assert tally.sent_again >= len(swallowed) == tally.duplicate == 21
    for message_id, before in swallowed.items():
        (after,) = [it for it in controller.received if it.message["messageId"] == message_id and it is not before]
        if before.message["type"] == HEARTBEAT:
            assert after.text == before.text
        else:
            assert after.message["data"] == before.message["data"]
            assert after.message["timestamp"] > before.message["timestamp"]


@pytest.mark.parametrize(
    ("answer", "errors"),
    [
        (lambda it: acknowledge(it, "rejected", "SAMPLE_TOO_OLD"), "SAMPLE_TOO_OLD"),
        (lambda it: reply("ERROR", messageId=it.message["messageId"], error={"code": "X", "message": "no"}), "X"),
    ],
)
async def test_a_refused_frame_fails_the_run(answer: Any, errors: str) -> None:
    """A rejected sample and an ERROR both count as refused: exit code 1, nothing left waiting."""
    async with running(FakeController(answer)) as controller:
        report = await run(controller, nodes=1)
    assert report.exit_code == 1
    assert report.tally.outstanding == 0
    assert report.tally.errors[errors] == report.tally.rejected + report.tally.refused > 0


async def test_a_frame_never_acknowledged_fails_the_run() -> None:
    """Waiting for acknowledgements is bounded, and what never came is told."""
    async with running(FakeController(lambda _: None)) as controller:
        report = await run(controller, nodes=2, drain_seconds=0.5)
    assert report.exit_code == 1
    assert report.tally.outstanding == report.tally.sent.total() - 2 > 0


async def test_a_refused_worker_gives_up_and_fails_the_run() -> None:
    """A controller that takes no worker ends the run at once instead of after its duration."""
    async with running(FakeController(refusal="NODE_INACTIVE")) as controller:
        report = await run(controller, duration=600.0)
    assert report.exit_code == 1
    assert report.unregistered == 3
    assert report.tally.errors == {"NODE_INACTIVE": 3}


async def test_a_busy_service_is_asked_again() -> None:
    """429 with Retry-After delays the creation of the fleet and breaks nothing."""
    async with running(FakeController(busy=5)) as controller:
        report = await run(controller)
    assert report.succeeded
    assert len(controller.created) == 3


async def test_a_walk_longer_than_the_service_remembers_is_refused_with_a_sentence() -> None:
    """Samples that would all be too old are not even sent."""
    async with running(FakeController(max_sample_age_ms=5_000)) as controller:
        with pytest.raises(StartupError, match="hours only"):
            await run(controller, speed=10.0, duration=1.0)


async def test_interrupted_twice_it_does_not_wait() -> None:
    """The second Ctrl-C gives up the acknowledgements that are missing."""
    interruption = Interruption()

    def answer(_: Received) -> None:
        if not interruption.stop.is_set():
            interruption.request()
            asyncio.get_running_loop().call_later(0.1, interruption.request)

    async with running(FakeController(answer)) as controller:
        report = await run(controller, interruption, duration=600.0)
    assert report.ended_early
    assert report.exit_code == 1


class TestCommand:
    """The command line: options, sentences, exit codes."""

    def invoke(self, *arguments: str, **environment: str) -> tuple[int, str, BaseException | None]:
        """Run it as cli.py does, without a service."""
        result = CliRunner().invoke(simulate_command, arguments, env=environment)
        return result.exit_code, result.output, result.exception

    @asynccontextmanager
    async def started(self, url: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """The command in a process of its own, since it handles signals; gone when the block ends."""
        program = "from app.simulate.command import simulate_command; simulate_command()"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, "--gpus", "1", "--token", "portal", "--url", url, *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(30):
                yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def test_prints_the_closing_table(self) -> None:
        """A line every few seconds without a terminal, then the table, exit code 0."""
        async with (
            running(FakeController()) as controller,
            self.started(controller.url, "--nodes", "2", "--speed", "10", "--duration", "1") as process,
        ):
            output = (await process.communicate())[0].decode()
        assert process.returncode == 0, output
        assert "creating nodes: 0 of 2" in output
        assert "ack latency p50 / p95 / p99 / max" in output

    async def test_exit_code_1_where_a_frame_was_refused(self) -> None:
        """The table names the error."""
        async with (
            running(FakeController(lambda it: acknowledge(it, "rejected", "SAMPLE_TOO_OLD"))) as controller,
            self.started(controller.url, "--nodes", "1", "--speed", "10", "--duration", "1") as process,
        ):
            output = (await process.communicate())[0].decode()
        assert process.returncode == 1
        assert "error SAMPLE_TOO_OLD" in output

    async def test_ctrl_c_prints_the_table(self) -> None:
        """An endless run ends with its table, and with 0 where nothing was lost."""
        beating = asyncio.Event()

        def answer(received: Received) -> Message:
            beating.set()
            return acknowledge(received)

        async with (
            running(FakeController(answer)) as controller,
            self.started(controller.url, "--nodes", "2") as process,
        ):
            await beating.wait()
            process.send_signal(signal.SIGINT)
            output = (await process.communicate())[0].decode()
        assert process.returncode == 0, output
        assert "interrupted" in output
        assert "Traceback" not in output

    def test_no_service_is_a_sentence(self) -> None:
        """Nothing listens there: the sentence names the address."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            *_, error = self.invoke("--nodes", "1", "--gpus", "1", "--url", url, "--token", "x")
        assert isinstance(error, StartupError)
        assert url in str(error)

    def test_an_address_that_is_none_is_a_sentence(self) -> None:
        """It is looked at before anything is created."""
        *_, error = self.invoke("--nodes", "1", "--gpus", "1", "--url", "localhost", "--token", "x")
        assert isinstance(error, StartupError)
        assert "http://" in str(error)

    def test_too_many_nodes_for_the_limit_of_files_is_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The limit is looked at before anything is created."""
        monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 1024))
        *_, error = self.invoke("--nodes", "5000", "--gpus", "1", "--token", "x")
        assert isinstance(error, StartupError)
        assert "open files" in str(error)

    def test_no_token_is_a_sentence(self) -> None:
        """Without a token nothing is tried."""
        *_, error = self.invoke("--nodes", "1", "--gpus", "1", AIWM_TOKEN="")
        assert isinstance(error, StartupError)
        assert "AIWM_TOKEN" in str(error)


async def test_a_wrong_portal_token_is_a_sentence() -> None:
    """What the service said, and what to do."""
    async with running(FakeController()) as controller:
        with pytest.raises(StartupError, match=r"answered 401 .*--token or AIWM_TOKEN"):
            await run(controller, token="wrong")
        assert json.dumps(controller.created) == "[]"
