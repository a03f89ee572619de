"""How often a caller may create nodes and make tokens, counted where all gateways see it.

A moment a caller: when its allowance will be whole again. A row whose moment has passed says nothing, and is forgotten.
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("""
        CREATE TABLE allowances (
            org_id text NOT NULL,
            subject text NOT NULL,
            kind text NOT NULL,
            whole_at timestamptz NOT NULL,
            CONSTRAINT allowances_pkey PRIMARY KEY (org_id, subject, kind)
        )
    """)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TABLE allowances")
