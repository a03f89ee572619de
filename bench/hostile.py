"""`python -m bench.hostile`: what 100 bad clients cost 1,000 good ones.

The good ones report at the document's cadence, first by themselves, then beside the bad ones, in the same run; what is
held against each other is how long their acknowledgements take. It ends with 1 where p99 has more than doubled.
"""

import asyncio
import multiprocessing
import os
import sys
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

from app.clock import SystemClock
from app.domain.auth import Tokens
from app.model import CallerRole, Owner
from app.storage.database import Database
from app.storage.engines.choice import installed_engine
from bench.__main__ import server
from bench.databases import fresh_database
from bench.enemies import KINDS, Enemy
from bench.load import make_fleet
from bench.service import SECRET, Service, serving, token
from bench.steady import Client, Report

GOOD: Final = 1000
BAD: Final = 100
SECONDS: Final = float(os.environ.get("AIWM_BENCH_SECONDS", "120"))
SETTLE_SECONDS: Final = 5
MOST: Final = 2.0
_CPU: Final = "aiwm_process_cpu_seconds_total{}"
_MEMORY: Final = "aiwm_process_resident_memory_bytes{}"
_OFFLINE: Final = (
    "SELECT count(*) FROM node_state JOIN nodes USING (node_key) WHERE id <= $1 AND status IS DISTINCT FROM 'online'"
)
_spawn = multiprocessing.get_context("spawn")


class Phase(NamedTuple):
    """What the good clients saw; seconds, bytes, and a share of one core."""

    frames: int
    unacknowledged: int
    lost_connections: int
    offline: int
    p50: float
    p99: float
    cpu: float
    memory: float


class Enemies:
    """The bad clients, in a process of their own until `end`."""

    def __init__(self, port: int) -> None:
        portal = Tokens((SECRET,), SystemClock()).issue_portal("enemy", CallerRole.OPERATOR, Owner(org_id="e"), 86_400)
        tokens = [token(GOOD + 1 + number) for number in range(BAD)]
        self._ours, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_attack, args=(port, portal, tokens, theirs), daemon=True)
        self._process.start()

    async def end(self) -> list[tuple[str, int, int]]:
        """Stop; of each kind how often it acted, and how often the service ended it."""
        self._ours.send(None)
        counts: list[tuple[str, int, int]] = await asyncio.to_thread(self._ours.recv)
        self._process.join()
        return counts


def _attack(port: int, portal: str, tokens: list[str], orders: Connection) -> None:
    # They have machines of their own, where they are; here they have what the others leave.
    os.nice(10)

    async def until_told() -> None:
        enemies = [Enemy(port, GOOD + 1 + number, each, portal) for number, each in enumerate(tokens)]
        names = list(KINDS)
        tasks = [
            asyncio.create_task(enemy.live(KINDS[names[number % len(names)]])) for number, enemy in enumerate(enemies)
        ]
        await asyncio.to_thread(orders.recv)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        orders.send(
            [
                (name, sum(enemy.acts for enemy in alike), sum(enemy.ended for enemy in alike))
                for place, name in enumerate(names)
                for alike in [enemies[place :: len(names)]]
            ]
        )

    asyncio.run(until_told())


async def phase(database: Database, service: Service, good: Client, before: Report | None) -> tuple[Phase, Report]:
    """Let the good ones report for a while; `before` is what they had seen until then."""
    began = await service.metrics()
    seen = await good.tell(SECONDS)
    if seen is None:
        raise RuntimeError("a client that was told to report has not")
    ended = await service.metrics()
    async with database.driver_transaction() as connection:
        offline = await connection.fetchval(_OFFLINE, f"{GOOD:024x}")
    latencies = sorted(seen.latencies[len(before.latencies) if before else 0 :])
    return Phase(
        frames=seen.frames - (before.frames if before else 0),
        unacknowledged=seen.unacknowledged,
        lost_connections=seen.lost_connections,
        offline=offline,
        p50=latencies[len(latencies) // 2],
        p99=latencies[len(latencies) * 99 // 100],
        cpu=(ended[_CPU] - began[_CPU]) / SECONDS,
        memory=ended[_MEMORY],
    ), seen


async def hostile(url: str) -> bool:
    """The report; whether the good ones hardly noticed."""
    async with fresh_database(url, "aiwm_bench_hostile") as database:
        await make_fleet(database, GOOD + BAD, datetime.now(UTC))
        async with serving(database.url) as service:
            good = Client(service.port, 1, GOOD)
            try:
                await good.tell(None)
                await asyncio.sleep(SETTLE_SECONDS)
                quiet, seen = await phase(database, service, good, None)
                enemies = Enemies(service.port)
                await asyncio.sleep(SETTLE_SECONDS)
                attacked, _ = await phase(database, service, good, seen)
                counts = await enemies.end()
            finally:
                good.end()
        print(
            f"{(await installed_engine(database)).name}, {GOOD:,} good clients with 8 GPUs, each phase {SECONDS:g} s\n"
        )
    return tell(quiet, attacked, counts)


def tell(quiet: Phase, attacked: Phase, counts: list[tuple[str, int, int]]) -> bool:
    """Print the tables."""
    print("| | frames | unacknowledged | lost connections | offline | ack p50 | p99 | gateway CPU | gateway memory |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, of in (("quiet", quiet), (f"beside {BAD} bad ones", attacked)):
        print(
            f"| {name} | {of.frames:,} | {of.unacknowledged} | {of.lost_connections} | {of.offline} | {of.p50 * 1000:.0f} ms "
            f"| {of.p99 * 1000:.0f} ms | {of.cpu:.0%} of a core | {of.memory / 2**20:.0f} MiB |"
        )
    ratio = attacked.p99 / quiet.p99
    print(f"\np99 is {ratio:.2f} times the quiet one's; {MOST:g} times is allowed.\n")
    print("| bad clients | acts a second | ended by the service |\n| --- | --- | --- |")
    for name, acts, ended in counts:
        print(f"| {name} | {acts / (SECONDS + SETTLE_SECONDS):,.1f} | {ended:,} |")
    return ratio <= MOST and attacked.unacknowledged == attacked.lost_connections == attacked.offline == 0


def main() -> None:
    """Run it."""
    with server() as url:
        sys.exit(0 if asyncio.run(hostile(url)) else 1)


if __name__ == "__main__":
    main()
