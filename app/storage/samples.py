"""Samples in: one batch, one transaction, by COPY; where a batch met a duplicate, by INSERT … ON CONFLICT.

With its samples a batch brings each node's present state up to date, so that what is acknowledged
is also what every read shows.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy.dialects import postgresql

from app.model import SampleKind
from app.storage import intake, states
from app.storage.arrivals import Outcome
from app.storage.binary_copy import Codec, Row, framed, time_of
from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from app.storage.packing import CODECS, DETAILS, Packed


class _Target:
    """A raw table with what it takes to write to it."""

    def __init__(self, codec: Codec) -> None:
        table = codec.table
        self.name = table.name
        self.columns = codec.columns
        self._codec = codec
        key = [column.name for column in table.primary_key.columns]
        types = [column.type.compile(postgresql.dialect()) for column in table.columns]  # type: ignore[no-untyped-call]
        arrays = ", ".join(f"${place}::{type_}[]" for place, type_ in enumerate(types, 1))
        self.insert = (
            f"INSERT INTO {self.name} ({', '.join(self.columns)}) SELECT * FROM unnest({arrays}) "
            f"ON CONFLICT DO NOTHING RETURNING {', '.join(key)}"
        )
        self._time = self.columns.index("time")
        self._key = len(key)

    def rows(self, encoded: bytes) -> list[Row]:
        """As INSERT takes them: with times as the driver has them."""
        at = self._time
        return [(*row[:at], time_of(row[at]), *row[at + 1 :]) for row in self._codec.decode(encoded)]

    def keys(self, encoded: bytes) -> list[Row]:
        """The rows' keys, as INSERT returns them."""
        return [row[: self._key] for row in self.rows(encoded)]


_DETAILS: Final = _Target(DETAILS)
_TARGETS: Final = {kind: (_Target(node), _Target(gpu)) for kind, (node, gpu) in CODECS.items()}


async def copy(database: Database, engine: StorageEngine, batch: Sequence[Packed]) -> None:
    """Store a batch of which nothing was stored before.

    Raises asyncpg.UniqueViolationError where a sample of it was; nothing of the batch is stored then.
    """
    async with database.driver_transaction() as connection:
        for target, encoded in _encoded(batch):
            source: Any = framed(encoded)  # the driver's stubs do not know that it takes buffers
            await connection.copy_to_table(target.name, source=source, columns=target.columns, format="binary")
        await engine.note(connection, _metrics(batch))
        await intake.count(connection, batch)
        await states.update(connection, batch)


async def insert(database: Database, engine: StorageEngine, batch: Sequence[Packed]) -> tuple[list[Outcome], set[int]]:
    """Store what is new of a batch; an outcome for each frame, in their order, and the keys of nodes that sent what was there.

    A sample of which some rows are new is stored.
    """
    fresh: dict[str, Counter[Row]] = defaultdict(Counter)
    async with database.driver_transaction() as connection:
        for target, encoded in _encoded(batch):
            rows = [row for each in encoded for row in target.rows(each)]
            stored = await connection.fetch(target.insert, *zip(*rows, strict=True))
            fresh[target.name] = Counter(tuple(record) for record in stored)
        claims = [_claims(packed, fresh) for packed in batch]
        outcomes = [Outcome.STORED if any(made) or not made else Outcome.DUPLICATE for made in claims]
        await engine.note(connection, _metrics(batch))
        await intake.count(connection, batch, duplicates=outcomes.count(Outcome.DUPLICATE))
        await states.update(connection, batch)
    return outcomes, {packed.node_key for packed, made in zip(batch, claims, strict=True) if not all(made)}


def _metrics(batch: Iterable[Packed]) -> Iterator[tuple[int, datetime]]:
    """Whose metrics of when there are."""
    for packed in batch:
        if packed.time is not None and packed.kind is SampleKind.METRICS:
            yield packed.node_key, packed.time


def _encoded(batch: Sequence[Packed]) -> Iterator[tuple[_Target, list[bytes]]]:
    """The rows of each table that gets any, a frame's together."""
    for kind, (node, gpu) in _TARGETS.items():
        of_kind = [packed for packed in batch if packed.kind is kind]
        for target, encoded in (
            (node, [packed.node_row for packed in of_kind if packed.node_row]),
            (gpu, [packed.gpu_rows for packed in of_kind if packed.gpus]),
        ):
            if encoded:
                yield target, encoded
    # Of few workers: what tells no details costs no more than this look at it.
    if details := [packed.detail_rows for packed in batch if packed.details]:
        yield _DETAILS, details


def _claims(packed: Packed, fresh: dict[str, Counter[Row]]) -> list[bool]:
    """Of each row whether it is new; a stored row speaks for the first frame of the batch that carried it."""
    node, gpu = _TARGETS[packed.kind]
    parts = ((node, packed.node_row), (gpu, packed.gpu_rows), (_DETAILS, packed.detail_rows))
    return [_take(fresh[target.name], key) for target, encoded in parts for key in target.keys(encoded)]


def _take(fresh: Counter[Row], key: Row) -> bool:
    if fresh[key] <= 0:
        return False
    fresh[key] -= 1
    return True
