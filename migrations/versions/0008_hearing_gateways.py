"""Since when each gateway hears its nodes, so that no other takes those for silent that it only did not read."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE gateways ADD COLUMN hearing_since timestamptz")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE gateways DROP COLUMN hearing_since")
