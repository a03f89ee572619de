"""`make chaos`: what is acknowledged is stored, once, whatever dies.

A service with two gateways on a PostgreSQL of its own, and workers that keep what is not acknowledged and send it
again. One fault after the other; after each the workers' own record is held against the tables. One line a fault.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final, NamedTuple

from app.embedded.cluster import ensure_cluster
from app.embedded.postmaster import find_running
from app.embedded.programs import find_programs
from app.embedded.server import Server
from app.storage import schema
from app.storage.database import Database
from bench import wire
from bench.load import make_nodes
from bench.service import Service, node_id, serving, token

NODES: Final = 40
EVERY: Final = 0.25
CALM: Final = 3.0
CATCH_UP: Final = 90.0
QUESTIONS: Final = 60
GROWTH: Final = 32 * 2**20
"""Bytes that the largest gateway may have more than before: half of what it may hold of unstored frames."""
_NOT_BACK: Final = "SELECT count(*) FROM node_state WHERE status <> 'online' OR gateway_id IS NULL"
_COUNT: Final = "SELECT n.id, m.time FROM node_metrics m JOIN nodes n USING (node_key) WHERE m.time >= $1"


class Cluster:
    """A PostgreSQL server that can be killed, stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs = find_programs()
        self._cluster = ensure_cluster(self._programs, folder)
        self._server = Server(self._programs, folder, self._cluster)
        self._server.start()
        self.url = self._server.url

    def signal(self, number: signal.Signals) -> None:
        """To every process of the server: each has a group of its own."""
        pid = self._pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(each, number)

    def restart(self) -> None:
        """After a kill."""
        self._server = Server(self._programs, self._folder, self._cluster)
        self._server.start()

    def stop(self) -> None:
        """In the end."""
        self._server.stop()

    @property
    def _pid(self) -> int:
        running = find_running(self._cluster)
        if running is None:
            raise RuntimeError("the database server does not run")
        return running.pid


