"""What a socket keeps while its worker is silent, which most of a fleet is at any moment."""

import gc
from collections.abc import AsyncIterator

import pytest

from app.clock import timestamp
from app.storage.database import Database
from app.ws.sockets import WebSocketProtocol
from tests.fakes import FakeClock
from tests.frames import heartbeat
from tests.integration.gateway import Gateway, running_gateway
from tests.integration.test_lifecycle import introduce


@pytest.fixture
async def gateway(database: Database, clock: FakeClock) -> AsyncIterator[Gateway]:
    async with running_gateway(database, clock) as gateway:
        yield gateway


def holders(word: str) -> list[str]:
    """The types of what refers to a longer text, or to bytes, with this word in it."""
    gc.collect()
    return [
        type(holder).__name__
        for holder in gc.get_objects()
        for held in gc.get_referents(holder)
        if (isinstance(held, str) and word in held and word != held)
        or (isinstance(held, bytes) and word.encode() in held)
    ]


async def test_a_frame_that_was_answered_is_kept_nowhere(gateway: Gateway) -> None:
    """Neither its bytes nor its text, although no other came; nor the headers of the handshake."""
    node_id = await gateway.create_node()
    async with gateway.worker(await gateway.make_token(node_id)) as worker:
        await introduce(worker)
        frame = heartbeat(timestamp(gateway.clock.now()), ack=True)
        frame["data"]["unheardOf"] = word = "a word of this frame alone"
        assert (await worker.ask(frame))["data"]["status"] == "stored"
        assert holders(word) == []
        [protocol] = [each for each in gc.get_objects() if isinstance(each, WebSocketProtocol)]
        assert not any((protocol.request.headers, protocol.response.headers, protocol.scope["headers"]))
