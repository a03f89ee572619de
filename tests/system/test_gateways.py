"""`aiwm serve --workers N`: several processes on one port, and what becomes of the fleet when one of them dies."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.system.client import HEARTBEAT, Worker
from tests.system.conftest import STOP_SECONDS, Service, processes_of
from tests.system.test_restart import QUICK, Stream

StartService = Callable[..., Service]
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="these tests look at processes in /proc")

THREE: Final = QUICK | {"AIWM_WORKERS": "3"}


def gateways(service: Service) -> list[int]:
    """The gateway processes of a service: children that run Python as it does."""
    children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
    return [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + STOP_SECONDS
    while not is_so():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def test_a_gateway_that_is_killed_loses_nothing_and_is_replaced(start_service: StartService) -> None:
    """Its workers lose their sockets and nothing that was acknowledged; another process takes its place."""
    service = start_service(**THREE)
    before = gateways(service)
    assert len(before) == 3
    with service.portal() as portal:
        streams = [Stream(service, portal) for _ in range(6)]
        for stream in streams:
            stream.start(5)
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len(gateways(service)) == 3 and before[0] not in gateways(service), "nobody took its place")
        for stream in streams:
            again = Worker(service.ws_url, portal.node_token(stream.node_id))
            with again as worker:
                worker.receive("CONNECTION_ACK")
                worker.acknowledged("TELEMETRY_HEARTBEAT", HEARTBEAT)
                assert portal.node(stream.node_id)["websocketConnected"] is True
            stream.join()
            stream.check_kept(portal)
    assert service.stop() == 0
    assert not processes_of(service.data_dir)


def test_gateways_whose_parent_is_killed_stop(start_service: StartService) -> None:
    """Else the next start would find its port in use."""
    service = start_service(**THREE)
    before = gateways(service)
    service.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in before), "gateways outlived their parent")
    service.start()
    assert len(gateways(service)) == 3
    assert service.stop() == 0


def test_a_port_in_use_is_told_whoever_uses_it(start_service: StartService) -> None:
    """Another service's gateways share theirs with each other and with nobody else."""
    service = start_service(**THREE)
    other = service.run("serve", AIWM_DATA_DIR=str(service.data_dir.parent / "other"))
    assert (other.returncode, "cannot listen on 127.0.0.1 port" in other.stderr) == (1, True), other.stderr
    assert "Traceback" not in other.stderr
