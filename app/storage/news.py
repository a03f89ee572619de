"""News for other gateways: whose node's standing has changed, by NOTIFY to the gateway that holds it, and to no other.

NOTIFY makes commits wait for each other, so nobody is told who need not know. Every login of a database may LISTEN and
NOTIFY: channels are named so that only this service knows them.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.database import Database

_TELL: Final = text("""
    SELECT pg_notify(gateway_channel(holder), node_id)
    FROM unnest(CAST(:node_ids AS text[]), CAST(:holders AS integer[])) AS told (node_id, holder)
""")
_HOLDERS: Final = text("""
    SELECT n.id, s.gateway_id FROM nodes n JOIN node_state s USING (node_key)
    WHERE n.node_key = :node_key AND s.gateway_id <> :gateway_id
""")
_STANDINGS: Final = text("""
    SELECT n.id, s.epoch, n.deleted_at IS NOT NULL AS is_deleted, n.disabled, n.token_generation
    FROM nodes n JOIN node_state s USING (node_key) WHERE n.id = ANY(CAST(:node_ids AS text[]))
""")
_CHANNEL: Final = "SELECT gateway_channel($1)"
_PING_SECONDS: Final = 5.0


class Standing(msgspec.Struct, frozen=True):
    """What decides whether a connection may stay: the owner's epoch, and whether its token still counts."""

    node_id: str
    epoch: int
    is_deleted: bool
    disabled: bool
    token_generation: int


async def tell(connection: AsyncConnection, holders: Sequence[tuple[str, int]]) -> None:
    """Tell gateways of nodes (id, gateway), when this transaction commits."""
    if holders:
        node_ids, gateway_ids = zip(*holders, strict=True)
        await connection.execute(_TELL, {"node_ids": list(node_ids), "holders": list(gateway_ids)})


async def tell_holder(connection: AsyncConnection, node_key: int, gateway_id: int) -> None:
    """Tell the gateway that holds a node, unless it is this one or nobody does."""
    rows = await connection.execute(_HOLDERS, {"node_key": node_key, "gateway_id": gateway_id})
    await tell(connection, [(row.id, row.gateway_id) for row in rows])


async def standings(connection: AsyncConnection, node_ids: Sequence[str]) -> list[Standing]:
    """How nodes stand now."""
    rows = await connection.execute(_STANDINGS, {"node_ids": list(node_ids)})
    return [Standing(*row) for row in rows]


@asynccontextmanager
async def listening(
    database: Database, gateway_id: int, hear: Callable[[str], None]
) -> AsyncIterator[Callable[[], Any]]:
    """Hear of nodes, by their ids, as long as the block lasts; yields what to call to see that the line still stands.

    Raises StorageUnavailable.
    """
    async with database.own_connection() as connection:
        channel = await connection.fetchval(_CHANNEL, gateway_id)
        await connection.add_listener(channel, lambda _1, _2, _3, node_id: hear(str(node_id)))

        async def ping() -> None:
            await connection.execute("SELECT 1", timeout=_PING_SECONDS)

        yield ping
