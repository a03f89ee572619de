"""The daemon against a controller that misbehaves on request: real sockets, a real spool, a fake machine."""

import asyncio
import base64
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.protocol import wire
from app.protocol.messages import Metrics, decode
from app.worker import config, conversation, daemon
from app.worker.backoff import Backoff, Patience
from app.worker.spool import Spool
from app.worker.systemd import Systemd
from tests.integration.fake_controller import Close, FakeController, Message, Received, acknowledge, reply, running
from tests.samplers import FakeSampler

NODE_ID = "673e7a1f5c9d8e001234abcd"
TOKEN = f"token-of-{NODE_ID}"


def patience(**changes: Any) -> Patience:
    """Soon again after trouble, and a minute after anything else; or as a test wants it."""
    return replace(
        Patience(Backoff(0.05, 0.1), Backoff(60, 60, least=1.0), Backoff(60, 60, least=1.0), look_for_token=0.05),
        **changes,
    )


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so, for at most ten seconds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"after 10 s still not: {what}")


@asynccontextmanager
async def worker(
    folder: Path, url: str, sampler: FakeSampler | None = None, waits: Patience | None = None, **environ: str
) -> AsyncIterator[asyncio.Task[None]]:
    """A daemon, stopped in the end as SIGTERM would."""
    known = {
        "HYDRA_NODE_TOKEN": TOKEN,
        "HYDRA_NODE_ID": NODE_ID,
        "HYDRA_CONTROLLER_ENDPOINT": url,
        "HYDRA_STATE_DIR": str(folder / "state"),
    }
    stop = asyncio.Event()
    settings = config.read(known | environ, folder / "etc")
    running = asyncio.create_task(
        daemon.run(settings, sampler or FakeSampler(), stop, Systemd({}), waits or patience())
    )
    try:
        yield running
    finally:
        stop.set()
        async with asyncio.timeout(5):
            await running


def counters(frames: list[Received]) -> list[int]:
    """Which measurement each frame of metrics is."""
    return [it.message["data"]["network"]["bytesIn"] for it in frames]


async def test_it_registers_beats_and_measures_in_the_documents_shapes(tmp_path: Path) -> None:
    """Registration first, a heartbeat at once, metrics at the interval that it was told; then a clean goodbye."""
    async with running(FakeController()) as controller, worker(tmp_path, controller.url):
        await until(lambda: len(controller.of(wire.METRICS)) >= 3, "three metrics")
    assert [it.message["type"] for it in controller.received[:2]] == [wire.NODE_REGISTER, wire.HEARTBEAT]
    for received in controller.received:
        assert received.node_id == NODE_ID
        decode(received.text)
    assert len({it.message["messageId"] for it in controller.received}) == len(controller.received)
    heartbeat = controller.of(wire.HEARTBEAT)[0].message
    assert heartbeat["ack"] is True
    assert heartbeat["data"]["timestamp"].endswith(".000Z")
    assert heartbeat["data"]["spooled"] == 0
    assert controller.closed == [1000]


async def test_a_controller_of_the_document_alone_is_not_upset(tmp_path: Path) -> None:
    """It gets no field of ours, and since it acknowledges nothing, what was sent is not kept."""
    sampler = FakeSampler()
    async with (
        running(FakeController(lambda _: None, max_sample_age_ms=None)) as controller,
        worker(tmp_path, controller.url, sampler),
    ):
        await until(lambda: len(controller.of(wire.METRICS)) >= 2, "two metrics")
        sampler.pending_events = [{"kind": "xid", "deviceId": sampler.device_ids[0], "detail": {"xid": 79}}]
        await until(lambda: len(controller.of(wire.METRICS)) >= 5, "five metrics")
        await until(lambda: controller.of(wire.HEARTBEAT)[-1].message["data"]["spooled"] == 0, "an empty spool")
    for received in controller.of(wire.METRICS):
        assert "smClock" not in received.message["data"]["gpus"][0]
        assert isinstance(decode(received.text), Metrics)
    assert not controller.of(wire.GPU_EVENT)


