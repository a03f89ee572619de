"""Events as an audit: from which address somebody did something, and no way to change what was written down.

The address comes from a setting of the transaction, so that the rows which triggers write have it too; nothing of
the flush of heartbeats, where there is nobody to name, changes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

ADDRESS = """
ALTER TABLE node_events ADD COLUMN address inet;
ALTER TABLE node_events ALTER COLUMN address SET DEFAULT nullif(current_setting('aiwm.address', true), '')::inet;
"""

# The service is the tables' owner, whose privileges REVOKE cannot take for good: a trigger holds for owners as well.
APPEND_ONLY = """
CREATE FUNCTION refuse_to_forget() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'What happened is neither changed nor taken away: % is not for node_events.', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER node_events_stay BEFORE UPDATE OR DELETE ON node_events
    FOR EACH ROW EXECUTE FUNCTION refuse_to_forget();
CREATE TRIGGER node_events_are_kept BEFORE TRUNCATE ON node_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_forget();
"""

VIEW = """
CREATE OR REPLACE VIEW history.node_events WITH (security_barrier) AS
SELECT e.time, n.id AS node_id, n.name AS node_name, n.org_id, e.kind, e.actor, e.detail{more}
FROM node_events e JOIN visible_nodes n USING (node_key)
"""
COMMENT = "The address from which somebody did it; NULL for what the service does, and for what came before it was kept"

GRANT = """
DO $$
BEGIN
    PERFORM aiwm.grant_to_analysts();
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'This user may not grant to the role aiwm_analyst: `aiwm db analyst` says what to do.';
END $$;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _execute(ADDRESS)
    _execute(APPEND_ONLY)
    # A column at its end: the view stays the same one, with its grants and its comments.
    _execute(VIEW.format(more=", e.address"))
    _execute(f"COMMENT ON COLUMN history.node_events.address IS '{COMMENT}'")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    comments = _comments()
    op.execute("DROP VIEW history.node_events")
    _execute(VIEW.format(more=""))
    for comment in comments:
        _execute(comment)
    _execute(GRANT)
    op.execute("DROP TRIGGER node_events_are_kept ON node_events")
    op.execute("DROP TRIGGER node_events_stay ON node_events")
    op.execute("DROP FUNCTION refuse_to_forget()")
    op.execute("ALTER TABLE node_events DROP COLUMN address")


def _comments() -> list[str]:
    """Statements that comment the view again, and the columns that it had before."""
    statement = """
        SELECT format('COMMENT ON COLUMN history.node_events.%I IS %L', attname, description)
        FROM pg_description JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid
        WHERE objoid = 'history.node_events'::regclass AND classoid = 'pg_class'::regclass AND attname <> 'address'
        UNION ALL
        SELECT format('COMMENT ON VIEW history.node_events IS %L',
                      obj_description('history.node_events'::regclass, 'pg_class'))
    """
    return list(op.get_bind().scalars(sa.text(statement)))


def _execute(script: str) -> None:
    """Many statements at once, which asyncpg takes only where they are not prepared."""
    op.get_bind().connection.run_async(lambda driver: driver.execute(script))
