"""What one worker sent and nobody has acknowledged yet."""

import asyncio
import time
from typing import Final

import msgspec

from app.simulate import frames
from app.simulate.frames import Kind, Reply
from app.simulate.report import Tally

_WINDOW: Final = 1000
"""Frames that may wait for their acknowledgement; beyond that a worker holds its next ones back."""


class _Pending(msgspec.Struct, gc=False):
    """A frame: whole if a heartbeat, since that is sent again byte for byte; of metrics `data` alone."""

    kind: Kind
    payload: bytes
    sent_at: float


class Outbox:
    """Keeps frames from before their first sending until their answer, over any number of connections."""

    __slots__ = ("_pending", "_room", "_tally")

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._pending: dict[str, _Pending] = {}
        self._room = asyncio.Event()

    def __len__(self) -> int:
        return len(self._pending)

    async def wait_for_room(self) -> None:
        """Return when one more frame may wait."""
        while len(self._pending) >= _WINDOW:
            self._room.clear()
            await self._room.wait()

    def keep(self, message_id: str, kind: Kind, payload: bytes) -> None:
        """A frame is about to be sent for the first time; `payload` is the frame, or its `data` if metrics."""
        self._pending[message_id] = _Pending(kind, payload, time.monotonic())
        self._tally.outstanding += 1
        self._tally.sent[kind] += 1

    def message_ids(self) -> list[str]:
        """All that is kept, oldest first."""
        return list(self._pending)

    def frame_again(self, message_id: str, now_ms: int) -> bytes | None:
        """The frame to send once more: metrics in a fresh envelope. None if it was answered meanwhile."""
        pending = self._pending.get(message_id)
        if pending is None:
            return None
        self._tally.sent_again += 1
        if pending.kind is Kind.HEARTBEAT:
            return pending.payload
        return frames.envelope(pending.kind, message_id, now_ms, pending.payload)

    def answered(self, reply: Reply | None) -> None:
        """Account for a frame from the controller."""
        if reply is None:
            self._tally.errors["unreadable answer"] += 1
        elif reply.type == "TELEMETRY_ACK":
            self._acknowledged(reply)
        elif reply.type == "ERROR":
            self._forget(reply.message_id)
            self._tally.refused += 1
            self._tally.errors[reply.error.code if reply.error else "error without a code"] += 1

    def _acknowledged(self, reply: Reply) -> None:
        tally, data = self._tally, reply.data
        pending = self._forget(data.ack_for) if data else None
        if data is None or pending is None:
            # Of a frame that was sent twice both copies may be answered: the first answer counts.
            return
        tally.latencies.add(time.monotonic() - pending.sent_at)
        if data.status == "stored":
            tally.stored += 1
        elif data.status == "duplicate":
            tally.duplicate += 1
        else:
            tally.rejected += 1
            tally.errors[data.error.code if data.error else f"status {data.status}"] += 1
        if data.warnings:
            tally.warnings += 1

    def _forget(self, message_id: str | None) -> _Pending | None:
        pending = self._pending.pop(message_id, None) if message_id is not None else None
        if pending is not None:
            self._tally.outstanding -= 1
            self._room.set()
        return pending
