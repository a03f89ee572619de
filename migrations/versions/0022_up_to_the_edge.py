"""Of what is rolled up the views show what lies before `rolled_until`, and no more.

So a pass can store a slice of nodes after the other, each for good, and move the edge when all of them are there. As one
transaction it kept, for as long as it took, every version of every row that others changed meanwhile.

`least(time, edge) <> edge` says that a time is before the edge in a way from which the planner concludes nothing: of an
edge that it does not know it would take most of what is rolled up to be behind it.
"""

import re
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

ROLLUPS = (
    *("node_metrics_5m", "gpu_metrics_5m", "gpu_metrics_5m_by_node"),
    *("node_metrics_1h", "gpu_metrics_1h", "gpu_metrics_1h_by_node"),
    *("node_metrics_1d", "gpu_metrics_1d"),
)
# Where samples begin to be read, which each view says already.
EDGE = re.compile(r'"time" >= (\( SELECT time_bucket\(.*?FROM rolling\))', re.DOTALL)
ROLLED = re.compile(r"(FROM (\w+_rolled)\n)(UNION ALL)")
BOUNDED = re.compile(r"(FROM \w+_rolled\n)\s+WHERE .*?(?=UNION ALL)", re.DOTALL)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name, query, edge in _views(ROLLED):
        bounded = ROLLED.sub(rf"\1 WHERE least(\2.time, {edge}) <> {edge}\n\3", query)
        op.execute(f"CREATE OR REPLACE VIEW {name} AS {bounded}")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name, query, edge in _views(BOUNDED):
        # What a pass left that came to no end, and that the view would show from now on.
        op.execute(f"DELETE FROM {name}_rolled WHERE time >= {edge}")
        op.execute(f"CREATE OR REPLACE VIEW {name} AS " + BOUNDED.sub(r"\1", query))


def _views(changed: re.Pattern[str]) -> Iterator[tuple[str, str, str]]:
    """Of each rollup's view its name, its query and its edge; none where they are continuous aggregates."""
    bind = op.get_bind()
    if bind.scalar(sa.text("SELECT edition FROM installation")) == "community":
        return
    for name in ROLLUPS:
        query = str(bind.scalar(sa.text("SELECT pg_get_viewdef(to_regclass(:view))"), {"view": name}))
        edges = EDGE.findall(query)
        if len(edges) != 1 or len(changed.findall(query)) != 1:
            raise RuntimeError(f"{name} is not as {revision} knows it: {query}")
        yield name, query, edges[0]
