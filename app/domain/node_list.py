"""Lists of nodes: what a caller may see of them, page by page or along a cursor."""

import msgspec

from app.domain import cursor
from app.domain.cursor import Cursor
from app.errors import InvalidRequest
from app.model import Node, NodeFilter, NodeSort
from app.storage import node_list
from app.storage.engines.base import Connection
from app.storage.node_list import Start


class NodeQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which page of which list. A cursor brings its order along and stands above `page`."""

    only: NodeFilter = NodeFilter()
    sort: NodeSort | None = None
    page: int = 1
    limit: int = 10
    cursor: str | None = None


class NodePage(msgspec.Struct, frozen=True, kw_only=True):
    """One page; `next_cursor` is None on the last."""

    data: list[Node]
    total: int
    page: int
    limit: int
    next_cursor: str | None


async def read_page(connection: Connection, query: NodeQuery) -> NodePage:
    """The page that a query asks for. Raises InvalidRequest for a cursor that does not fit."""
    at = _starting_point(query)
    start = _start(at, query)
    # One more than asked for tells whether there is a next page.
    found = await node_list.page(connection, query.only, at.sort, query.limit + 1, start)
    nodes = found[: query.limit]
    following = None
    if len(found) > query.limit:
        following = cursor.encode(await _behind(connection, query, at, start, nodes))
    total = await node_list.count(connection, query.only)
    return NodePage(data=nodes, total=total, page=at.page, limit=query.limit, next_cursor=following)


def _starting_point(query: NodeQuery) -> Cursor:
    if query.cursor is None:
        return Cursor(query.sort or NodeSort.CREATED_DESCENDING, query.page)
    at = cursor.decode(query.cursor)
    if query.sort is not None and query.sort is not at.sort:
        raise InvalidRequest.of("cursor", f"belongs to a list with sort={at.sort.value}; leave sort out or as it was")
    return at


def _start(at: Cursor, query: NodeQuery) -> Start:
    if query.cursor is None:
        return Start(offset=(query.page - 1) * query.limit)
    if at.shown:
        return Start(shown=cursor.unpack(at.shown))
    return Start(after=(at.text if at.moment is None else at.moment, at.id))


async def _behind(connection: Connection, query: NodeQuery, at: Cursor, start: Start, nodes: list[Node]) -> Cursor:
    """The cursor of the page after these nodes."""
    last = nodes[-1]
    match at.sort.field:
        case "name":
            return Cursor(at.sort, at.page + 1, text=last.name, id=last.id)
        case "createdAt":
            return Cursor(at.sort, at.page + 1, moment=last.created_at, id=last.id)
    shown = [*start.shown, *(node.key for node in nodes)]
    if start.offset:
        shown += await node_list.first_keys(connection, query.only, at.sort, start.offset)
    return Cursor(at.sort, at.page + 1, shown=cursor.pack(shown))
