"""What comes in: the flood, the cost of a frame, the memory of a node, a steady fleet."""

import os
from datetime import UTC, datetime, timedelta
from typing import Final

from app.storage.engines.choice import installed_engine
from bench.databases import fresh_database
from bench.flood import ROUNDS, SOCKETS, flood
from bench.load import make_fleet, make_nodes
from bench.service import serving
from bench.steady import Steady, steady

STEADY_NODES: Final = tuple(int(count) for count in os.environ.get("AIWM_BENCH_NODES", "1000,10000").split(","))
GATEWAYS: Final = 3
"""For the flood: one more than cores, so that one has work while another waits for the database."""

STEADY_SECONDS: Final = float(os.environ.get("AIWM_BENCH_SECONDS", "60"))
NODES_A_GATEWAY: Final = 18_000


async def bench(url: str) -> None:
    """The report."""
    async with fresh_database(url) as database:
        engine = await installed_engine(database)
        now = datetime.now(UTC)
        keys = await make_nodes(database, SOCKETS, 0, now, first=0)
        async with database.transaction() as connection:
            await engine.make_room(connection, [(now - timedelta(days=day)).date() for day in range(5)])
        print(f"{engine.name}\n\n| ingest | measured | target |\n| --- | --- | --- |", flush=True)
        async with serving(database.url, workers=GATEWAYS) as service:
            found = await flood(database, service, keys)
        print(
            f"| flood through {SOCKETS} sockets to {GATEWAYS} gateways, median of {ROUNDS} | {found.through_sockets:,.0f} rows/s | |"
        )
        print(f"| the same rows by a binary COPY made before | {found.by_copy:,.0f} rows/s | |")
        print(f"| ratio | {found.ratio:.2f} | 0.3 |")
        print(f"| gateway CPU a telemetry frame, 8 GPUs | {found.cpu_a_frame:.0f} µs | 90 µs |", flush=True)
    print(
        "\n| nodes × 8 GPUs | back in | frames | unacknowledged | offline | ack p50 | p99 | CPU a node | without the idle gateways' | memory a node |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for nodes in STEADY_NODES:
        async with fresh_database(url) as database:
            await make_fleet(database, nodes, datetime.now(UTC))
            async with serving(database.url, workers=-(-nodes // NODES_A_GATEWAY)) as service:
                print(_row(await steady(database, service, nodes, STEADY_SECONDS)), flush=True)
    print("\nTargets: all acknowledged, none offline, p99 2 s, 28 KiB a node.\n")


def _row(of: Steady) -> str:
    return (
        f"| {of.nodes:,} | {of.connected_in:.1f} s | {of.frames:,} | {of.unacknowledged} | {of.offline} | "
        f"{of.p50 * 1000:.0f} ms | {of.p99 * 1000:.0f} ms | {of.cpu_a_node:.1f} µs/s | {of.own_cpu_a_node:.1f} µs/s | "
        f"{of.memory_a_node / 1024:.1f} KiB |"
    )
