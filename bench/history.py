"""Load the benchmark fleet into a fresh database and print what questions and the disk cost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from httpx import ASGITransport, AsyncClient

from app import garbage
from app.asgi import service
from app.clock import SystemClock
from app.domain.auth import Tokens
from app.model import CallerRole, Owner
from app.settings import Settings
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.engines.choice import installed_engine
from bench.databases import fresh_database
from bench.load import compress, fill_day, make_nodes, multiply, roll_up
from bench.questions import Question, growth, questions, timed

NODES: Final = 200
GPUS: Final = 8
FLEETS: Final = (10, 100, 1_000)
MANY_NODES: Final = 100_000
SECRET: Final = "b" * 32


@asynccontextmanager
async def loaded_fleet(url: str) -> AsyncIterator[tuple[Database, StorageEngine, datetime]]:
    """A database of one's own with the fleet, rolled up and compressed; its engine; when its history ends."""
    now = datetime.now(UTC)
    async with fresh_database(url) as database:
        engine = await installed_engine(database)
        print(f"{engine.name}\n", flush=True)
        keys = await make_nodes(database, NODES, GPUS, now)
        rows = await fill_day(database, engine, keys, GPUS, now)
        await roll_up(database, engine, SystemClock())
        if engine.name == "TimescaleDB":
            sizes = await compress(database)
            raw, small = (sizes[name] / rows for name in ("raw", "compressed"))
            print(f"{rows:,} GPU rows: {raw:.1f} bytes a row in rows, {small:.2f} in columns (target 7)\n")
        else:
            async with database.driver_transaction() as connection:
                raw = await connection.fetchval(
                    "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'gpu_metrics'::regclass"
                )
            print(f"{rows:,} GPU rows: {int(raw) / rows:.1f} bytes a row with their index\n")
        yield database, engine, now


async def bench(url: str) -> None:
    """The whole report."""
    async with loaded_fleet(url) as (database, engine, now):
        settings = Settings(database_url=url, jwt_secret=(SECRET,))
        async with service(settings, database, SystemClock(), on_failure=lambda: None) as app:
            token = Tokens((SECRET,), SystemClock()).issue_portal("bench", CallerRole.ADMIN, Owner(), 3600)
            headers = {"Authorization": f"Bearer {token}"}
            async with AsyncClient(
                transport=ASGITransport(app),  # type: ignore[arg-type]
                base_url="http://bench",
                headers=headers,
            ) as client:
                garbage.spare_collection()  # as a gateway does
                await _report(client, database, engine, now)


async def _report(client: AsyncClient, database: Database, engine: StorageEngine, now: datetime) -> None:
    async def ask(path: str) -> None:
        answer = await client.get(path)
        if answer.status_code != 200:
            raise RuntimeError(f"{path}: {answer.text}")

    async def row(question: Question) -> None:
        took = await timed(ask, question)
        target = "" if question.target is None else f"{question.target:g} ms"
        print(f"| {question.text} | {took:.1f} ms | {target} |", flush=True)

    node = f"{NODES // 2:024x}"
    print("| question | median | target |\n| --- | --- | --- |")
    for question in (*questions(node, is_timescale=engine.name == "TimescaleDB"), *growth(node)):
        await row(question)
    await multiply(database, engine, NODES, FLEETS[-1] // NODES, GPUS, now)
    for nodes in FLEETS:
        async with database.driver_transaction() as connection:
            await connection.execute(
                "UPDATE nodes SET org_id = CASE WHEN node_key <= $1 THEN 'some' ELSE 'others' END", nodes
            )
        path = "/fleet/metrics?from=now-7d&interval=1h&fields=utilization&orgId=some"
        await row(Question(f"hourly average of {nodes:,} nodes, 7 days", path))
    await make_nodes(database, MANY_NODES, 0, now - timedelta(days=1), first=10**6, org="many")
    async with database.driver_transaction() as connection:
        await connection.execute("ANALYZE nodes, node_state", timeout=600)
    await row(Question(f"GET /nodes?limit=100 with {MANY_NODES:,} nodes", "/nodes?limit=100", 10))
