"""GET /metrics: what a conversation does to the service's own numbers, of all gateways together."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from app.clock import timestamp
from app.domain.peers import Peers
from app.meters import FRAMES, PROCESSES, Meters
from app.storage.database import Database
from tests.fakes import FakeClock
from tests.frames import heartbeat, metrics
from tests.integration.gateway import Gateway, running_gateway
from tests.integration.test_lifecycle import introduce


@pytest.fixture
async def gateway(database: Database, clock: FakeClock) -> AsyncIterator[Gateway]:
    async with running_gateway(database, clock) as gateway:
        yield gateway


async def numbers(gateway: Gateway) -> dict[str, float]:
    """Every line of the text."""
    answer = await gateway.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line.rpartition(" ") for line in answer.text.splitlines() if not line.startswith("#")]
    return {key: float(value) for key, _, value in lines}


async def test_a_conversation_is_counted(gateway: Gateway) -> None:
    """Frames, rows, samples, rejections, refusals, who is connected; nothing twice."""
    node_id = await gateway.create_node()
    async with gateway.worker("nonsense") as refused:
        assert await refused.closed() == 4401
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        now = timestamp(gateway.clock.now())
        await worker.ask(json.dumps(metrics("2020-01-01T00:00:00Z", ack=True)))
        for frame in (heartbeat(now, ack=True), heartbeat(now, ack=True), metrics(now, ack=True)):
            await worker.ask(json.dumps(frame))
        found = await numbers(gateway)
        assert found["aiwm_nodes_connected{}"] == found["aiwm_websocket_connections{}"] == 1
    expected = {
        'aiwm_frames_received_total{type="registration"}': 1,
        'aiwm_frames_received_total{type="heartbeat"}': 2,
        'aiwm_frames_received_total{type="metrics"}': 2,
        'aiwm_rows_stored_total{table="node_metrics"}': 1,
        'aiwm_rows_stored_total{table="gpu_metrics"}': 1,
        'aiwm_samples_total{outcome="duplicate"}': 1,
        'aiwm_samples_rejected_total{code="SAMPLE_TOO_OLD"}': 1,
        'aiwm_websocket_refused_total{code="INVALID_TOKEN"}': 1,
        "aiwm_websocket_accepted_total{}": 2,
        "aiwm_processes{}": 1,
        "aiwm_buffer_frames{}": 0,
        "aiwm_buffer_bytes{}": 0,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert found["aiwm_acknowledgement_seconds_count{}"] == 3
    assert found["aiwm_process_resident_memory_bytes{}"] > 10_000_000


async def test_only_this_machine_reads_them_without_a_token(gateway: Gateway) -> None:
    """Nor does a proxy on it speak for others."""
    async with httpx.AsyncClient(base_url=gateway.settings.url, trust_env=False) as stranger:
        assert (await stranger.get("/metrics")).status_code == 200
        by_proxy = {"X-Forwarded-For": "203.0.113.10"}
        assert (await stranger.get("/metrics", headers=by_proxy)).status_code == 401
    assert (await gateway.http.get("/metrics", headers=by_proxy)).status_code == 200


async def test_whichever_gateway_answers_it_tells_of_all() -> None:
    """One that is gone is missing from the sum, and keeps nobody waiting."""
    with TemporaryDirectory() as folder:
        one, other = Meters(), Meters()
        one.counts[FRAMES.key(type="metrics")] = 2
        other.counts[FRAMES.key(type="metrics")] = 5
        first, second = Peers(one, Path(folder), 0), Peers(other, Path(folder), 1)
        async with first.listening(), second.listening():
            for each in (first, second):
                found = await each.read()
                assert (found[FRAMES.key(type="metrics")], found[PROCESSES.key()]) == (7, 2)
        (Path(folder) / "1.sock").touch()  # killed: its socket stays, and nobody listens
        assert (await first.read())[FRAMES.key(type="metrics")] == 2
