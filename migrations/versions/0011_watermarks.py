"""Up to where each rollup may be read by itself, and on TimescaleDB a continuous aggregate without its newest rows.

What was not rolled up yet is read from the next finer rollup. A continuous aggregate computes it from samples, and
one of an aggregate that of samples twice over, which takes longer to plan and to run than all the rest of an answer.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ROLLUPS = {
    "node_metrics_5m": "5 minutes",
    "gpu_metrics_5m": "5 minutes",
    "node_metrics_1h": "1 hour",
    "gpu_metrics_1h": "1 hour",
    "gpu_metrics_1h_by_node": "1 hour",
    "node_metrics_1d": "1 day",
    "gpu_metrics_1d": "1 day",
}
# A function's text is no dependency, which an update of the extension would stumble over. The watermark of an aggregate
# without rows is older than any calendar.
WATERMARKS = """
    CREATE FUNCTION watermarks_of_aggregates() RETURNS TABLE (rollup text, until timestamptz) LANGUAGE sql STABLE AS $$
        SELECT user_view_name::text, until
        FROM _timescaledb_catalog.continuous_agg
        CROSS JOIN LATERAL _timescaledb_functions.to_timestamp(
            _timescaledb_functions.cagg_watermark(mat_hypertable_id)) AS until
        WHERE user_view_schema = 'aiwm' AND until > '1970-01-01'
    $$
"""
MATERIALIZED = """
    SELECT view_name, format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
    FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'aiwm'
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    if _edition() == "community":
        op.execute(WATERMARKS)
        op.execute("CREATE VIEW watermarks AS SELECT rollup, until FROM watermarks_of_aggregates()")
        for rollup, table in op.get_bind().execute(sa.text(MATERIALIZED)).all():
            op.execute(f"CREATE VIEW {rollup}_rolled AS SELECT * FROM {table}")
        return
    widths = ", ".join(f"('{rollup}', interval '{width}')" for rollup, width in ROLLUPS.items())
    op.execute(f"""
        CREATE VIEW watermarks AS
        SELECT rollup, time_bucket(width, rolled_until) AS until
        FROM (VALUES {widths}) AS rollups (rollup, width) CROSS JOIN rolling WHERE rolled_until > '-infinity'
    """)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP VIEW watermarks")
    if _edition() == "community":
        for rollup in ROLLUPS:
            op.execute(f"DROP VIEW {rollup}_rolled")
        op.execute("DROP FUNCTION watermarks_of_aggregates()")


def _edition() -> str | None:
    edition: str | None = op.get_bind().scalar(sa.text("SELECT edition FROM installation"))
    return edition
