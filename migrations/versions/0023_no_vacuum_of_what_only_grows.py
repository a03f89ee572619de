"""Samples are only added: what vacuum would do to a day's partition each time that it has grown by a fifth, nobody needs.

With 100,000 nodes it took up to half a processor for 10 to 15 seconds of each minute, and acknowledgements waited for it. A
partition is dropped long before its row versions grow old. Vacuum of what was deleted goes on, and so does analyzing,
which such a fleet's partitions want every minute, too: with pauses that are long enough for others.
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

MADE = "EXECUTE format('CREATE TABLE aiwm.%I (LIKE aiwm.%I INCLUDING ALL)', partition, parent);"
SPARING = {"autovacuum_vacuum_insert_threshold": -1, "autovacuum_vacuum_cost_delay": 50}
SET = f"SET ({', '.join(f'{name} = {value}' for name, value in SPARING.items())})"
SPARED = f"""{MADE}
            IF unit = 'day' THEN
                EXECUTE format('ALTER TABLE aiwm.%I {SET}', partition);
            END IF;"""
EXISTING = """
    SELECT oid::regclass::text FROM pg_inherits JOIN pg_class ON oid = inhrelid
    WHERE inhparent::regclass::text IN ('node_metrics', 'gpu_metrics', 'heartbeats', 'gpu_heartbeats', 'gpu_details')
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _make_partitions(MADE, SPARED)
    for partition in _partitions():
        op.execute(f"ALTER TABLE {partition} {SET}")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _make_partitions(SPARED, MADE)
    for partition in _partitions():
        op.execute(f"ALTER TABLE {partition} RESET ({', '.join(SPARING)})")


def _make_partitions(before: str, after: str) -> None:
    """The same function with one statement changed; none where the database has chunks instead."""
    definition = op.get_bind().scalar(
        sa.text(
            "SELECT pg_get_functiondef(oid) FROM pg_proc "
            "WHERE pronamespace = 'aiwm'::regnamespace AND proname = 'make_partitions'"
        )
    )
    if definition is None:
        return
    if definition.count(before) != 1:
        raise RuntimeError(f"make_partitions has {definition.count(before)} of {before!r}")
    changed = definition.replace(before, after)
    op.get_bind().connection.run_async(lambda driver: driver.execute(changed))


def _partitions() -> list[str]:
    """Of samples, by day; none where the database has chunks instead."""
    return list(op.get_bind().scalars(sa.text(EXISTING)))
