"""How far each worker's clock is off, and an event where that is more than 30 s."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# The flush lists the column each time: the condition lets it pay only for clocks that went over the limit.
SKEW = """
ALTER TABLE node_state ADD COLUMN clock_skew_ms bigint;

CREATE FUNCTION record_clock_skew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO aiwm.node_events (node_key, time, kind, detail) VALUES (
        NEW.node_key, date_trunc('milliseconds', NEW.updated_at), 'clock_skew',
        jsonb_build_object('clockSkewMs', NEW.clock_skew_ms)
    );
    RETURN NULL;
END $$;
CREATE TRIGGER node_state_clock_skew AFTER UPDATE OF clock_skew_ms ON node_state
    FOR EACH ROW WHEN (abs(NEW.clock_skew_ms) > 30000 AND abs(coalesce(OLD.clock_skew_ms, 0)) <= 30000)
    EXECUTE FUNCTION record_clock_skew();
"""
NODES = """
CREATE OR REPLACE VIEW history.nodes WITH (security_barrier) AS
SELECT n.id AS node_id, n.name AS node_name, n.org_id, n.role, n.is_local, n.vpn_ip, n.metadata,
       s.status, s.status_reason, s.gateway_id IS NOT NULL AS websocket_connected,
       s.last_heartbeat, s.last_seen_at, s.last_metrics_at,
       n.hostname, n.os, n.cpu_cores, n.cpu_model, n.ram_total, n.disk_total, n.ip_address, n.public_ip_address,
       n.daemon_version, n.container_runtime, n.registered_at, n.created_at, n.deleted_at{more}
FROM visible_nodes n JOIN node_state s USING (node_key);
"""
COMMENT = """
COMMENT ON COLUMN history.nodes.clock_skew_ms IS
    'By how much the worker''s clock is behind the server''s, ms; negative: ahead; NULL until known';
"""
# PostgreSQL takes no column out of a view: it is made anew, with what stood about it.
WITHOUT = """
CREATE TEMPORARY TABLE comments ON COMMIT DROP AS
SELECT attname, col_description(attrelid, attnum) AS comment FROM pg_attribute
WHERE attrelid = 'history.nodes'::regclass AND attnum > 0 AND attname <> 'clock_skew_ms';
CREATE TEMPORARY TABLE about ON COMMIT DROP AS SELECT obj_description('history.nodes'::regclass) AS comment;
DROP VIEW history.nodes;
"""
AS_BEFORE = """
DO $$
DECLARE
    column_name name;
    said text;
BEGIN
    FOR column_name, said IN SELECT attname, comment FROM comments LOOP
        EXECUTE format('COMMENT ON COLUMN history.nodes.%I IS %L', column_name, said);
    END LOOP;
    EXECUTE format('COMMENT ON VIEW history.nodes IS %L', (SELECT comment FROM about));
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'aiwm_analyst') THEN
        GRANT SELECT ON history.nodes TO aiwm_analyst;
    END IF;
END $$;
DROP TABLE comments;
DROP TABLE about;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for script in (SKEW, NODES.format(more=", s.clock_skew_ms"), COMMENT):
        _execute(script)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for script in (WITHOUT, NODES.format(more=""), AS_BEFORE):
        _execute(script)
    op.execute("DROP TRIGGER node_state_clock_skew ON node_state")
    op.execute("DROP FUNCTION record_clock_skew()")
    op.execute("ALTER TABLE node_state DROP COLUMN clock_skew_ms")


def _execute(script: str) -> None:
    """Many statements at once, which asyncpg takes only where they are not prepared."""
    op.get_bind().connection.run_async(lambda driver: driver.execute(script))
