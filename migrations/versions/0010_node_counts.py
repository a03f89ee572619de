"""How many nodes each org has, counted when one comes or goes instead of whenever somebody asks."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Statements that make nodes are counted as a whole. An update is looked at by row, since one that names neither
# column, as a registration's, then costs nothing.
COUNTS = """
CREATE TABLE node_counts (
    org_id text,
    nodes bigint NOT NULL,
    CONSTRAINT node_counts_org_id_key UNIQUE NULLS NOT DISTINCT (org_id)
);

CREATE FUNCTION count_new_nodes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO aiwm.node_counts AS c
    SELECT org_id, count(*) FROM new_nodes WHERE deleted_at IS NULL GROUP BY org_id ORDER BY org_id
    ON CONFLICT (org_id) DO UPDATE SET nodes = c.nodes + excluded.nodes;
    RETURN NULL;
END $$;
CREATE TRIGGER nodes_count_new AFTER INSERT ON nodes REFERENCING NEW TABLE AS new_nodes
    FOR EACH STATEMENT EXECUTE FUNCTION count_new_nodes();

CREATE FUNCTION count_changed_node() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO aiwm.node_counts AS c
    SELECT org_id, sum(step) FROM (VALUES
        (OLD.org_id, CASE WHEN OLD.deleted_at IS NULL THEN -1 ELSE 0 END),
        (NEW.org_id, CASE WHEN TG_OP = 'UPDATE' AND NEW.deleted_at IS NULL THEN 1 ELSE 0 END)
    ) AS steps (org_id, step) GROUP BY org_id HAVING sum(step) <> 0 ORDER BY org_id
    ON CONFLICT (org_id) DO UPDATE SET nodes = c.nodes + excluded.nodes;
    RETURN NULL;
END $$;
CREATE TRIGGER nodes_count_changed AFTER UPDATE OF org_id, deleted_at ON nodes
    FOR EACH ROW EXECUTE FUNCTION count_changed_node();
CREATE TRIGGER nodes_count_gone AFTER DELETE ON nodes
    FOR EACH ROW EXECUTE FUNCTION count_changed_node();

INSERT INTO node_counts SELECT org_id, count(*) FROM nodes WHERE deleted_at IS NULL GROUP BY org_id;
DROP INDEX nodes_org_id_idx;
"""


def upgrade() -> None:
    # Nobody makes or deletes a node between the count and the triggers that keep it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("LOCK TABLE nodes IN SHARE ROW EXCLUSIVE MODE")
    _execute(COUNTS)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for trigger in ("nodes_count_new", "nodes_count_changed", "nodes_count_gone"):
        op.execute(f"DROP TRIGGER {trigger} ON nodes")
    op.execute("DROP FUNCTION count_new_nodes()")
    op.execute("DROP FUNCTION count_changed_node()")
    op.execute("DROP TABLE node_counts")
    op.execute("CREATE INDEX nodes_org_id_idx ON nodes (org_id) WHERE deleted_at IS NULL")


def _execute(script: str) -> None:
    """Many statements at once, which asyncpg takes only where they are not prepared."""
    op.get_bind().connection.run_async(lambda driver: driver.execute(script))
