"""One connection, from CONNECTION_ACK to its end.

registered ─┬─▶ heartbeats at their times: of now, or not at all
            ├─▶ what the store holds: live samples at once, older ones newest first and few at a time
            ├─▶ TOKEN_RENEW in the last third of the token's life
            └─◀ acknowledgements: the store forgets
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from app.protocol import wire
from app.worker import handshake
from app.worker.handshake import Controller, Trouble, failure
from app.worker.measuring import Measuring
from app.worker.renewal import Renewal
from app.worker.schedule import Ticker, now_ms
from app.worker.spool import Sample
from app.worker.store import Store
from app.worker.tasks import first_of
from app.worker.threads import Thread
from app.worker.tokens import Tokens

WINDOW: Final = 32
"""Older samples that may wait for their acknowledgement at the same time."""
_NEVER_TAKEN: Final = frozenset({"INVALID_MESSAGE", "UNKNOWN_TYPE"})
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """What a connection needs of its daemon."""

    node_id: str
    measuring: Measuring
    store: Store
    tokens: Tokens
    disk: Thread
    silent_seconds: float


async def converse(socket: ClientConnection, around: Surroundings, stands: Callable[[Controller], None]) -> None:
    """Register and talk until the connection ends; `stands` is called once it is registered.

    Raises Refused, Rival or Trouble.
    """
    try:
        await handshake.greeted(socket)
        facts = await around.measuring.facts()
        if facts is None:
            raise Trouble("the machine's hardware cannot be read, so it cannot register")
        frame = wire.register(wire.new_message_id(), now_ms(), wire.encode(facts))
        controller = await handshake.registered(socket, frame)
        stands(controller)
        await _Conversation(socket, controller, around).run()
    except ConnectionClosed as error:
        raise handshake.closed(error) from None


class _Conversation:
    def __init__(self, socket: ClientConnection, controller: Controller, around: Surroundings) -> None:
        self._socket = socket
        self._controller = controller
        self._node_id = around.node_id
        self._measuring = around.measuring
        self._store = around.store
        self._silent_seconds = around.silent_seconds
        self._renewal = Renewal(around.tokens, around.disk, self._say)
        self._live = self._next_older = around.store.newest
        self._older: deque[Sample] = deque()
        self._replaying: set[str] = set()
        self._heartbeats: deque[str] = deque(maxlen=16)
        self._is_news = asyncio.Event()

    async def run(self) -> None:
        """Talk until the connection ends."""
        parts = [self._receive(), self._send(), self._beat()]
        if wire.TOKEN_RENEWAL in self._controller.extensions:
            parts.append(self._renewal.run())
        self._store.listeners.add(self._is_news.set)
        try:
            await first_of(*parts)
        finally:
            self._store.listeners.discard(self._is_news.set)

    async def _say(self, frame: str) -> None:
        try:
            await asyncio.wait_for(self._socket.send(frame), self._silent_seconds)
        except asyncio.TimeoutError:
            raise Trouble(f"the controller has not read for {self._silent_seconds:.0f} s") from None

    # What this side says.

    async def _beat(self) -> None:
        ticker = Ticker(self._node_id, self._controller.heartbeat_ms)
        moment = now_ms() // 1000 * 1000
        while True:
            data = await self._measuring.heartbeat()
            data = {**data, "timestamp": wire.at(moment), "spooled": self._store.count}
            message_id = wire.new_message_id()
            self._heartbeats.append(message_id)
            await self._say(wire.heartbeat(message_id, now_ms(), wire.encode(data)))
            moment = await ticker.next()

    async def _send(self) -> None:
        """Always the next live sample; where there is none, and room, the newest of the older ones."""
        while True:
            self._is_news.clear()
            sample = await self._store.after(self._live)
            if sample is not None:
                self._live = sample.number
                await self._send_sample(sample)
                continue
            older = await self._take_older() if len(self._replaying) < WINDOW else None
            if older is None:
                await self._is_news.wait()
                continue
            self._replaying.add(older.message_id)
            await self._send_sample(older)

    async def _take_older(self) -> Sample | None:
        if not self._older and self._next_older >= 0:
            self._older.extend(await self._store.before(self._next_older + 1, WINDOW))
            self._next_older = self._older[-1].number - 1 if self._older else -1
        return self._older.popleft() if self._older else None

    async def _send_sample(self, sample: Sample) -> None:
        if sample.kind == wire.METRICS:
            data = sample.data if wire.GPU_DETAILS in self._controller.extensions else _without_details(sample.data)
            await self._say(wire.metrics(sample.message_id, now_ms(), data))
        elif wire.GPU_EVENTS in self._controller.extensions:
            await self._say(wire.gpu_event(sample.message_id, now_ms(), sample.data))
        else:
            _log.warning("This controller takes no GPU events: one of %s is dropped.", wire.at(sample.moment))
            await self._forget(sample.message_id)
            return
        if not self._controller.acknowledges:
            await self._forget(sample.message_id)

    # What the other side says.

    async def _receive(self) -> None:
        while True:
            try:
                text = await asyncio.wait_for(self._socket.recv(), self._silent_seconds)
            except asyncio.TimeoutError:
                if self._controller.acknowledges:
                    raise Trouble(f"the controller has said nothing for {self._silent_seconds:.0f} s") from None
                continue
            await self._hear(handshake.parsed(text))

    async def _hear(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == wire.TELEMETRY_ACK and isinstance(message.get("data"), dict):
            await self._acknowledged(message["data"])
        elif kind == wire.TOKEN_RENEWED:
            self._renewal.answered(message)
        elif kind == wire.ERROR:
            await self._refused(message)

    async def _acknowledged(self, data: dict[str, Any]) -> None:
        if data.get("status") == "rejected":
            _log.warning("The controller will never store a sample, which is dropped: %s: %s", *failure(data))
        elif data.get("warnings"):
            _log.warning("The controller stored a sample with warnings: %s", data["warnings"])
        await self._forget(str(data.get("ackFor")))

    async def _refused(self, message: dict[str, Any]) -> None:
        code, sentence = failure(message)
        if code == wire.RENEWAL_REFUSED:
            self._renewal.answered(message)
        elif code in _NEVER_TAKEN and message.get("messageId") is not None:
            _log.error("The controller does not understand a frame, which is dropped: %s: %s", code, sentence)
            await self._forget(str(message["messageId"]))
        else:
            raise Trouble(f"the controller answered {code}: {sentence}")

    async def _forget(self, message_id: str) -> None:
        if message_id in self._heartbeats:
            return
        await self._store.forget(message_id)
        if message_id in self._replaying:
            self._replaying.discard(message_id)
            self._is_news.set()


def _without_details(data: str) -> str:
    """Metrics for a controller of the document alone."""
    metrics = json.loads(data)
    for gpu in metrics.get("gpus") or []:
        for field in wire.DETAIL_FIELDS:
            gpu.pop(field, None)
    return wire.encode(metrics)
