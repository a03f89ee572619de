"""Up to when rows of each table were dropped: settings that keep more bring none of them back.

A rollup that is computed anew where its samples are gone is erased, so that whoever rolls up has to know.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# What policies have dropped until now; without them nothing is known, and the next drop says it.
OF_POLICIES = """
INSERT INTO dropped (table_name, before)
SELECT hypertable_name, now() - (config->>'drop_after')::interval
FROM timescaledb_information.jobs WHERE hypertable_schema = 'aiwm' AND proc_name = 'policy_retention'
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        "CREATE TABLE dropped (table_name text CONSTRAINT dropped_pkey PRIMARY KEY, before timestamptz NOT NULL)"
    )
    if op.get_bind().scalar(sa.text("SELECT edition FROM installation")) == "community":
        op.execute(OF_POLICIES)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TABLE dropped")
