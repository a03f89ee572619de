"""The buffer between sockets and tables: bounded, flushed by rows or by time, acknowledged after commit.

A batch costs what some hundred rows cost, however few it has: they keep a distance. What comes after a pause, or
is left of a backlog, waits for nothing.

Full means that whoever has `put` a frame waits for `room`, so that no other is read from that socket: TCP slows its worker,
nothing is dropped. A batch leaves the buffer only when it is stored; trouble of the database's is waited out.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import date
from typing import Final

import asyncpg
import msgspec

from app import garbage
from app.clock import Clock
from app.errors import AiwmError, SampleRefused, StorageUnavailable
from app.meters import BUFFER_AGE, BUFFER_BYTES, BUFFER_FRAMES, REJECTED, RETRIES, ROWS, STORED, Meters, Values
from app.model import SampleKind
from app.storage import samples
from app.storage.arrivals import Arrival, Outcome
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.packing import Packed, pack

FLUSH_ROWS: Final = 20_000
LARGE_ROWS: Final = 2_000
"""A batch that is worth its round trips."""
QUIET_SECONDS: Final = 0.05
"""Behind a large batch, what is left of a backlog waits so long for more, and not for a whole interval."""
BACKLOG_BYTES: Final = 4 * 2**20
"""What so much took in memory is worth giving back."""
RETRY_SECONDS: Final = (0.1, 5.0)
DRAIN_SECONDS: Final = 20.0

_STORED: Final = {outcome: STORED.key(outcome=outcome) for outcome in Outcome}
_TABLES: Final = {
    SampleKind.HEARTBEAT: (ROWS.key(table="heartbeats"), ROWS.key(table="gpu_heartbeats")),
    SampleKind.METRICS: (ROWS.key(table="node_metrics"), ROWS.key(table="gpu_metrics")),
}
_DETAILS: Final = ROWS.key(table="gpu_details")

Receipt = Callable[[Outcome | AiwmError], None]

_log = logging.getLogger(__name__)

# What the data itself can be guilty of. Everything else is the service's own trouble and waits.
_POISON: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError, TypeError, OverflowError)


class _Waiting(msgspec.Struct, frozen=True, gc=False):
    """A frame in the buffer; `since` is when it was read, by the monotonic clock, `size` its bytes on the wire.

    In memory it takes about as much, not three or four times: its rows are encoded, and nothing else of it is kept.
    """

    packed: Packed
    receipt: Receipt
    size: int
    since: float


class Ingest:
    """Owned by the composition root, which runs `run` as a task and calls `drain` when all sockets are gone."""

    def __init__(
        self,
        database: Database,
        engine: StorageEngine,
        clock: Clock,
        meters: Meters,
        *,
        capacity_bytes: int,
        flush_seconds: float,
    ) -> None:
        self._database = database
        self._meters = meters
        meters.gauges.append(self._gauges)
        self._engine = engine
        self._clock = clock
        self._high = capacity_bytes
        self._low = capacity_bytes // 2
        self._distance = flush_seconds
        self._next_flush = 0.0
        """Not before, by the loop's clock, unless there is a full batch."""
        self._was_large = False
        self._buffer: deque[_Waiting] = deque()
        self._bytes = 0
        self._most_bytes = 0
        """Since the buffer was empty."""
        self._rows = 0
        self._in_flight = 0
        self._in_flight_since: float | None = None
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._arrived = asyncio.Event()
        self._is_full_batch = asyncio.Event()
        self._is_draining = False
        self._days: set[date] = set()
        self._resending: set[int] = set()
        """Nodes that sent again, last time, what was there already."""

    def _gauges(self) -> Values:
        return {
            BUFFER_FRAMES.key(): len(self._buffer) + self._in_flight,
            BUFFER_BYTES.key(): self._bytes,
            BUFFER_AGE.key(): self.oldest_wait(),
        }

    def oldest_wait(self) -> float:
        """Seconds that the oldest frame has been waiting to be stored; 0 where none waits."""
        since = self._in_flight_since
        if since is None and self._buffer:
            since = self._buffer[0].since
        return 0.0 if since is None else self._clock.monotonic() - since

    @property
    def has_room(self) -> bool:
        """Whether `room` would not wait."""
        return self._has_room.is_set()

    async def room(self) -> None:
        """Wait until there is room for the next frame."""
        await self._has_room.wait()

    def put(self, arrival: Arrival, size: int, since: float, receipt: Receipt) -> None:
        """Take a frame in, if there is room or not: one that was read is in memory anyway, and counts.

        `since` is when it was read, by the monotonic clock. `receipt` is called once, after commit or refusal.
        """
        try:
            packed = pack(arrival)
        except ValueError as error:
            self._refuse(receipt, error)
            packed, receipt = pack(msgspec.structs.replace(arrival, sample=None, gpus=())), _tell_nobody
        self._buffer.append(_Waiting(packed, receipt, size, since))
        self._bytes += size
        self._most_bytes = max(self._most_bytes, self._bytes)
        self._rows += packed.rows
        self._arrived.set()
        self._mark()

    async def run(self) -> None:
        """Flush until `drain` has emptied the buffer; cancelling it leaves what is not stored yet unacknowledged."""
        while True:
            if not self._buffer:
                if self._is_draining:
                    return
                if self._most_bytes > BACKLOG_BYTES:
                    garbage.give_back()
                self._most_bytes = 0
                self._arrived.clear()
                await self._arrived.wait()
            else:
                await self._gather()
                await self._flush(self._take())

    async def drain(self, running: "asyncio.Task[None]") -> None:
        """Store what is left, within DRAIN_SECONDS, and end `run`. What stays behind was never acknowledged."""
        self._is_draining = True
        self._arrived.set()
        self._mark()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await asyncio.shield(running)
        except TimeoutError:
            _log.error(
                "The database did not take the last %d frames within %.0f s; none of them was acknowledged, "
                "their workers send them again.",
                len(self._buffer),
                DRAIN_SECONDS,
            )

    async def _gather(self) -> None:
        """Let a batch come together: until it is large, or the last one is far enough behind, or a backlog is at its end."""
        loop = asyncio.get_running_loop()
        patience = QUIET_SECONDS if self._was_large else self._distance
        is_quiet = False
        while not self._is_full_batch.is_set() and not is_quiet and loop.time() < self._next_flush:
            rows = self._rows
            try:
                async with asyncio.timeout_at(min(self._next_flush, loop.time() + patience)):
                    await self._is_full_batch.wait()
            except TimeoutError:
                is_quiet = rows == self._rows
        self._was_large = self._rows >= LARGE_ROWS
        self._next_flush = loop.time() + self._distance

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        rows = 0
        while self._buffer and rows < FLUSH_ROWS:
            waiting = self._buffer.popleft()
            rows += waiting.packed.rows
            batch.append(waiting)
        self._rows -= rows
        self._mark()
        return batch

    def _mark(self) -> None:
        """High mark: nothing more goes in; low mark: it does again. A flush starts early where one is due."""
        if self._bytes >= self._high:
            self._has_room.clear()
        elif self._bytes <= self._low:
            self._has_room.set()
        if self._rows >= FLUSH_ROWS or self._is_draining or not self._has_room.is_set():
            self._is_full_batch.set()
        else:
            self._is_full_batch.clear()

    async def _flush(self, batch: list[_Waiting]) -> None:
        self._in_flight, self._in_flight_since = len(batch), batch[0].since
        try:
            for part in self._parts(batch):
                await self._store(part)
        finally:
            self._in_flight, self._in_flight_since = 0, None
            self._bytes -= sum(waiting.size for waiting in batch)
            self._mark()

    def _parts(self, batch: list[_Waiting]) -> list[list[_Waiting]]:
        """Who resends goes by INSERT, behind the others: one such node would make all of a batch slow, each time."""
        parts: tuple[list[_Waiting], list[_Waiting]] = ([], [])
        for waiting in batch:
            parts[waiting.packed.node_key in self._resending].append(waiting)
        return [part for part in parts if part]

    async def _store(self, batch: Sequence[_Waiting]) -> None:
        """Store a batch, however long it takes; halve it around what the database refuses, or where it takes too long."""
        delay, longest = RETRY_SECONDS
        while True:
            began = self._clock.monotonic()
            try:
                outcomes = await self._write([waiting.packed for waiting in batch])
            except _POISON as error:
                await self._isolate(batch, error)
                return
            except Exception as error:  # noqa: BLE001 – whatever it is, it is not the data's fault: the batch is kept
                self._complain(len(batch) + len(self._buffer), error)
                self._meters.counts[RETRIES.key()] += 1
                await self._clock.sleep(delay)
                delay = min(delay * 2, longest)
                took_too_long = isinstance(error.__cause__, TimeoutError) or isinstance(
                    error, asyncpg.QueryCanceledError
                )
                if took_too_long and len(batch) > 1:
                    # By our time limit, or by one of the server's own: as a whole it may be more than it ever stores.
                    await self._store_by_halves(batch)
                    return
            else:
                self._count(batch, outcomes, began)
                for waiting, outcome in zip(batch, outcomes, strict=True):
                    waiting.receipt(outcome)
                return

    def _complain(self, frames: int, error: Exception) -> None:
        is_away = isinstance(error, StorageUnavailable)
        _log.warning(
            "%d frames wait to be stored: %s.",
            frames,
            repr(error.__cause__ or error) if is_away else "the database did not take them",
            exc_info=None if is_away else error,
        )

    def _count(self, batch: Sequence[_Waiting], outcomes: Sequence[Outcome], began: float) -> None:
        meters, now = self._meters, self._clock.monotonic()
        meters.flush_seconds.observe(now - began)
        rows = 0
        for waiting in batch:
            packed = waiting.packed
            if packed.time is not None:
                meters.ack_seconds.observe(now - waiting.since)
                node_table, gpu_table = _TABLES[packed.kind]
                meters.counts[node_table] += 1
                meters.counts[gpu_table] += packed.gpus
                if packed.details:
                    meters.counts[_DETAILS] += packed.details
                rows += packed.rows
        meters.flush_rows.observe(rows)
        samples = (outcome for outcome, waiting in zip(outcomes, batch, strict=True) if waiting.packed.time is not None)
        for outcome, times in Counter(samples).items():
            meters.counts[_STORED[outcome]] += times

    async def _isolate(self, batch: Sequence[_Waiting], error: Exception) -> None:
        if len(batch) > 1:
            await self._store_by_halves(batch)
            return
        (refused,) = batch
        self._refuse(refused.receipt, error)
        if refused.packed.time is not None:
            # Its worker lives, whatever it measures.
            alive = msgspec.structs.replace(
                refused, packed=refused.packed.without_sample(), receipt=_tell_nobody, size=0
            )
            await self._store([alive])

    async def _store_by_halves(self, batch: Sequence[_Waiting]) -> None:
        middle = len(batch) // 2
        await self._store(batch[:middle])
        await self._store(batch[middle:])

    def _refuse(self, receipt: Receipt, error: Exception) -> None:
        self._meters.counts[REJECTED.key(code=SampleRefused.code)] += 1
        refusal = SampleRefused()
        refusal.__cause__ = error
        receipt(refusal)

    async def _write(self, batch: list[Packed]) -> list[Outcome]:
        try:
            return await self._write_where_there_is_room(batch)
        except asyncpg.CheckViolationError:
            # A day's partition was there and is gone: dropped for its age, or the server that took over never had it.
            self._days -= _days(batch)
            return await self._write_where_there_is_room(batch)

    async def _write_where_there_is_room(self, batch: list[Packed]) -> list[Outcome]:
        await self._make_room(batch)
        if batch[0].node_key not in self._resending:
            try:
                await samples.copy(self._database, self._engine, batch)
            except (asyncpg.UniqueViolationError, asyncpg.FeatureNotSupportedError):
                pass  # some of it is there already, or this database knows no COPY: INSERT tells what is new
            else:
                return [Outcome.STORED] * len(batch)
        outcomes, resending = await samples.insert(self._database, self._engine, batch)
        self._resending = self._resending.difference(packed.node_key for packed in batch) | resending
        return outcomes

    async def _make_room(self, batch: Sequence[Packed]) -> None:
        days = _days(batch)
        if not days <= self._days:
            async with self._database.transaction() as connection:
                await self._engine.make_room(connection, days - self._days)
            self._days |= days


def _days(batch: Sequence[Packed]) -> set[date]:
    return {packed.time.date() for packed in batch if packed.time}


def _tell_nobody(_: Outcome | AiwmError) -> None:
    """What there was to say of this frame has been said."""
