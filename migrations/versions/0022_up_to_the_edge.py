"""Of what is rolled up the views show what lies before `rolled_until`, and no more.

So a pass can store a slice of nodes after the other, each for good, and move the edge when all of them are there. As one
transaction it kept, for as long as it took, every version of every row that others changed meanwhile.

`least(time, edge) <> edge` says that a time is before the edge in a way from which the planner concludes nothing: of an
edge that it does not know it would take most of what is rolled up to be behind it.
"""

import re

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
    for name in _made_by_hand():
        query = _query(name)
        edge = _found(EDGE, query, name)[1]
        _found(ROLLED, query, name)
        bounded = ROLLED.sub(rf"\1 WHERE least(\2.time, {edge}) <> {edge}\n\3", query)
        op.execute(f"CREATE OR REPLACE VIEW {name} AS {bounded}")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name in _made_by_hand():
        query = _query(name)
        edge = _found(EDGE, query, name)[1]
        _found(BOUNDED, query, name)
        # What a pass left that came to no end, and that the view would show from now on.
        op.execute(f"DELETE FROM {name}_rolled WHERE time >= {edge}")
        op.execute(f"CREATE OR REPLACE VIEW {name} AS " + BOUNDED.sub(r"\1", query))


def _made_by_hand() -> tuple[str, ...]:
    """The rollups; none where they are continuous aggregates."""
    edition = op.get_bind().execute(sa.text("SELECT edition FROM installation")).scalar_one()
    return () if edition == "community" else ROLLUPS


def _query(view: str) -> str:
    return str(op.get_bind().execute(sa.text("SELECT pg_get_viewdef(to_regclass(:view))"), {"view": view}).scalar_one())


def _found(pattern: re.Pattern[str], query: str, view: str) -> re.Match[str]:
    found = list(pattern.finditer(query))
    if len(found) != 1:
        raise RuntimeError(f"{view} has {len(found)} of {pattern.pattern!r}")
    return found[0]
