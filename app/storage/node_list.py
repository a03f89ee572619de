"""Lists of nodes: filters, orders, pages.

Newest first, of all orgs or of one, and by name are walked along an index and end with the page. What
lies in `node_state` (a status, the last heartbeat) has no index there, which every flush would pay for:
such a list reads the state of every node. A statement is made once for each set of filters.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import msgspec
from sqlalchemy import ARRAY, ColumnElement, Integer, Select, Text, any_, bindparam, func, or_, select, tuple_

from app.model import Node, NodeFilter, NodeSort
from app.storage import tables
from app.storage.engines.base import Connection
from app.storage.nodes import COLUMNS, JOINED, to_node, with_gpus
from app.storage.statements import Statement, compiled

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


async def count(connection: Connection, only: NodeFilter) -> int:
    """How many nodes there are. An org's, and all, are counted already; the state is read only where the filter asks for it."""
    values = _values(only)
    statement = _counted(only.org_id is not None) if only == NodeFilter(org_id=only.org_id) else _count(tuple(values))
    return int(await connection.fetchval(statement.sql, *statement.arguments(values)))


async def page(connection: Connection, only: NodeFilter, sort: NodeSort, limit: int, start: Start) -> list[Node]:
    """At most `limit` nodes in this order, from this start; ties by id, the same way round."""
    values = _values(only)
    statement = _page(tuple(values), sort, start.after is not None, len(start.shown) > 0)
    after, after_id = start.after or (None, None)
    place = {"after": after, "after_id": after_id, "shown": start.shown, "offset": start.offset, "rows": limit}
    return [to_node(row) for row in await connection.fetch(statement.sql, *statement.arguments(values | place))]


async def first_keys(connection: Connection, only: NodeFilter, sort: NodeSort, limit: int) -> list[int]:
    """The keys of the first nodes of a list."""
    values = _values(only)
    statement = _first_keys(tuple(values), sort)
    return [row[0] for row in await connection.fetch(statement.sql, *statement.arguments(values | {"rows": limit}))]


@lru_cache(maxsize=2)
def _counted(of_org: bool) -> Statement:  # noqa: FBT001 – of the cache
    own = [_counts.c.org_id == bindparam("org_id")] if of_org else []
    return compiled(select(func.coalesce(func.sum(_counts.c.nodes), 0)).where(*own))


@lru_cache(maxsize=256)
def _count(filters: tuple[str, ...]) -> Statement:
    reads_state = not {"status", "changed_since"}.isdisjoint(filters)
    return compiled(select(func.count()).select_from(JOINED if reads_state else _nodes).where(*_conditions(filters)))


@lru_cache(maxsize=256)
def _page(filters: tuple[str, ...], sort: NodeSort, is_behind: bool, has_shown: bool) -> Statement:  # noqa: FBT001
    inner = _ordered(select(*COLUMNS).select_from(JOINED).where(*_conditions(filters)), sort)
    if is_behind:
        value = _ORDERED_BY[sort.field]
        behind = tuple_(value, _nodes.c.id)
        place = tuple_(bindparam("after", type_=value.type), bindparam("after_id", type_=_nodes.c.id.type))
        inner = inner.where(behind < place if sort.descending else behind > place)
    if has_shown:
        inner = inner.where(_not_shown())
    chosen = inner.limit(bindparam("rows")).offset(bindparam("offset")).subquery("page")
    # Joining the GPUs keeps the order in practice; only ORDER BY keeps it by right.
    outer = [chosen.c[_ORDERED_BY[sort.field].name], chosen.c.id]
    return compiled(with_gpus(chosen).order_by(*(column.desc() if sort.descending else column for column in outer)))


@lru_cache(maxsize=256)
def _first_keys(filters: tuple[str, ...], sort: NodeSort) -> Statement:
    keys = select(_nodes.c.node_key).select_from(JOINED).where(*_conditions(filters))
    return compiled(_ordered(keys, sort).limit(bindparam("rows")))


def _ordered(statement: Select[Any], sort: NodeSort) -> Select[Any]:
    columns = [_ORDERED_BY[sort.field], _nodes.c.id]
    return statement.order_by(*(column.desc() if sort.descending else column.asc() for column in columns))


def _not_shown() -> ColumnElement[bool]:
    """An anti-join: `<> ALL (array)` would compare every node with every key."""
    shown = func.unnest(bindparam("shown", type_=ARRAY(Integer))).column_valued("shown")
    return ~select(shown).where(shown == _nodes.c.node_key).exists()


def _values(only: NodeFilter) -> dict[str, Any]:
    """The parameters of a filter's conditions, by their names."""
    values: dict[str, Any] = {
        "org_id": only.org_id,
        "status": only.status,
        "role": only.role,
        "name": only.name,
        "search": None if only.search is None else _escaped(only.search),
        "changed_since": only.changed_since,
    }
    for place, (key, value) in enumerate(only.metadata):
        values |= {f"metadata_{place}": value, f"key_{place}": key}
    return {name: value for name, value in values.items() if value is not None}


def _conditions(filters: Sequence[str]) -> list[ColumnElement[bool]]:
    of_metadata = (
        _nodes.c.metadata.op("->>")(bindparam(f"key_{place}", type_=Text)) == bindparam(f"metadata_{place}", type_=Text)
        for place in range(sum(name.startswith("key_") for name in filters))
    )
    return [
        _nodes.c.deleted_at.is_(None),
        *(_CONDITIONS[name] for name in filters if name in _CONDITIONS),
        *of_metadata,
    ]


def _escaped(text: str) -> str:
    """Text in which LIKE sees no wildcards."""
    return text.replace("/", "//").replace("%", "/%").replace("_", "/_")


_CONDITIONS: Final[dict[str, ColumnElement[bool]]] = {
    "org_id": _nodes.c.org_id == bindparam("org_id"),
    "status": _state.c.status == bindparam("status"),
    "role": bindparam("role", type_=Text) == any_(_nodes.c.role),
    "name": _nodes.c.name == bindparam("name"),
    "search": or_(
        *(
            column.icontains(bindparam("search", type_=Text), escape="/")
            for column in (_nodes.c.name, _nodes.c.hostname)
        )
    ),
    "changed_since": or_(
        *(
            column >= bindparam("changed_since", type_=column.type)
            for column in (_nodes.c.updated_at, _state.c.updated_at)
        )
    ),
}
