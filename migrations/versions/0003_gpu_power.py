"""The present power of each GPU, beside its utilization, temperature and free memory.

What the fleet draws now is then read from `node_state` alone, never searched for in the samples.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A column without a default is a line in the catalogue: only the lock is waited for.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE node_state ADD COLUMN gpu_power_usage integer[]")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE node_state DROP COLUMN gpu_power_usage")
