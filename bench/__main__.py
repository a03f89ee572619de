"""`make bench`: what ingest, queries, memory and disk cost, each beside its target.

AIWM_BENCH_DATABASE_URL names a server on which databases may be made and dropped (TimescaleDB, to see its figures);
without it an embedded PostgreSQL is started, and thrown away afterwards. `python -m bench ingest`, `… history`
or `… dashboards` measures one part.
"""

import asyncio
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from app.embedded import embedded_postgres
from bench import dashboards, history, ingest

PARTS = {"ingest": ingest.bench, "history": history.bench, "dashboards": dashboards.bench}


@contextmanager
def server() -> Iterator[str]:
    """A PostgreSQL server."""
    if given := os.environ.get("AIWM_BENCH_DATABASE_URL"):
        yield given
    else:
        with TemporaryDirectory() as folder, embedded_postgres(Path(folder)) as url:
            yield url


def main() -> None:
    """Run it."""
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    with server() as url:
        for name, part in PARTS.items():
            if not sys.argv[1:] or name in sys.argv[1:]:
                print(f"\nAdding up ten million numbers in Python takes {_adding_up():.2f} s.\n", flush=True)
                asyncio.run(part(url))
                print(f"\nNow it takes {_adding_up():.2f} s.", flush=True)


def _adding_up() -> float:
    """Seconds: how fast a machine is just now, where others have a share of its processors."""
    began = perf_counter()
    total = 0
    for number in range(10**7):
        total += number
    return perf_counter() - began


if __name__ == "__main__":
    main()
