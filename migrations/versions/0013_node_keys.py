"""A node's short key in the views of what was measured, so that its rows are found by their index.

A rollup's newest rows are aggregated as they are asked for, and a join with the nodes does not reach below an aggregate:
on TimescaleDB a day of one node's GPUs read every node's buckets. A filter on a column of the rollup itself does.
"""

import re

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

MEASURED = [f"{table}{width}" for table in ("node_metrics", "gpu_metrics") for width in ("", "_5m", "_1h", "_1d")]
# The views, and what they call the table whose key it is.
VIEWS = dict.fromkeys([*MEASURED, "gpu_metrics_1h_by_node"], "m") | {"nodes": "n"}
COMMENT = "A short key of this database''s, the same in each view: filters on it find rows by their index"

GRANT = """
DO $$
BEGIN
    PERFORM aiwm.grant_to_analysts();
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'This user may not grant to the role aiwm_analyst: `aiwm db analyst` says what to do.';
END $$;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for view, table in VIEWS.items():
        query = re.sub(r"\n   FROM ", rf",\n    {table}.node_key\n   FROM ", _query(view), count=1)
        op.execute(sa.text(f"CREATE OR REPLACE VIEW history.{view} WITH (security_barrier) AS {_plain(query)}"))
        op.execute(f"COMMENT ON COLUMN history.{view}.node_key IS '{COMMENT}'")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for view, table in VIEWS.items():
        query = re.sub(rf",\n    {table}\.node_key\n", r"\n", _query(view), count=1)
        comments = _comments(view)
        op.execute(f"DROP VIEW history.{view}")
        op.execute(sa.text(f"CREATE VIEW history.{view} WITH (security_barrier) AS {_plain(query)}"))
        for comment in comments:
            op.execute(sa.text(_plain(comment)))
    op.execute(GRANT)


def _query(view: str) -> str:
    """What the database makes of a view: an expression a line."""
    statement = sa.text("SELECT pg_get_viewdef(to_regclass(:view))")
    return str(op.get_bind().execute(statement, {"view": f"history.{view}"}).scalar_one())


def _comments(view: str) -> list[str]:
    """Statements that comment a view again, and the columns that it had before."""
    statement = """
        SELECT format('COMMENT ON COLUMN history.%I.%I IS %L', relname, attname, description)
        FROM pg_description JOIN pg_class ON pg_class.oid = objoid AND classoid = 'pg_class'::regclass
        JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid
        WHERE objoid = to_regclass(:view) AND attname <> 'node_key'
        UNION ALL
        SELECT format('COMMENT ON VIEW %s IS %L', CAST(:view AS text), obj_description(to_regclass(:view), 'pg_class'))
    """
    return list(op.get_bind().scalars(sa.text(statement), {"view": f"history.{view}"}))


def _plain(statement: str) -> str:
    """Colons as they stand: what follows one is no parameter."""
    return statement.replace(":", r"\:")
