"""What the list of nodes says it has in all: counted when nodes come and go."""

from sqlalchemy import text

from app.model import NodeFilter
from app.storage import node_list
from app.storage.database import Database

CHANGES = (
    # Several at once, of two orgs and of none.
    """INSERT INTO nodes (id, name, role, is_local, org_id, created_by, created_at, updated_at)
       SELECT 'n' || n, 'node', '{worker}', false, (ARRAY['a', 'b', NULL])[n % 3 + 1], 'test', now(), now()
       FROM generate_series(1, 20) n""",
    "UPDATE nodes SET deleted_at = now() WHERE id IN ('n1', 'n2', 'n3')",
    "UPDATE nodes SET deleted_at = now() WHERE id IN ('n1', 'n4')",
    "UPDATE nodes SET org_id = 'b' WHERE org_id = 'a'",
    "UPDATE nodes SET deleted_at = NULL WHERE id = 'n3'",
    "UPDATE nodes SET name = 'renamed'",
    "DELETE FROM nodes WHERE id IN ('n2', 'n5', 'n6')",
    "DELETE FROM nodes",
)


async def test_the_total_is_what_counting_gives_whatever_became_of_nodes(database: Database) -> None:
    """Made, deleted, restored, moved to another org or erased: the total of all and of each org is the number of rows."""
    for change in CHANGES:
        async with database.transaction() as connection:
            await connection.execute(text(change))
        async with database.driver_transaction() as connection:
            for org in (None, "a", "b", "nobody"):
                counting = "SELECT count(*) FROM nodes WHERE deleted_at IS NULL AND org_id IS NOT DISTINCT FROM coalesce($1, org_id)"
                counted = await connection.fetchval(counting, org)
                assert await node_list.count(connection, NodeFilter(org_id=org)) == counted, (change, org)
