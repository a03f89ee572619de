"""Whole fleets by time: a line for each range of pages, by which a question finds the pages of its minutes.

Keys begin with the node, so that a question about all of them would read whole partitions for the last minutes.
Rows come in the order of time, so that the first and the last time of a megabyte tells enough: such an index is some
pages, where a tree by time would be as large as that by node.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SAMPLES = ("node_metrics", "gpu_metrics")
ROLLUPS = (*(f"{table}_{width}" for table in SAMPLES for width in ("5m", "1h", "1d")), "gpu_metrics_1h_by_node")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in _tables():
        op.execute(f"CREATE INDEX {table}_time_idx ON {table} USING brin (time) WITH (autosummarize = on)")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in _tables():
        # Of an aggregate it stands in the schema of TimescaleDB's own tables.
        schema = op.get_bind().scalar(
            sa.text("SELECT relnamespace::regnamespace FROM pg_class WHERE relkind IN ('i', 'I') AND relname = :index"),
            {"index": f"{table}_time_idx"},
        )
        op.execute(f"DROP INDEX {schema}.{table}_time_idx")


def _tables() -> list[str]:
    """The samples, and what they are rolled up in: aggregates, or the tables of the maintenance loop."""
    edition = op.get_bind().scalar(sa.text("SELECT edition FROM installation"))
    suffix = "" if edition == "community" else "_rolled"
    return [*SAMPLES, *(f"{rollup}{suffix}" for rollup in ROLLUPS)]
