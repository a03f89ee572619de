"""What happened to a node: events written beside what they tell of, and read back with its status periods.

Status changes and takeovers are not written here but by triggers on `node_state`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import ARRAY, Text, any_, bindparam, cast, func, insert, literal, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import to_milliseconds
from app.model import EventKind, NodeStatus
from app.storage import tables
from app.storage.history import Reader
from app.storage.statements import compiled

_events, _periods = tables.node_events, tables.status_periods


class Happening(msgspec.Struct, frozen=True):
    """An event to be written; `actor` is None for what workers and the service do."""

    kind: EventKind
    actor: str | None
    detail: dict[str, Any]


class Event(msgspec.Struct, frozen=True):
    """An event that was written; `detail` is JSON text."""

    id: int
    time: datetime
    kind: EventKind
    actor: str | None
    address: str | None
    detail: str | None


class Period(msgspec.Struct, frozen=True):
    """A status and how long it lasted; `end` is None while it does."""

    status: NodeStatus
    start: datetime
    end: datetime | None
    reason: str | None


def change(before: Any, after: Any) -> dict[str, Any]:
    """A value that changed, as details show it: what was or is not there is left out."""
    return {name: value for name, value in (("from", before), ("to", after)) if value is not None}


async def acts_from(connection: AsyncConnection, address: str | None) -> None:
    """Say from where this transaction's deeds come: all that it writes down has the address, triggers' rows too."""
    await connection.execute(select(func.set_config("aiwm.address", address or "", True)))


async def record(connection: AsyncConnection, key: int, now: datetime, *happenings: Happening) -> None:
    """Write what happened, in the transaction in which it does."""
    for happening in happenings:
        detail = msgspec.json.encode(happening.detail).decode() if happening.detail else None
        values = {
            "node_key": key,
            "time": to_milliseconds(now),
            "kind": happening.kind.value,
            "actor": happening.actor,
            # As text: a parameter of type jsonb would become a JSON string.
            "detail": cast(literal(detail, Text), JSONB),
        }
        await connection.execute(insert(_events).values(values))


async def end_periods(connection: AsyncConnection, key: int, now: datetime) -> None:
    """The node is deleted: its last status ends, and none follows."""
    end = func.greatest(_periods.c.started_at, now)
    present = (_periods.c.node_key == key) & _periods.c.ended_at.is_(None)
    await connection.execute(update(_periods).where(present).values(ended_at=end))


_earlier = _periods.alias("earlier")
# Periods don't overlap: the last one to start before the range is the only one that may reach into it, and
# of a node that flapped for years no more is read.
_REACHES_IN: Final = (
    select(func.max(_earlier.c.started_at))
    .where(_earlier.c.node_key == bindparam("node_key"), _earlier.c.started_at <= bindparam("start"))
    .scalar_subquery()
)
_PERIODS: Final = compiled(
    select(_periods.c.status, _periods.c.started_at, _periods.c.ended_at, _periods.c.reason)
    .where(
        _periods.c.node_key == bindparam("node_key"),
        _periods.c.started_at >= func.coalesce(_REACHES_IN, bindparam("start")),
        _periods.c.started_at < bindparam("end"),
        or_(_periods.c.ended_at.is_(None), _periods.c.ended_at > bindparam("start")),
        # A status that was left within its millisecond.
        _periods.c.ended_at.is_distinct_from(_periods.c.started_at),
    )
    .order_by(_periods.c.started_at, _periods.c.period_id)
    .limit(bindparam("rows"))
)


async def read_periods(reader: Reader, key: int, start: datetime, end: datetime, rows: int) -> list[Period]:
    """The first `rows` periods that lie in a range, or reach into it."""
    values = {"node_key": key, "start": start, "end": end, "rows": rows}
    found = await reader.fetch(_PERIODS, values)
    return [Period(NodeStatus(row["status"]), row["started_at"], row["ended_at"], row["reason"]) for row in found]


async def read_events(
    reader: Reader,
    key: int,
    start: datetime,
    end: datetime,
    kinds: Sequence[EventKind] | None,
    before: tuple[datetime, int] | None,
    rows: int,
) -> list[Event]:
    """The newest `rows` events of a range; behind one (time and id), where a page goes on."""
    event_id, time = _events.c.event_id, _events.c.time
    statement = select(
        *(event_id, time, _events.c.kind, _events.c.actor),
        func.host(_events.c.address).label("address"),
        cast(_events.c.detail, Text).label("detail"),
    )
    statement = statement.where(_events.c.node_key == key, time >= start, time < end)
    if kinds is not None:
        wanted = literal([kind.value for kind in kinds], ARRAY(Text))
        statement = statement.where(_events.c.kind == any_(wanted))
    if before is not None:
        statement = statement.where(tuple_(time, event_id) < tuple_(*(literal(value) for value in before)))
    found = await reader.fetch(compiled(statement.order_by(time.desc(), event_id.desc()).limit(rows)), {})
    return [
        Event(row["event_id"], row["time"], EventKind(row["kind"]), row["actor"], row["address"], row["detail"])
        for row in found
    ]
