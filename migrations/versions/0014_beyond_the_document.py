"""What workers tell beyond the document: details of GPUs in a raw table of their own, and events told once.

Clocks, fan, PCIe, energy, ECC errors and throttling are not rolled up: they are looked at where something is wrong
with a card, and while it is. Nodes that do not tell them have no rows here.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

DETAILS = """
CREATE TABLE gpu_details (
    node_key integer NOT NULL,
    gpu smallint NOT NULL,
    time timestamptz NOT NULL,
    sm_clock smallint,
    memory_clock smallint,
    fan_speed smallint,
    pcie_rx bigint,
    pcie_tx bigint,
    energy bigint,
    ecc_corrected bigint,
    ecc_uncorrected bigint,
    throttle_reasons text,
    CONSTRAINT gpu_details_pkey PRIMARY KEY (node_key, gpu, time)
) {partitioned};
"""
COLUMNSTORE = """
ALTER TABLE gpu_details SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'node_key',
                             timescaledb.orderby = 'gpu, time')
"""
# As of 0004: of the tables that it makes partitions for, the list alone differs.
MAKE_PARTITIONS = """
CREATE OR REPLACE FUNCTION make_partitions(first_day date, last_day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    partition text;
    day date;
    unit text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('aiwm.make_partitions'));
    FOREACH parent IN ARRAY ARRAY[{parents}] LOOP
        unit := CASE WHEN parent LIKE '%\\_rolled' THEN 'month' ELSE 'day' END;
        FOR day IN SELECT generate_series(
            date_trunc(unit, first_day::timestamp), last_day, ('1 ' || unit)::interval)::date
        LOOP
            partition := parent || to_char(day, '"_p"YYYYMMDD');
            CONTINUE WHEN to_regclass('aiwm.' || partition) IS NOT NULL;
            EXECUTE format('CREATE TABLE aiwm.%I (LIKE aiwm.%I INCLUDING ALL)', partition, parent);
            EXECUTE format(
                'ALTER TABLE aiwm.%I ATTACH PARTITION aiwm.%I FOR VALUES FROM (%L) TO (%L)',
                parent, partition, day::timestamp AT TIME ZONE 'UTC',
                (day + ('1 ' || unit)::interval)::timestamp AT TIME ZONE 'UTC'
            );
        END LOOP;
    END LOOP;
END $$;
"""
SAMPLES = ("node_metrics", "gpu_metrics")
PARENTS = (
    *(*SAMPLES, "heartbeats", "gpu_heartbeats"),
    *(f"{table}_{width}_rolled" for width in ("5m", "1h", "1d") for table in SAMPLES),
    "gpu_metrics_1h_by_node_rolled",
)

VIEW = """
CREATE VIEW history.gpu_details WITH (security_barrier) AS
SELECT d.time, n.id AS node_id, n.name AS node_name, n.org_id, g.device_id, g.model AS gpu_model,
       d.sm_clock, d.memory_clock, d.fan_speed / 10::float8 AS fan_speed, d.pcie_rx, d.pcie_tx, d.energy,
       d.ecc_corrected, d.ecc_uncorrected, d.throttle_reasons, d.node_key
FROM gpu_details d JOIN gpus g USING (node_key, gpu) JOIN visible_nodes n USING (node_key);
COMMENT ON VIEW history.gpu_details IS
    'What workers told of each GPU beside its metrics; raw, kept for weeks; without rows of workers that tell none';
"""
COMMENTS = {
    "time": "When it was measured, UTC, by the node's clock",
    "node_id": "The node's _id",
    "node_name": "The node's present name",
    "org_id": "The org that owns the node",
    "device_id": "The GPU's own id (NVML or MIG UUID)",
    "gpu_model": "The GPU's model at that time",
    "sm_clock": "Clock of the multiprocessors, MHz; NULL if not measured",
    "memory_clock": "Clock of the memory, MHz; NULL if not measured",
    "fan_speed": "Fan speed, % of what it is made for, may be over 100; NULL if not measured",
    "pcie_rx": "Received by PCIe, bytes/s; NULL if not measured",
    "pcie_tx": "Sent by PCIe, bytes/s; NULL if not measured",
    "energy": "Energy taken since the driver was loaded, J; NULL if not measured",
    "ecc_corrected": "Memory errors that ECC corrected since the driver was loaded, a count; NULL if not measured",
    "ecc_uncorrected": "Memory errors that ECC could not correct since the driver was loaded, a count; NULL if not measured",
    "throttle_reasons": "Why its clocks are held down, NVML's words with commas between them; empty if they are not, "
    "NULL if not measured",
    "node_key": "A short key of this database's, the same in each view: filters on it find rows by their index",
}
GRANT = """
DO $$
BEGIN
    PERFORM aiwm.grant_to_analysts();
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'This user may not grant to the role aiwm_analyst: `aiwm db analyst` says what to do.';
END $$;
"""

TOLD = """
ALTER TABLE node_events ADD COLUMN told uuid;
CREATE UNIQUE INDEX node_events_told_idx ON node_events (node_key, told) WHERE told IS NOT NULL;
COMMENT ON COLUMN history.node_events.time IS
    'When, UTC, by the server''s clock; of what happened to a GPU by the node''s';
"""
# The program of before knows no such kinds, and would fail to show them.
UNTOLD = """
DELETE FROM node_events WHERE told IS NOT NULL OR kind = 'token_renewed';
DROP INDEX node_events_told_idx;
ALTER TABLE node_events DROP COLUMN told;
COMMENT ON COLUMN history.node_events.time IS 'When, UTC, by the server''s clock';
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    engine, edition = _engine()
    _execute(DETAILS.format(partitioned="PARTITION BY RANGE (time)" if engine == "postgresql" else ""))
    if engine == "timescaledb":
        op.execute(
            "SELECT create_hypertable('gpu_details', by_range('time', interval '1 day'), "
            "create_default_indexes => false)"
        )
    else:
        _execute(_make_partitions(*PARENTS, "gpu_details"))
    if edition == "community":
        _execute(COLUMNSTORE)
    _execute(VIEW)
    for column, comment in COMMENTS.items():
        _execute(f"COMMENT ON COLUMN history.gpu_details.{column} IS {_literal(comment)}")
    _execute(TOLD)
    _execute(GRANT)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    engine, _ = _engine()
    _execute(UNTOLD)
    op.execute("DROP VIEW history.gpu_details")
    if engine == "postgresql":
        _execute(_make_partitions(*PARENTS))
    op.execute("DROP TABLE gpu_details")
    op.execute("DELETE FROM dropped WHERE table_name = 'gpu_details'")


def _engine() -> tuple[str, str | None]:
    engine, edition = op.get_bind().execute(sa.text("SELECT engine, edition FROM installation")).one()
    return engine, edition


def _make_partitions(*parents: str) -> str:
    return MAKE_PARTITIONS.format(parents=", ".join(map(_literal, parents)))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _execute(script: str) -> None:
    """Many statements at once, which asyncpg takes only where they are not prepared."""
    op.get_bind().connection.run_async(lambda driver: driver.execute(script))