async def test_it_uses_the_extensions_that_it_is_told(tmp_path: Path) -> None:
    """Details of GPUs in metrics, and events of GPUs, acknowledged like samples."""
    sampler = FakeSampler()
    sampler.pending_events = [
        {"kind": "xid", "deviceId": sampler.device_ids[3], "detail": {"xid": 79}},
        {"kind": "gpu_vanished", "deviceId": sampler.device_ids[3]},
    ]
    async with (
        running(FakeController(extensions=[wire.GPU_DETAILS, wire.GPU_EVENTS])) as controller,
        worker(tmp_path, controller.url, sampler),
    ):
        await until(lambda: len(controller.of(wire.GPU_EVENT)) >= 2, "two events")
        await until(lambda: len(controller.of(wire.METRICS)) >= 1, "metrics")
    first, second = (it.message for it in controller.of(wire.GPU_EVENT))
    assert first["data"] == {
        "kind": "xid",
        "deviceId": sampler.device_ids[3],
        "detail": {"xid": 79},
        "timestamp": first["data"]["timestamp"],
    }
    assert first["ack"] is True
    assert second["data"]["timestamp"] > first["data"]["timestamp"]
    assert controller.of(wire.METRICS)[0].message["data"]["gpus"][7]["throttleReasons"] == ["power_cap"]


async def test_older_samples_come_newest_first_few_at_a_time_and_live_ones_pass_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only so many wait for their acknowledgements; each that comes lets the next one go."""
    monkeypatch.setattr(conversation, "WINDOW", 2)
    spool = Spool(tmp_path / "state" / NODE_ID / "spool.sqlite", 2**20)
    for number in range(5):
        spool.put(wire.METRICS, 1_000 * number, json.dumps({"timestamp": wire.at(1_000 * number), "older": number}))
    spool.close()
    older: list[Received] = []
    acknowledging = False

    def answer(received: Received) -> Message | None:
        if received.message["type"] == wire.METRICS:
            if "older" in received.message["data"]:
                older.append(received)
            return None
        return acknowledge(older[answered.pop()]) if acknowledging and answered[-1] < len(older) else None

    answered = [4, 3, 2, 1, 0]
    async with running(FakeController(answer)) as controller, worker(tmp_path, controller.url):
        await until(lambda: len(controller.of(wire.METRICS)) >= 5, "three live ones beside two that wait")
        assert [it.message["data"]["older"] for it in older] == [4, 3]
        acknowledging = True
        await until(lambda: len(older) == 5, "all that were older")
    assert [it.message["data"]["older"] for it in older] == [4, 3, 2, 1, 0]
    assert [it.message["data"]["timestamp"] for it in older] == [wire.at(1_000 * number) for number in range(4, -1, -1)]


async def test_nothing_is_lost_over_broken_connections_and_restarts(tmp_path: Path) -> None:
    """Every connection is cut after a few frames, the daemon is restarted: each measurement arrives and is
    acknowledged, each under one messageId and one time.
    """
    stored: dict[int, set[tuple[str, str]]] = {}

    def answer(received: Received) -> Message | None:
        if received.message["type"] == wire.METRICS:
            data = received.message["data"]
            if (
                received.connection % 3
                and len([it for it in controller.received if it.connection == received.connection]) > 6
            ):
                raise Close(1011)
            ids = stored.setdefault(data["network"]["bytesIn"], set())
            ids.add((received.message["messageId"], data["timestamp"]))
        return acknowledge(received)

    sampler, wanted = FakeSampler(gpus=1), list[int]()
    async with running(FakeController(answer, metrics_interval=100)) as controller:
        for _ in range(3):
            async with worker(tmp_path, controller.url, sampler):
                wanted.append(sampler.taken + 10)
                await until(lambda: sampler.taken >= wanted[-1], "ten more")
        async with worker(tmp_path, controller.url, sampler):
            last = sampler.taken
            await until(lambda: set(range(1, last + 1)) <= set(stored), "all of them")
    assert controller.connections > 4
    assert all(len(ids) == 1 for ids in stored.values())


async def test_a_rejected_sample_is_dropped_with_its_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And so is one that the controller does not understand: neither is sent for ever."""

    def answer(received: Received) -> Message | None:
        if received.message["type"] != wire.METRICS:
            return acknowledge(received)
        if len(controller.of(wire.METRICS)) % 2:
            return acknowledge(received, "rejected", "SAMPLE_TOO_OLD")
        error = {"code": "INVALID_MESSAGE", "message": "no such field"}
        return reply("ERROR", messageId=received.message["messageId"], error=error)

    async with running(FakeController(answer)) as controller, worker(tmp_path, controller.url):
        await until(lambda: len(controller.of(wire.METRICS)) >= 4, "four metrics")
        await until(lambda: controller.of(wire.HEARTBEAT)[-1].message["data"]["spooled"] == 0, "an empty spool")
    assert "SAMPLE_TOO_OLD" in caplog.text
    assert "no such field" in caplog.text
    assert len(set(counters(controller.of(wire.METRICS)))) == len(controller.of(wire.METRICS))


