"""Locks that no login of an analyst can take, and an audit of these logins.

Everybody who may log in may take advisory locks: an analyst who held the right one stopped the sweep for silent nodes,
maintenance, and with them whatever needs a new partition. A row of a private table is nobody's but the owner's.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

JOBS = """
CREATE TABLE jobs (
    job text CONSTRAINT jobs_pkey PRIMARY KEY,
    pid integer,
    backend_start timestamptz
);
INSERT INTO jobs (job) VALUES ('aiwm.sweep'), ('aiwm.make_partitions');
"""
ADVISORY = "pg_advisory_xact_lock(hashtext('aiwm.make_partitions'))"
ROW = "1 FROM aiwm.jobs WHERE job = 'aiwm.make_partitions' FOR UPDATE"

LOGINS = """
CREATE TABLE login_events (
    event_id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT login_events_pkey PRIMARY KEY,
    time timestamptz NOT NULL DEFAULT date_trunc('milliseconds', now()),
    login text NOT NULL,
    org_id text,
    kind text NOT NULL,
    actor text NOT NULL DEFAULT session_user,
    address inet DEFAULT inet_client_addr()
);
CREATE FUNCTION tell_of_logins() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    -- Whoever had it before learns that it is gone.
    IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND (old.login, old.org_id) IS DISTINCT FROM (new.login, new.org_id) THEN
        INSERT INTO aiwm.login_events (login, org_id, kind) VALUES (old.login, old.org_id, 'login_dropped');
    END IF;
    IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND (old.login, old.org_id) IS DISTINCT FROM (new.login, new.org_id) THEN
        INSERT INTO aiwm.login_events (login, org_id, kind) VALUES (new.login, new.org_id, 'login_made');
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO aiwm.login_events (login, org_id, kind) VALUES (new.login, new.org_id, 'login_changed');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER analysts_are_told AFTER INSERT OR UPDATE OR DELETE ON analysts
    FOR EACH ROW EXECUTE FUNCTION tell_of_logins();
CREATE TRIGGER login_events_stay BEFORE UPDATE OR DELETE ON login_events
    FOR EACH ROW EXECUTE FUNCTION refuse_to_forget();
CREATE TRIGGER login_events_are_kept BEFORE TRUNCATE ON login_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_forget();

CREATE FUNCTION drop_analyst(login text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    DELETE FROM aiwm.analysts a WHERE a.login = drop_analyst.login;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'There is no login % of an analyst.', login USING ERRCODE = 'undefined_object';
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = login) THEN
        EXECUTE format('DROP ROLE %I', login);
    END IF;
END $$;
REVOKE ALL ON FUNCTION drop_analyst(text), tell_of_logins() FROM PUBLIC;

CREATE VIEW history.login_events WITH (security_barrier) AS
SELECT time, login, org_id, kind, actor, address FROM login_events
WHERE (SELECT sees_all FROM reader) OR org_id = (SELECT org_id FROM reader);
"""
COMMENTS = {
    "time": "When, UTC",
    "login": "The login for SQL",
    "org_id": "The org that it is bound to; NULL where it sees all",
    "kind": "login_made, login_changed (a new password) or login_dropped",
    "actor": "The login of the database that did it",
    "address": "The address from which it came to the database; NULL by a Unix socket",
}
REFUSE = """
CREATE OR REPLACE FUNCTION refuse_to_forget() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'What happened is neither changed nor taken away: % is not for {table}.', {arguments}
        USING ERRCODE = 'insufficient_privilege';
END $$;
"""
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
    _execute(JOBS)
    _lock_partitions_by(ADVISORY, ROW)
    _execute(REFUSE.format(table="%", arguments="TG_OP, TG_TABLE_NAME"))
    _execute(LOGINS)
    for column, comment in COMMENTS.items():
        _execute(f"COMMENT ON COLUMN history.login_events.{column} IS '{comment}'")
    _execute("COMMENT ON VIEW history.login_events IS 'Logins for SQL: who made, changed and dropped them'")
    _execute(GRANT)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP VIEW history.login_events")
    op.execute("DROP FUNCTION drop_analyst(text)")
    op.execute("DROP TRIGGER analysts_are_told ON analysts")
    op.execute("DROP FUNCTION tell_of_logins()")
    op.execute("DROP TABLE login_events")
    _execute(REFUSE.format(table="node_events", arguments="TG_OP"))
    _lock_partitions_by(ROW, ADVISORY)
    op.execute("DROP TABLE jobs")


def _lock_partitions_by(before: str, after: str) -> None:
    """TimescaleDB makes its own, and has no such function."""
    find = "SELECT pg_get_functiondef(to_regprocedure('aiwm.make_partitions(date, date)'))"
    function = op.get_bind().scalar(sa.text(find))
    if function is not None:
        if before not in function:
            raise RuntimeError(f"make_partitions is not locked by {before}")
        _execute(function.replace(before, after))


def _execute(script: str) -> None:
    """Many statements at once, which asyncpg takes only where they are not prepared."""
    op.get_bind().connection.run_async(lambda driver: driver.execute(script))
