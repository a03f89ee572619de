"""Lists of nodes: filters, orders, pages.

Newest first, of all orgs or of one, and by name are walked along an index and end with the page. What
lies in `node_state` (a status, the last heartbeat) has no index there, which every flush would pay for:
such a list reads the state of every node.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import ARRAY, ColumnElement, Integer, Select, any_, func, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.model import Node, NodeFilter, NodeSort
from app.storage import tables
from app.storage.nodes import COLUMNS, JOINED, to_node, with_gpus

_nodes, _state, _counts = tables.nodes, tables.node_state, tables.node_counts

_ORDERED_BY: Final = {
    "name": _nodes.c.name,
    "createdAt": _nodes.c.created_at,
    "lastHeartbeat": _state.c.last_heartbeat,
}


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Where a page starts: after so many nodes, behind one (value and id), or among those not shown yet."""

    offset: int = 0
    after: tuple[str | datetime, str] | None = None
    shown: Sequence[int] = ()


async def count(connection: AsyncConnection, only: NodeFilter) -> int:
    """How many nodes there are. An org's, and all, are counted already; the state is read only where the filter asks for it."""
    if only == NodeFilter(org_id=only.org_id):
        own = [] if only.org_id is None else [_counts.c.org_id == only.org_id]
        statement = select(func.coalesce(func.sum(_counts.c.nodes), 0)).where(*own)
    else:
        reads_state = only.status is not None or only.changed_since is not None
        statement = select(func.count()).select_from(JOINED if reads_state else _nodes).where(*_conditions(only))
    return int((await connection.execute(statement)).scalar_one())


async def page(connection: AsyncConnection, only: NodeFilter, sort: NodeSort, limit: int, start: Start) -> list[Node]:
    """At most `limit` nodes in this order, from this start; ties by id, the same way round."""
    inner = _ordered(select(*COLUMNS).select_from(JOINED).where(*_conditions(only)), sort)
    if start.after is not None:
        behind = tuple_(_ORDERED_BY[sort.field], _nodes.c.id)
        place = tuple_(*(literal(value) for value in start.after))
        inner = inner.where(behind < place if sort.descending else behind > place)
    if start.shown:
        inner = inner.where(_not_shown(start.shown))
    chosen = inner.limit(limit).offset(start.offset).subquery("page")
    # Joining the GPUs keeps the order in practice; only ORDER BY keeps it by right.
    outer = [chosen.c[_ORDERED_BY[sort.field].name], chosen.c.id]
    statement = with_gpus(chosen).order_by(*(column.desc() if sort.descending else column for column in outer))
    return [to_node(row) for row in (await connection.execute(statement)).all()]


async def first_keys(connection: AsyncConnection, only: NodeFilter, sort: NodeSort, limit: int) -> list[int]:
    """The keys of the first nodes of a list."""
    statement = _ordered(select(_nodes.c.node_key).select_from(JOINED).where(*_conditions(only)), sort).limit(limit)
    return list((await connection.execute(statement)).scalars())


def _ordered(statement: Select[Any], sort: NodeSort) -> Select[Any]:
    columns = [_ORDERED_BY[sort.field], _nodes.c.id]
    return statement.order_by(*(column.desc() if sort.descending else column.asc() for column in columns))


def _not_shown(keys: Sequence[int]) -> ColumnElement[bool]:
    """An anti-join: `<> ALL (array)` would compare every node with every key."""
    shown = func.unnest(literal(list(keys), ARRAY(Integer))).column_valued("shown")
    return ~select(shown).where(shown == _nodes.c.node_key).exists()


def _conditions(only: NodeFilter) -> Iterator[ColumnElement[bool]]:
    yield _nodes.c.deleted_at.is_(None)
    if only.org_id is not None:
        yield _nodes.c.org_id == only.org_id
    if only.status is not None:
        yield _state.c.status == only.status.value
    if only.role is not None:
        yield literal(only.role.value) == any_(_nodes.c.role)
    if only.name is not None:
        yield _nodes.c.name == only.name
    if only.search is not None:
        yield or_(
            _nodes.c.name.icontains(only.search, autoescape=True),
            _nodes.c.hostname.icontains(only.search, autoescape=True),
        )
    for key, value in only.metadata:
        yield _nodes.c.metadata[key].astext == value
    if only.changed_since is not None:
        yield or_(_nodes.c.updated_at >= only.changed_since, _state.c.updated_at >= only.changed_since)