@pytest.mark.parametrize("code", [4401, 4403, 4404])
async def test_a_refusal_is_not_retried_fast(tmp_path: Path, caplog: pytest.LogCaptureFixture, code: int) -> None:
    """The sentence says what to do, and never the token."""

    def answer(_: Received) -> Message:
        raise Close(code)

    async with running(FakeController(answer)) as controller, worker(tmp_path, controller.url):
        await until(lambda: "trying again in 60 s" in caplog.text, "the sentence")
    assert controller.connections == 1
    assert "Make a new token" in caplog.text
    assert f"close code {code}" in caplog.text
    assert TOKEN not in caplog.text


async def test_a_refused_connection_ack_names_the_controllers_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And a refused daemon samples on, and comes back at once when there is another token."""
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "token").write_text(TOKEN)
    async with running(FakeController(refusal="TOKEN_EXPIRED")) as controller:
        async with worker(tmp_path, controller.url, HYDRA_NODE_TOKEN=""):
            await until(lambda: "TOKEN_EXPIRED: No" in caplog.text, "the reason")
            controller.refusal = None
            (etc / "token").write_text("token-of-another")
            await until(lambda: len(controller.of(wire.HEARTBEAT)) >= 1, "a heartbeat")
        assert controller.connections == 2


async def test_another_daemon_of_this_identity_is_named_and_given_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """4409 has a backoff of its own, longer than that of any trouble."""

    def answer(received: Received) -> Message:
        if received.connection == 1:
            raise Close(4409)
        return acknowledge(received)

    waits = patience(trouble=Backoff(60, 60, least=1.0), rival=Backoff(0.1, 0.1))
    async with running(FakeController(answer)) as controller, worker(tmp_path, controller.url, waits=waits):
        await until(lambda: len(controller.of(wire.METRICS)) >= 1, "metrics on the second connection")
    assert f"Another daemon has the identity of node {NODE_ID}" in caplog.text
    default = Patience()
    assert min(default.rival.next() for _ in range(9)) > 2 * max(default.trouble.next() for _ in range(9))


async def test_a_controller_that_falls_silent_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A stuck connection is replaced by a new one, which sends again what was not acknowledged."""

    def answer(received: Received) -> Message | None:
        return None if received.connection == 1 else acknowledge(received)

    async with (
        running(FakeController(answer)) as controller,
        worker(tmp_path, controller.url, waits=patience(silence=0.5)),
    ):
        await until(lambda: controller.connections == 2, "a second connection")
        first = {it.message["messageId"] for it in controller.of(wire.METRICS) if it.connection == 1}
        await until(
            lambda: first <= {it.message["messageId"] for it in controller.of(wire.METRICS) if it.connection == 2},
            "all of the first connection's metrics again",
        )
    assert "has said nothing for" in caplog.text


