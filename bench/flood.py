"""As fast as it goes: frames that are ready, through WebSockets, against a COPY of the same rows that is ready.

Both write the same rows into the same tables of the same database, in turns; the ratio is what the way through
sockets, JSON, acknowledgements and the present state costs.
"""

import asyncio
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter
from typing import Final, NamedTuple

from sqlalchemy import Table

from app.storage import tables
from app.storage.database import Database
from bench import wire
from bench.service import Service, token

SOCKETS: Final = 100
FRAMES_A_SOCKET: Final = 300
ROUNDS: Final = 5
ROWS_A_FRAME: Final = 1 + wire.GPUS
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Flood(NamedTuple):
    """Medians of the rounds."""

    through_sockets: float
    by_copy: float
    cpu_a_frame: float

    @property
    def ratio(self) -> float:
        """Of the raw limit."""
        return self.through_sockets / self.by_copy


async def flood(database: Database, service: Service, keys: list[int]) -> Flood:
    """Rows a second through sockets and by COPY, and microseconds of the gateway's processor for a frame."""
    done = asyncio.Event()
    left = 0

    def on_ack(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()

    workers = [
        await wire.connect(service.port, token(number + 1), number + 1, on_ack, "127.0.0.1")
        for number in range(SOCKETS)
    ]
    rows = SOCKETS * FRAMES_A_SOCKET * ROWS_A_FRAME
    sockets, copies, cpu = [], [], []
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=12)
    for round_ in range(ROUNDS):
        moments = [start + timedelta(hours=round_, seconds=second) for second in range(FRAMES_A_SOCKET)]
        blobs = [_frames(number + 1, moments) for number in range(SOCKETS)]
        left = SOCKETS
        done.clear()
        before = (await service.metrics())["aiwm_process_cpu_seconds_total{}"]
        began = perf_counter()
        for worker, blob in zip(workers, blobs, strict=True):
            worker.transport.write(blob)
        async with asyncio.timeout(300):
            await done.wait()
        sockets.append(rows / (perf_counter() - began))
        used = (await service.metrics())["aiwm_process_cpu_seconds_total{}"] - before
        cpu.append(used / (SOCKETS * FRAMES_A_SOCKET) * 1e6)
        copies.append(rows / await _copy(database, keys[:SOCKETS], [moment - timedelta(days=3) for moment in moments]))
    for worker in workers:
        worker.transport.abort()
    return Flood(median(sockets), median(copies), median(cpu))


def _frames(number: int, moments: list[datetime]) -> bytes:
    """All frames of a socket; the last one asks for an acknowledgement, which comes when all before it are stored.

    They are of hours ago and sent now, by a worker whose clock is right.
    """
    last, now = len(moments) - 1, datetime.now(UTC)
    return b"".join(
        wire.metrics(number, f"m-{number}-{place}", moment, ack=place == last, sent=now)
        for place, moment in enumerate(moments)
    )


async def _copy(database: Database, keys: list[int], moments: list[datetime]) -> float:
    """Seconds for the same rows as a binary COPY that was made before."""
    node = [
        (key, moment, 452, 128, 550, 1024000, 640000, 384000, 625, 7680000, 1024000, 6656000, 133, 10**9, 5 * 10**8)
        for key in keys
        for moment in moments
    ]
    gpu = [
        (key, number, moment, 850, 80000, 20500, 59500, 720, 6005)
        for key in keys
        for number in range(1, wire.GPUS + 1)
        for moment in moments
    ]
    made = [
        (tables.node_metrics, _binary(tables.node_metrics, node)),
        (tables.gpu_metrics, _binary(tables.gpu_metrics, gpu)),
    ]
    async with database.driver_transaction() as connection:
        began = perf_counter()
        for table, encoded in made:
            await connection.copy_to_table(
                table.name,
                source=memoryview(encoded),  # type: ignore[arg-type] # see samples.copy
                columns=[column.name for column in table.c],
                format="binary",
                timeout=300,
            )
    return perf_counter() - began


_FORMATS: Final = {"INTEGER": "i", "SMALLINT": "h", "BIGINT": "q"}


def _binary(table: Table, rows: Sequence[tuple[int | datetime, ...]]) -> bytes:
    """Rows as PostgreSQL's binary COPY has them."""
    head = b"PGCOPY\n\xff\r\n\0" + bytes(8)
    kinds = [str(column.type) for column in table.c]
    layout = struct.Struct(
        "!h" + "".join(f"i{_FORMATS.get(kind, 'q')}" for kind in kinds)  # a time is microseconds since 2000
    )
    sizes = [struct.calcsize(f"!{_FORMATS.get(kind, 'q')}") for kind in kinds]
    parts = [head]
    for row in rows:
        values: list[int] = [len(kinds)]
        for size, value in zip(sizes, row, strict=True):
            values += (size, (value - _EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value)
        parts.append(layout.pack(*values))
    return b"".join([*parts, b"\xff\xff"])
