"""A fleet at the document's own cadence: a heartbeat every 30 s, metrics every 60 s, each node at its own moment."""

import asyncio
import multiprocessing
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from random import Random
from time import perf_counter
from typing import Final, NamedTuple

import uvloop

from app.storage.database import Database
from bench import wire
from bench.service import Service, token

AT_ONCE: Final = 200
TICK: Final = 0.05
LATE_SECONDS: Final = 30
IDLE_SECONDS: Final = 10
"""For so long the gateways are watched with nobody there."""
NODES_A_CLIENT: Final = 17_000
"""A process may have 20,000 files."""


class Fleet:
    """Nodes `first` to `first + count - 1`, connected from one process."""

    def __init__(self, port: int, first: int, count: int) -> None:
        self._port = port
        self._numbers = range(first, first + count)
        self._workers: list[wire.Worker] = []
        self._sent: dict[str, float] = {}
        self.latencies: list[float] = []
        self.frames = 0

    async def connect(self) -> None:
        """Connect and register them all."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> wire.Worker:
            async with room:
                local = f"127.0.{number // 20_000}.{1 + number % 4}"
                return await wire.connect(self._port, token(number), number, self._heard, local)

        self._workers = list(await asyncio.gather(*(one(number) for number in self._numbers)))

    async def run(self, seconds: float) -> None:
        """Send for so long, then wait for what is not acknowledged yet."""
        random = Random(self._numbers.start)
        phases = [random.random() * 30 for _ in self._workers]
        order = sorted(range(len(phases)), key=phases.__getitem__)
        began, turn, place = perf_counter(), 0, 0
        while (passed := perf_counter() - began) < seconds:
            while order and turn * 30 + phases[order[place]] <= passed:
                self._send(order[place], turn)
                place += 1
                if place == len(order):
                    place, turn = 0, turn + 1
            await asyncio.sleep(TICK)
        try:
            async with asyncio.timeout(LATE_SECONDS):
                while self._sent:
                    await asyncio.sleep(TICK)
        except TimeoutError:
            pass

    @property
    def unacknowledged(self) -> int:
        """Frames that were never acknowledged."""
        return len(self._sent)

    @property
    def lost_connections(self) -> int:
        """Sockets that did not stay open."""
        return sum(worker.closed for worker in self._workers)

    def _send(self, place: int, turn: int) -> None:
        number, now = self._numbers[place], datetime.now(UTC)
        kinds = (wire.heartbeat, wire.metrics) if (turn + number) % 2 == 0 else (wire.heartbeat,)
        for kind in kinds:
            message_id = f"{kind.__name__[0]}-{number}-{turn}"
            self._workers[place].transport.write(kind(number, message_id, now))
            self._sent[message_id] = perf_counter()
            self.frames += 1

    def _heard(self, message_id: str) -> None:
        self.latencies.append(perf_counter() - self._sent.pop(message_id))


class Steady(NamedTuple):
    """What a fleet cost: seconds, bytes, and shares of one core."""

    nodes: int
    connected_in: float
    frames: int
    unacknowledged: int
    lost_connections: int
    offline: int
    p50: float
    p99: float
    cpu_a_node: float
    """Microseconds of the gateways' processors for a node and second."""
    own_cpu_a_node: float
    """The same without what they take with nobody there, which a large fleet shares and a small one pays alone."""
    memory_a_node: float


class Report(NamedTuple):
    """What one client process saw."""

    frames: int
    unacknowledged: int
    lost_connections: int
    latencies: list[float]


class Client:
    """A process with its part of the fleet. It does what it is told, a word at a time, and answers when it is done."""

    def __init__(self, port: int, first: int, count: int) -> None:
        self._ours, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_serve, args=(port, first, count, theirs), daemon=True)
        self._process.start()

    async def tell(self, seconds: float | None) -> Report | None:
        """Connect (None), or report for so many seconds."""
        self._ours.send(seconds)
        answer: Report | None = await asyncio.to_thread(self._ours.recv)
        return answer

    def end(self) -> None:
        """Cut all wires."""
        self._process.terminate()
        self._process.join()


_spawn = multiprocessing.get_context("spawn")


def _serve(port: int, first: int, count: int, orders: Connection) -> None:
    uvloop.run(_obey(Fleet(port, first, count), orders))


async def _obey(fleet: Fleet, orders: Connection) -> None:
    while True:
        seconds = await asyncio.to_thread(orders.recv)
        if seconds is None:
            await fleet.connect()
            orders.send(None)
        else:
            await fleet.run(seconds)
            orders.send(Report(fleet.frames, fleet.unacknowledged, fleet.lost_connections, fleet.latencies))


async def steady(database: Database, service: Service, nodes: int, seconds: float) -> Steady:
    """Connect so many nodes, let them report for so long, and say what came of it."""
    cpu, memory = "aiwm_process_cpu_seconds_total{}", "aiwm_process_resident_memory_bytes{}"
    ready = await service.metrics()
    await asyncio.sleep(IDLE_SECONDS)
    empty = await service.metrics()
    idle = (empty[cpu] - ready[cpu]) / IDLE_SECONDS
    firsts = range(1, nodes + 1, NODES_A_CLIENT)
    clients = [Client(service.port, first, min(NODES_A_CLIENT, nodes + 1 - first)) for first in firsts]
    try:
        began = perf_counter()
        await asyncio.gather(*(client.tell(None) for client in clients))
        connected_in = perf_counter() - began
        await asyncio.sleep(2)
        full, reporting_since = await service.metrics(), perf_counter()
        reports = [report for report in await asyncio.gather(*(client.tell(seconds) for client in clients)) if report]
        after, lasted = await service.metrics(), perf_counter() - reporting_since
    except BaseException:
        for client in clients:
            client.end()
        raise
    async with database.driver_transaction() as connection:
        offline = await connection.fetchval(
            "SELECT count(*) FROM node_state JOIN nodes USING (node_key) WHERE registered_at IS NOT NULL AND status <> 'online'"
        )
    for client in clients:
        client.end()
    latencies = sorted(latency for report in reports for latency in report.latencies)
    used = after[cpu] - full[cpu]
    return Steady(
        nodes=nodes,
        connected_in=connected_in,
        frames=sum(report.frames for report in reports),
        unacknowledged=sum(report.unacknowledged for report in reports),
        lost_connections=sum(report.lost_connections for report in reports),
        offline=offline,
        p50=latencies[len(latencies) // 2],
        p99=latencies[len(latencies) * 99 // 100],
        cpu_a_node=used / nodes / seconds * 1e6,
        own_cpu_a_node=(used - idle * lasted) / nodes / seconds * 1e6,
        memory_a_node=(full[memory] - empty[memory]) / nodes,
    )