async def test_a_sampler_that_hangs_does_not_keep_the_node_from_living(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A driver call that never returns costs measurements; heartbeats go on, and SIGTERM is heard."""
    released = threading.Event()
    sampler = FakeSampler()
    sampler.hangs = released
    try:
        async with running(FakeController()) as controller:
            async with worker(tmp_path, controller.url, sampler, patience(measuring=0.2)):
                await until(lambda: "does a GPU driver hang" in caplog.text, "the sentence")
                seen = len(controller.of(wire.HEARTBEAT))
                await until(lambda: len(controller.of(wire.HEARTBEAT)) > seen + 2, "more heartbeats")
            assert controller.of(wire.HEARTBEAT)[-1].message["data"]["status"] == "online"
    finally:
        released.set()


async def test_a_sampler_that_fails_leaves_its_measurement_out(tmp_path: Path) -> None:
    """The next one is taken."""
    sampler = FakeSampler()
    sampler.failure = RuntimeError("a GPU fell off the bus")
    async with running(FakeController()) as controller, worker(tmp_path, controller.url, sampler):
        await until(lambda: len(controller.of(wire.HEARTBEAT)) >= 3, "heartbeats")
        assert not controller.of(wire.METRICS)
        sampler.failure = None
        await until(lambda: len(controller.of(wire.METRICS)) >= 1, "metrics")


class TestRenewal:
    """A token in the last third of its life is renewed on the live connection."""

    def token(self, issued_at: float, life: float) -> str:
        """A JWT as far as the daemon reads it."""
        claims = {"sub": NODE_ID, "iat": int(issued_at), "exp": int(issued_at + life)}
        return f"h.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.s"

    @asynccontextmanager
    async def renewing(
        self, folder: Path, token: str, answer: Callable[[Received], Message | None]
    ) -> AsyncIterator[FakeController]:
        """A daemon with that token and a controller that renews."""
        controller = FakeController(
            lambda it: answer(it) if it.message["type"] == wire.TOKEN_RENEW else acknowledge(it),
            extensions=[wire.TOKEN_RENEWAL],
        )
        async with running(controller), worker(folder, controller.url, HYDRA_NODE_TOKEN=token):
            yield controller

    async def test_the_new_token_is_kept_as_safely_as_the_old_one(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A file of its own, 0600; it is used from then on; it stands in no log."""
        caplog.set_level(logging.DEBUG, "app.worker")
        old, new = self.token(time.time() - 70, 100), self.token(time.time(), 100)
        kept = tmp_path / "state" / NODE_ID / "token"

        def answer(_: Received) -> Message:
            return reply("TOKEN_RENEWED", data={"token": new, "expiresAt": "2030-01-01T00:00:00.000Z"})

        async with self.renewing(tmp_path, old, answer) as controller:
            await until(kept.exists, "the renewed token")
            assert len(controller.of(wire.TOKEN_RENEW)) == 1
        assert kept.read_text() == new + "\n"
        assert kept.stat().st_mode & 0o777 == 0o600
        assert [it.name for it in kept.parent.iterdir() if "token" in it.name] == ["token"]
        assert new not in caplog.text
        async with running(FakeController()) as controller, worker(tmp_path, controller.url, HYDRA_NODE_TOKEN=old):
            await until(lambda: controller.received != [], "a frame")
            assert controller.received[0].node_id.endswith(new)

    async def test_a_refused_renewal_is_no_trouble(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The connection stays, the reason is told, nothing is written."""

        def answer(received: Received) -> Message:
            error = {"code": "TOKEN_RENEWAL_REFUSED", "message": "forbidden here"}
            return reply("ERROR", messageId=received.message["messageId"], error=error)

        async with self.renewing(tmp_path, self.token(time.time() - 70, 100), answer) as controller:
            await until(lambda: "forbidden here" in caplog.text, "the reason")
            seen = len(controller.of(wire.HEARTBEAT))
            await until(lambda: len(controller.of(wire.HEARTBEAT)) > seen + 1, "more heartbeats")
            assert controller.connections == 1
        assert not (tmp_path / "state" / NODE_ID / "token").exists()

    async def test_a_young_token_is_left_alone(self, tmp_path: Path) -> None:
        """Before the last third nothing is asked for."""
        async with self.renewing(tmp_path, self.token(time.time(), 1000), lambda _: None) as controller:
            await until(lambda: len(controller.of(wire.HEARTBEAT)) >= 3, "heartbeats")
            assert not controller.of(wire.TOKEN_RENEW)


async def test_it_starts_without_a_controller_and_finds_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody listens: a sentence with the address; the log tells how much is spooled."""
    async with running(FakeController()) as controller:
        url = controller.url
    async with worker(tmp_path, url):
        await until(lambda: "0 samples are spooled; trying again in" in caplog.text, "the sentence")
    assert f"{url.replace('http', 'ws')}/ws/node cannot be reached" in caplog.text


async def test_a_redirect_to_a_page_is_trouble_like_any_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A load balancer under maintenance: the daemon goes on measuring, and asks again."""
    asked = 0

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: https://status.example.com/\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(redirect, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with worker(tmp_path, f"http://127.0.0.1:{port}"):
            await until(lambda: asked >= 2, "second try")
    assert "does not speak WebSocket" in caplog.text
