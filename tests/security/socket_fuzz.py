"""Hostile frames on real sockets: whatever came before, what is right is stored after it, and nobody else notices."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from time import monotonic
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from app.clock import timestamp
from app.domain.pace import AT_ONCE
from tests.frames import heartbeat, register
from tests.integration.gateway import Gateway
from tests.security.mutations import frames
from tests.security.raw_socket import BINARY, CONTINUATION, PING, PONG, TEXT, RawSocket, frame
from tests.security.totals import Totals

MALFORMED_IN_A_ROW: Final = 19
_BATCHES_AT_ONCE: Final = 50
_numbers = count(1)


class SocketFuzz:
    """Nodes that a gateway has registered, one after the other, and whose worker went mad."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._token = ""
        self._comes = 0
        self.totals = Totals("frames to the socket")

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[RawSocket]:
        """A connection of a registered node's: of a new one, where the one before came so often that it would wait."""
        if not self._comes:
            await self._be_another()
        self._comes -= 1
        async with self._connection() as socket:
            yield socket

    def _connection(self) -> RawSocket:
        return RawSocket(f"{self._gateway.settings.websocket_url}/ws/node", self._token)

    async def _be_another(self) -> None:
        self._token = await self._gateway.make_token(await self._gateway.create_node())
        self._comes = AT_ONCE - 1
        async with self._connection() as socket:
            await socket.send(frame(TEXT, json.dumps(register() | {"timestamp": now()}).encode()))
            assert (await socket.message())["type"] == "CONNECTION_ACK"
            assert (await socket.message())["type"] == "REGISTER_ACK"

    async def batch(self, hostile: list[tuple[str | bytes, list[int], bool]]) -> None:
        """Frames in pieces, with pings between them if so; then one that is right, which must be stored."""
        async with self.socket() as socket:
            for payload, cuts, has_pings in hostile:
                await socket.send(_in_pieces(payload, cuts, has_pings=has_pings))
                self.totals.count("hostile")
            message_id = f"right-{next(_numbers)}"
            await socket.send(frame(TEXT, json.dumps(heartbeat(now(), ack=True, messageId=message_id)).encode()))
            while (answer := await socket.message()) and answer.get("data", {}).get("ackFor") != message_id:
                self.totals.count(f"answered {answer['type']}")
            assert answer.get("data", {}).get("status") == "stored", answer
            self.totals.count("right after them, and stored")


def _in_pieces(payload: str | bytes, cuts: list[int], *, has_pings: bool) -> bytes:
    data = payload.encode("utf-8", "replace") if isinstance(payload, str) else payload
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    pieces = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
    opcode = TEXT if isinstance(payload, str) else BINARY
    between = frame(PING, b"still there?") + frame(PONG) if has_pings else b""
    return between.join(
        frame(opcode if number == 0 else CONTINUATION, piece, is_last=number == len(pieces) - 1)
        for number, piece in enumerate(pieces)
    )


def batches() -> st.SearchStrategy[list[tuple[str | bytes, list[int], bool]]]:
    """As many malformed frames in a row as a connection survives, at most; or fewer of them in more pieces.

    All of a batch may be read at one time: fragments and control frames together stay below PIECES_OF_NOTHING.
    """

    def frames_of(most: int, pieces: int) -> st.SearchStrategy[list[tuple[str | bytes, list[int], bool]]]:
        cuts = st.lists(st.integers(0, 2**20), max_size=pieces - 1)
        return st.lists(st.tuples(frames(), cuts, st.booleans()), min_size=1, max_size=most)

    return st.one_of(frames_of(MALFORMED_IN_A_ROW, 2), frames_of(3, 7))


async def fuzz_socket(gateway: Gateway, *, examples: int, seconds: float = 0) -> Totals:
    """So many batches, and on and on until so long has passed."""
    fuzz = SocketFuzz(gateway)
    loop = asyncio.get_running_loop()

    def carry_out(work: Callable[[Any], Awaitable[None]]) -> Callable[[Any], None]:
        return lambda batch: asyncio.run_coroutine_threadsafe(_awaited(work(batch)), loop).result()

    over = monotonic() + seconds
    for round_ in count():
        await asyncio.to_thread(
            _run, carry_out(fuzz.batch), min(examples, _BATCHES_AT_ONCE) if round_ else examples, round_
        )
        if monotonic() >= over:
            break
    return fuzz.totals


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _run(check_one: Callable[[Any], None], examples: int, number: int) -> None:
    unhurried = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    seed(number)(unhurried(given(batches())(check_one)))()


def now() -> str:
    """The present, as workers write it."""
    return timestamp(datetime.now(UTC))
