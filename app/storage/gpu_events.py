"""What workers tell of their GPUs, among the events of their nodes: once, however often it is sent."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID, uuid5

import msgspec

from app.clock import timestamp
from app.model import GpuEvent
from app.storage.arrivals import Outcome
from app.storage.database import Database

_IDENTITY: Final = UUID("b4f0b1de-7a52-4c53-9c5f-0d4a3c9f8e11")
_RECORD: Final = """
    INSERT INTO node_events (node_key, time, kind, detail, told)
    SELECT node_key, time, kind, detail::jsonb, told
    FROM unnest($1::integer[], $2::timestamptz[], $3::text[], $4::text[], $5::uuid[])
        AS event (node_key, time, kind, detail, told)
    ON CONFLICT (node_key, told) WHERE told IS NOT NULL DO NOTHING
    RETURNING node_key, told
"""


class Told(msgspec.Struct, frozen=True):
    """An event and the node that it happened to."""

    node_key: int
    event: GpuEvent

    @property
    def identity(self) -> UUID:
        """The same for the same event: its time, its kind, its GPU and what else was told of it."""
        event = self.event
        return uuid5(_IDENTITY, f"{timestamp(event.time)} {event.kind} {event.detail}")


async def record(database: Database, told: Sequence[Told]) -> list[Outcome]:
    """Write down what is new; an outcome for each, in their order. No two may be the same."""
    rows = [(each.node_key, each.event.time, each.event.kind.value, each.event.detail, each.identity) for each in told]
    async with database.driver_transaction() as connection:
        new = {tuple(record) for record in await connection.fetch(_RECORD, *zip(*rows, strict=True))}
    return [
        Outcome.STORED if (node_key, identity) in new else Outcome.DUPLICATE for node_key, _, _, _, identity in rows
    ]