class Node:
    """A worker that forgets a sample when it is acknowledged, and nothing before."""

    def __init__(self, service: Service, number: int) -> None:
        self._service = service
        self._number = number
        self._random = Random(number)
        self._worker: wire.Worker | None = None
        self.waiting: dict[str, datetime] = {}
        self._since: dict[str, float] = {}
        self.sent: set[datetime] = set()
        self.acknowledged: set[datetime] = set()
        self.longest = 0.0
        self.is_paused = False

    async def run(self) -> None:
        """Connect, send, and connect again, for ever."""
        delay = 0.2
        while True:
            try:
                async with asyncio.timeout(30):
                    self._worker = await wire.connect(
                        self._service.port, token(self._number), self._number, self._heard, "127.0.0.1"
                    )
                delay = 0.2
                await self._talk(self._worker)
            except (OSError, RuntimeError, TimeoutError):
                await asyncio.sleep(delay * self._random.uniform(0.5, 1.5))
                delay = min(delay * 2, 5)

    async def _talk(self, worker: wire.Worker) -> None:
        for message_id, moment in list(self.waiting.items()):
            worker.transport.write(wire.metrics(self._number, message_id, moment))
        while not worker.closed:
            if not self.is_paused:
                moment = datetime.now(UTC).replace(microsecond=datetime.now(UTC).microsecond // 1000 * 1000)
                message_id = f"{self._number}-{len(self.sent)}"
                self.sent.add(moment)
                self.waiting[message_id] = moment
                self._since[message_id] = perf_counter()
                worker.transport.write(wire.metrics(self._number, message_id, moment))
                worker.transport.write(wire.heartbeat(self._number, f"h{message_id}", moment, ack=False))
            await asyncio.sleep(EVERY)

    def _heard(self, message_id: str) -> None:
        moment = self.waiting.pop(message_id, None)
        if moment is not None:
            self.acknowledged.add(moment)
            self.longest = max(self.longest, perf_counter() - self._since.pop(message_id))

    def cut(self) -> None:
        """The network between the two ends is gone."""
        if self._worker is not None:
            self._worker.transport.abort()


class Scene(NamedTuple):
    """What faults happen to."""

    service: Service
    cluster: Cluster
    nodes: list[Node]


async def kill_one_gateway(scene: Scene) -> None:
    """`kill -9` of one gateway process."""
    os.kill(scene.service.gateways()[0], signal.SIGKILL)


async def kill_all_gateways(scene: Scene) -> None:
    """`kill -9` of all of them."""
    for pid in scene.service.gateways():
        os.kill(pid, signal.SIGKILL)


async def kill_the_database(scene: Scene) -> None:
    """`kill -9` of the database server, which is started again after three seconds."""
    scene.cluster.signal(signal.SIGKILL)
    await asyncio.sleep(3)
    await asyncio.to_thread(scene.cluster.restart)


def stop_the_database(seconds: float) -> Callable[[Scene], Awaitable[None]]:
    """A database server that does nothing for so long, and goes on."""

    async def stop(scene: Scene) -> None:
        scene.cluster.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        scene.cluster.signal(signal.SIGCONT)

    return stop


async def fill_the_pools(scene: Scene) -> None:
    """More questions at once than there are connections for them, none of which is answered for ten seconds."""
    database = Database(scene.cluster.url, pool_size=1)
    async with database.driver_transaction() as connection:
        await connection.execute("LOCK TABLE node_events")
        asked = [asyncio.create_task(scene.service.ask(f"/nodes/{node_id(1)}/events")) for _ in range(QUESTIONS)]
        await asyncio.sleep(10)
    await asyncio.gather(*asked, return_exceptions=True)
    await database.close()


async def cut_the_network(scene: Scene) -> None:
    """Every socket is gone, without a goodbye."""
    for node in scene.nodes:
        node.cut()


async def second_daemon(scene: Scene) -> None:
    """Another worker with the token of each of ten nodes: both take over from each other for a while."""
    others = [Node(scene.service, number) for number in range(1, 11)]
    for other in others:
        other.is_paused = True
    tasks = [asyncio.create_task(other.run()) for other in others]
    await asyncio.sleep(5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for other in others:
        other.cut()


FAULTS: Final[dict[str, Callable[[Scene], Awaitable[None]]]] = {
    "a gateway is killed": kill_one_gateway,
    "all gateways are killed": kill_all_gateways,
    "the database is killed": kill_the_database,
    "the database stands still for 20 s": stop_the_database(20),
    "the database stands still for 60 s": stop_the_database(60),
    "the database stands still for 150 s": stop_the_database(150),
    "questions take all connections that they may": fill_the_pools,
    "the network is cut": cut_the_network,
    "a second daemon has the same token": second_daemon,
}
SHORT: Final = (
    "a gateway is killed",
    "the database is killed",
    "questions take all connections that they may",
    "the network is cut",
)


class Outcome(NamedTuple):
    """Of one fault, over everything that was sent since it began. `offline`: not online, or held by no gateway."""

    sent: int
    acknowledged: int
    stored: int
    lost: int
    doubled: int
    offline: int
    longest: float
    memory: tuple[int, int]
    """Bytes of the largest gateway, before and after: one that has just begun is small, and says nothing yet."""

    @property
    def is_well(self) -> bool:
        """Whether all was kept, once, every node is back, and memory is where it was."""
        before, after = self.memory
        is_kept = self.lost == self.doubled == 0 and self.sent == self.acknowledged == self.stored
        return is_kept and self.offline == 0 and after - before < GROWTH


@asynccontextmanager
async def scene(nodes: int = NODES) -> AsyncIterator[Scene]:
    """A service with two gateways and workers that report."""
    with TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        database = Database(cluster.url)
        try:
            await schema.upgrade(database)
            await make_nodes(database, nodes, 0, datetime.now(UTC), first=0)
            async with serving(cluster.url, workers=2) as service:
                workers = [Node(service, number) for number in range(1, nodes + 1)]
                tasks = [asyncio.create_task(worker.run()) for worker in workers]
                await asyncio.sleep(CALM)
                yield Scene(service, cluster, workers)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await database.close()
            cluster.stop()


async def suffer(of: Scene, fault: Callable[[Scene], Awaitable[None]]) -> Outcome:
    """Let one fault happen under load; wait until the workers have everything acknowledged, and count."""
    began = datetime.now(UTC) - timedelta(milliseconds=1)
    for node in of.nodes:
        node.longest = 0
        node.is_paused = False
    await asyncio.sleep(CALM)
    before = of.service.largest_gateway()
    await fault(of)
    await asyncio.sleep(CALM)
    for node in of.nodes:
        node.is_paused = True
    async with asyncio.timeout(CATCH_UP):
        while any(node.waiting for node in of.nodes):
            await asyncio.sleep(0.2)
    database = Database(of.cluster.url, pool_size=1)
    async with database.driver_transaction() as connection:
        rows = [(row["id"], row["time"]) for row in await connection.fetch(_COUNT, began)]
        offline = await connection.fetchval(_NOT_BACK)
    await database.close()
    sent = {
        (f"{number:024x}", moment) for number, node in enumerate(of.nodes, 1) for moment in node.sent if moment >= began
    }
    acknowledged = {
        (f"{number:024x}", moment)
        for number, node in enumerate(of.nodes, 1)
        for moment in node.acknowledged
        if moment >= began
    }
    stored = set(rows)
    return Outcome(
        sent=len(sent),
        acknowledged=len(acknowledged),
        stored=len(stored & sent),
        lost=len(acknowledged - stored),
        doubled=len(rows) - len(stored),
        offline=offline,
        longest=max(node.longest for node in of.nodes),
        memory=(before, of.service.largest_gateway()),
    )


async def chaos(names: tuple[str, ...]) -> bool:
    """The faults of these names, one after the other; whether all went well."""
    print("| fault | sent | acknowledged | stored | lost | doubled | not back | longest gap | memory before, after |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    is_well = True
    async with scene() as there:
        for name in names:
            found = await suffer(there, FAULTS[name])
            is_well &= found.is_well
            numbers = " | ".join(f"{value:,}" for value in found[:-2])
            memory = ", ".join(f"{each / 2**20:.0f}" for each in found.memory)
            print(f"| {name} | {numbers} | {found.longest:.1f} s | {memory} MiB |", flush=True)
    return is_well


def main() -> None:
    """Run it; `short` leaves out what takes long."""
    sys.exit(0 if asyncio.run(chaos(SHORT if "short" in sys.argv[1:] else tuple(FAULTS))) else 1)


if __name__ == "__main__":
    main()
