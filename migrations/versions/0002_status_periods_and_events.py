"""What happened to a node: its statuses as periods, and events with their time and actor.

Whatever moves in `node_state` is recorded by the database itself, so that no statement can forget it, and
so that the flush of heartbeats, which lists the status among what it sets, pays only where one moved.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE node_state ADD COLUMN status_changed_by text;

CREATE TABLE status_periods (
    node_key integer NOT NULL CONSTRAINT status_periods_node_key_fkey REFERENCES nodes ON DELETE CASCADE,
    period_id bigint GENERATED ALWAYS AS IDENTITY,
    status text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    reason text,
    actor text,
    CONSTRAINT status_periods_pkey PRIMARY KEY (node_key, started_at, period_id)
);
CREATE UNIQUE INDEX status_periods_present_idx ON status_periods (node_key) WHERE ended_at IS NULL;

CREATE TABLE node_events (
    node_key integer NOT NULL CONSTRAINT node_events_node_key_fkey REFERENCES nodes ON DELETE CASCADE,
    event_id bigint GENERATED ALWAYS AS IDENTITY,
    time timestamptz NOT NULL,
    kind text NOT NULL,
    actor text,
    detail jsonb,
    CONSTRAINT node_events_pkey PRIMARY KEY (node_key, time, event_id)
);
"""

# Times are whole milliseconds, as they are shown. A heartbeat that waited in the buffer may have been heard
# before the sweep said "offline": a period never starts before the one that it follows.
TRIGGERS = """
CREATE FUNCTION record_status() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := date_trunc('milliseconds', NEW.status_changed_at);
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.status = OLD.status THEN
            UPDATE aiwm.status_periods SET reason = NEW.status_reason
            WHERE node_key = NEW.node_key AND ended_at IS NULL;
            RETURN NULL;
        END IF;
        UPDATE aiwm.status_periods SET ended_at = greatest(started_at, moment)
        WHERE node_key = NEW.node_key AND ended_at IS NULL
        RETURNING ended_at INTO moment;
        IF NOT FOUND THEN
            RETURN NULL;  -- it was deleted: its time is over, whatever its worker still does
        END IF;
        INSERT INTO aiwm.node_events (node_key, time, kind, actor, detail) VALUES (
            NEW.node_key, moment, 'status', NEW.status_changed_by,
            jsonb_strip_nulls(jsonb_build_object('from', OLD.status, 'to', NEW.status, 'reason', NEW.status_reason))
        );
    END IF;
    INSERT INTO aiwm.status_periods (node_key, status, started_at, reason, actor)
    VALUES (NEW.node_key, NEW.status, moment, NEW.status_reason, NEW.status_changed_by);
    RETURN NULL;
END $$;

CREATE FUNCTION record_takeover() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO aiwm.node_events (node_key, time, kind, detail) VALUES (
        NEW.node_key, date_trunc('milliseconds', NEW.updated_at), 'taken_over',
        jsonb_build_object('epoch', jsonb_build_object('from', OLD.epoch, 'to', NEW.epoch))
    );
    RETURN NULL;
END $$;

CREATE TRIGGER node_state_begins AFTER INSERT ON node_state
    FOR EACH ROW EXECUTE FUNCTION record_status();
CREATE TRIGGER node_state_status AFTER UPDATE OF status, status_reason ON node_state
    FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.status_reason IS DISTINCT FROM NEW.status_reason)
    EXECUTE FUNCTION record_status();
CREATE TRIGGER node_state_takeover AFTER UPDATE OF epoch ON node_state
    FOR EACH ROW WHEN (NEW.epoch > OLD.epoch AND OLD.gateway_id IS NOT NULL)
    EXECUTE FUNCTION record_takeover();
"""

# Of nodes that are there already only the present period is known; what came before it is not made up.
PRESENT_PERIODS = """
INSERT INTO status_periods (node_key, status, started_at, ended_at, reason)
SELECT node_key, s.status, date_trunc('milliseconds', s.status_changed_at), n.deleted_at, s.status_reason
FROM node_state s JOIN nodes n USING (node_key)
WHERE n.deleted_at IS NULL OR n.deleted_at > s.status_changed_at;
"""

VIEWS = """
CREATE VIEW history.status_periods AS
SELECT n.id AS node_id, n.name AS node_name, n.org_id, p.status, p.started_at, p.ended_at, p.reason
FROM status_periods p JOIN nodes n USING (node_key);
COMMENT ON VIEW history.status_periods IS 'From when to when a node had which status';
COMMENT ON COLUMN history.status_periods.node_id IS 'The node''s _id';
COMMENT ON COLUMN history.status_periods.node_name IS 'The node''s present name';
COMMENT ON COLUMN history.status_periods.org_id IS 'The org that owns the node';
COMMENT ON COLUMN history.status_periods.status IS 'pending, installing, online, offline or maintenance';
COMMENT ON COLUMN history.status_periods.started_at IS 'UTC, inclusive';
COMMENT ON COLUMN history.status_periods.ended_at IS 'UTC, exclusive; NULL while it lasts';
COMMENT ON COLUMN history.status_periods.reason IS 'Why the status was entered, for people';

CREATE VIEW history.node_events AS
SELECT e.time, n.id AS node_id, n.name AS node_name, n.org_id, e.kind, e.actor, e.detail
FROM node_events e JOIN nodes n USING (node_key);
COMMENT ON VIEW history.node_events IS 'What happened to a node, and who did it';
COMMENT ON COLUMN history.node_events.time IS 'When, UTC, by the server''s clock';
COMMENT ON COLUMN history.node_events.node_id IS 'The node''s _id';
COMMENT ON COLUMN history.node_events.node_name IS 'The node''s present name';
COMMENT ON COLUMN history.node_events.org_id IS 'The org that owns the node';
COMMENT ON COLUMN history.node_events.kind IS 'What happened: created, changed, status, registered …';
COMMENT ON COLUMN history.node_events.actor IS 'The user who did it; NULL for the worker and the service';
COMMENT ON COLUMN history.node_events.detail IS 'More of it, as the kind has it';
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for script in (TABLES, TRIGGERS, PRESENT_PERIODS, VIEWS):
        _execute(script)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for view in ("node_events", "status_periods"):
        op.execute(f"DROP VIEW history.{view}")
    for trigger in ("begins", "status", "takeover"):
        op.execute(f"DROP TRIGGER node_state_{trigger} ON node_state")
    op.execute("DROP FUNCTION record_status()")
    op.execute("DROP FUNCTION record_takeover()")
    op.execute("DROP TABLE node_events")
    op.execute("DROP TABLE status_periods")
    op.execute("ALTER TABLE node_state DROP COLUMN status_changed_by")


def _execute(script: str) -> None:
    """Many statements at once, which asyncpg takes only where they are not prepared."""
    op.get_bind().connection.run_async(lambda driver: driver.execute(script))
