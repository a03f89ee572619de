"""Up to where rollups may be read by themselves, told under one name by every storage engine.

The views of rollups bring along the samples that were not rolled up yet: as much to plan as there are partitions, for
each rollup that a question reads, though most of them end long before. A continuous aggregate leaves them out itself.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    edition = op.get_bind().scalar(sa.text("SELECT edition FROM installation"))
    told = (
        "NULL::timestamptz AS until"
        if edition == "community"
        else "nullif(rolled_until, '-infinity') AS until FROM rolling"
    )
    op.execute(f"CREATE VIEW rolled AS SELECT {told}")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP VIEW rolled")
