"""One simulated worker: it connects, registers, sends, keeps what is not acknowledged, comes back.

run ─▶ dial ─▶ CONNECTION_ACK ─▶ NODE_REGISTER ─▶ REGISTER_ACK ─▶ heartbeats, metrics ─▶ settled, 1000
 ▲                                                                         │
 └───────────── backoff ◀── the connection is lost, or could not be made ◀─┘
"""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from app.protocol.wire import new_message_id
from app.simulate import frames
from app.simulate.fleet import Credentials
from app.simulate.frames import Controller, Kind
from app.simulate.gate import Backoff, Gate
from app.simulate.handshake import TROUBLE, Refused, describe, dial, greeted, not_before, register
from app.simulate.machine import Machine
from app.simulate.outbox import Outbox
from app.simulate.report import Tally
from app.simulate.schedule import Course, Walk, cadence

# Multiples of the golden ratio lie evenly on a circle, however many there are: no two phases fall together.
_GOLDEN: Final = 0.6180339887498949


@dataclass(slots=True)
class Surroundings:
    """What all workers of a simulation share. `walk` is resolved when the fleet has connected."""

    url: str
    speed: float
    gate: Gate
    tally: Tally
    walk: asyncio.Future[Walk]


class Worker:
    """One node's side of `/ws/node`. Its `run` owns the connection and the tasks that send on it."""

    __slots__ = (
        "_around",
        "_booted_at",
        "_course",
        "_credentials",
        "_heartbeating",
        "_is_cut",
        "_is_finishing",
        "_last_heartbeat",
        "_machine",
        "_number",
        "_outbox",
        "_phase",
        "_socket",
        "_walked_to",
        "_walking",
        "controller",
        "settled_in",
    )

    def __init__(self, credentials: Credentials, machine: Machine, around: Surroundings) -> None:
        self._credentials = credentials
        self._machine = machine
        self._around = around
        self._outbox = Outbox(around.tally)
        self._phase = (machine.number + 1) * _GOLDEN % 1
        self._booted_at = time.time() - random.uniform(3600, 30 * 86_400)
        self._course: Course | None = None
        self._number = 0
        self._walked_to: float | None = None
        self._last_heartbeat = 0
        self._is_finishing = False
        self._is_cut = False
        self._socket: ClientConnection | None = None
        self._heartbeating: asyncio.Task[None] | None = None
        self._walking: asyncio.Task[None] | None = None
        self.controller = Controller()
        self.settled_in = asyncio.Event()
        """Set when the node is registered, or will never be."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to send and nothing waits for an acknowledgement."""
        return self._is_finishing and not self._outbox and not self.unsent

    @property
    def unsent(self) -> int:
        """Samples of the walk that are not sent yet."""
        length = self._course.length if self._course is not None else None
        return 0 if length is None or self._is_cut else length - self._number

    async def run(self) -> None:
        """Live until `finish` was called and everything is acknowledged, or the controller refuses for good."""
        tally, backoff = self._around.tally, Backoff()
        try:
            while True:
                wait = 0.0
                try:
                    await self._converse(backoff)
                except TROUBLE as trouble:
                    tally.errors[describe(trouble)] += 1
                    wait = not_before(trouble)
                if self.is_settled:
                    return
                await asyncio.sleep(wait + backoff.next())
                tally.reconnects += 1
        except Refused as refusal:
            tally.errors[describe(refusal)] += 1
        finally:
            self.settled_in.set()

    async def finish(self, *, cut: bool) -> None:
        """Send nothing new (with `cut` not even samples that are due), and leave once all is acknowledged."""
        self._is_finishing = True
        self._is_cut = cut
        for task, ends in ((self._heartbeating, True), (self._walking, cut)):
            if task is not None and ends:
                task.cancel()
        await self._leave_if_settled()

    async def _leave_if_settled(self) -> None:
        if self.is_settled and self._socket is not None:
            await self._socket.close()

    async def _converse(self, backoff: Backoff) -> None:
        """One connection, from the handshake to its end."""
        async with self._around.gate:
            socket = await dial(self._around.url, self._credentials.token)
        try:
            await greeted(socket)
            now = _now_ms()
            data = frames.register_data(self._machine, self._uptime(now))
            frame = frames.envelope(Kind.REGISTER, new_message_id(), now, data)
            self.controller = await register(socket, frame, self._around.tally)
            self._around.tally.registered.add(self._credentials.node_id)
            self.settled_in.set()
            backoff.reset()
            await self._serve(socket)
        finally:
            await socket.close()

    async def _serve(self, socket: ClientConnection) -> None:
        """Send and receive until the connection ends."""
        self._socket = socket
        self._around.tally.connected += 1
        async with asyncio.TaskGroup() as group:
            # What the last connection left behind goes out beside what is new: acknowledgements must be read meanwhile.
            tasks = [group.create_task(self._send_again(socket, self._outbox.message_ids()))]
            if not self._is_cut:
                self._walking = group.create_task(self._send_metrics(socket))
                tasks.append(self._walking)
            if not self._is_finishing:
                self._heartbeating = group.create_task(self._send_heartbeats(socket))
                tasks.append(self._heartbeating)
            try:
                await self._receive(socket)
            finally:
                self._around.tally.connected -= 1
                self._socket = self._walking = self._heartbeating = None
                for task in tasks:
                    task.cancel()

    async def _receive(self, socket: ClientConnection) -> None:
        try:
            while not self.is_settled:
                self._outbox.answered(frames.decode_reply(await socket.recv(decode=False)))
        except ConnectionClosed as closed:
            if not self.is_settled:
                self._around.tally.errors[describe(closed)] += 1

    async def _send_heartbeats(self, socket: ClientConnection) -> None:
        step = cadence(self.controller.heartbeat_interval, self._around.speed)
        due = time.time() + self._phase * step
        with suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(due - time.time())
                await self._outbox.wait_for_room()
                # A heartbeat is its millisecond; a second one within the same would be the same sample.
                self._last_heartbeat = now = max(_now_ms(), self._last_heartbeat + 1)
                self._advance_to(self._walk_at(now / 1000))
                data = frames.heartbeat_data(self._machine, self._uptime(now))
                message_id = new_message_id()
                frame = frames.envelope(Kind.HEARTBEAT, message_id, now, data)
                self._outbox.keep(message_id, Kind.HEARTBEAT, frame)
                await socket.send(frame, text=True)
                # What was missed is missed: a heartbeat is of now or of no use.
                due = max(due + step, time.time())

    async def _send_metrics(self, socket: ClientConnection) -> None:
        course = await self._start_walking()
        with suppress(ConnectionClosed):
            while course.length is None or self._number < course.length:
                # Without a wait, too, others get their turn: a worker that catches up must not hold them up.
                await asyncio.sleep(max(0.0, course.due(self._number) - time.time()))
                await self._outbox.wait_for_room()
                moment = course.moment(self._number)
                self._advance_to(moment)
                data = frames.metrics_data(self._machine, int(moment * 1000))
                message_id = new_message_id()
                # Kept and counted before it is sent: should the connection break now, it is sent again.
                self._outbox.keep(message_id, Kind.METRICS, data)
                self._number += 1
                await socket.send(frames.envelope(Kind.METRICS, message_id, _now_ms(), data), text=True)
            await self._leave_if_settled()

    async def _start_walking(self) -> Course:
        if self._course is None:
            # Shielded: all workers wait for this one future, and one that is cancelled must not cancel it.
            walk = await asyncio.shield(self._around.walk)
            self._course = walk.course(self.controller.metrics_interval, self._phase)
        return self._course

    async def _send_again(self, socket: ClientConnection, message_ids: list[str]) -> None:
        with suppress(ConnectionClosed):
            for message_id in message_ids:
                frame = self._outbox.frame_again(message_id, _now_ms())
                if frame is not None:
                    await socket.send(frame, text=True)

    def _walk_at(self, now: float) -> float:
        """Where the walk is at a moment of the real time; before it begins, nowhere."""
        course = self._course
        if course is None:
            return self._walked_to or 0.0
        return now if course.ends_at is None else course.ends_at - (course.ends_at - now) * course.speed

    def _advance_to(self, moment: float) -> None:
        """Let the machine live up to a moment of the walk; never backwards."""
        if self._walked_to is not None and moment > self._walked_to:
            self._machine.advance(moment - self._walked_to)
        self._walked_to = max(moment, self._walked_to or 0.0) or None

    def _uptime(self, now_ms: int) -> int:
        return int(now_ms / 1000 - self._booted_at)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
