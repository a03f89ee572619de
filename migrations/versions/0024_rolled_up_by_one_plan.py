"""Rolling up goes by one plan, made without the ranges at hand: nodes first, then each one's rows by the key.

Of minutes that statistics did not know yet the planner took there to be no rows: then it read those of all nodes and
compared each with each of a slice. A slice of 2,000 nodes of 100,000, half a second's work, took 25 s.
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

FUNCTIONS = """
    SELECT oid::regprocedure::text FROM pg_proc
    WHERE pronamespace = 'aiwm'::regnamespace AND proname LIKE 'roll\\_%'
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _plan("force_generic_plan")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _plan("force_custom_plan")


def _plan(mode: str) -> None:
    """None of these functions is there where rollups are continuous aggregates."""
    for function in op.get_bind().scalars(sa.text(FUNCTIONS)).all():
        op.execute(f"ALTER FUNCTION {function} SET plan_cache_mode = {mode}")
