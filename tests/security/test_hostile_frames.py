"""Hostile frames, to the session alone and over real sockets; `make fuzz` sends many more."""

import json
import logging
from collections.abc import AsyncIterator
from typing import cast

import pytest

from app.clock import SystemClock
from app.storage.database import Database
from tests.fakes import FakeClock
from tests.frames import heartbeat
from tests.integration.gateway import Gateway, running_gateway
from tests.security.logged import defects
from tests.security.raw_socket import TEXT, frame
from tests.security.session_fuzz import fuzz_session
from tests.security.socket_fuzz import SocketFuzz, fuzz_socket, now
from tests.security.wire_attacks import WIRE_ATTACKS


@pytest.fixture
async def gateway(database: Database) -> AsyncIterator[Gateway]:
    """A whole service by the clock of the wall: frames are stored as time passes."""
    async with running_gateway(database, cast(FakeClock, SystemClock())) as gateway:
        yield gateway


def test_no_frame_breaks_a_session() -> None:
    """Mutations of the document's frames: each is answered by the protocol, and what goes through can be stored."""
    totals = fuzz_session(examples=200)
    assert {"refused", "telemetry", "register", "report"} <= set(totals.cases), totals


async def test_no_frame_breaks_a_gateway(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """The same in pieces with pings between them: what comes after them is stored, and no defect is logged."""
    with caplog.at_level(logging.ERROR):
        totals = await fuzz_socket(gateway, examples=8)
    assert totals.cases["right after them, and stored"] >= 8, totals
    assert not defects(caplog)


async def test_what_the_wire_forbids_has_its_close_code(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """And what it allows is served; the node is there again a moment later, and no defect is logged."""
    node = SocketFuzz(gateway)
    with caplog.at_level(logging.ERROR):
        for attack in WIRE_ATTACKS:
            async with node.socket() as socket:
                assert (await socket.message())["status"] == "success"
                await socket.send(attack.sent)
                if attack.code is not None:
                    assert await socket.closed() == attack.code, attack.name
                    continue
                message_id = f"after {attack.name}"
                await socket.send(frame(TEXT, json.dumps(heartbeat(now(), ack=True, messageId=message_id)).encode()))
                while (answer := await socket.message()) and answer.get("data", {}).get("ackFor") != message_id:
                    assert answer["type"] == "ERROR", (attack.name, answer)
                assert answer.get("data", {}).get("status") == "stored", attack.name
    assert not defects(caplog)
