"""Nodes, their state, their GPUs, and the four raw sample tables with their views.

What the database offers decides here, once, how the sample tables are partitioned by time, and is
recorded in `installation`: TimescaleDB hypertables, or PostgreSQL's own range partitions.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SAMPLE_TABLES = ("heartbeats", "gpu_heartbeats", "node_metrics", "gpu_metrics")

NODES = """
CREATE TABLE nodes (
    node_key integer GENERATED ALWAYS AS IDENTITY CONSTRAINT nodes_pkey PRIMARY KEY,
    id text NOT NULL CONSTRAINT nodes_id_key UNIQUE,
    name text NOT NULL,
    role text[] NOT NULL,
    is_local boolean NOT NULL,
    vpn_ip text,
    metadata jsonb,
    hostname text,
    os text,
    cpu_cores integer,
    cpu_model text,
    ram_total double precision,
    disk_total double precision,
    ip_address text,
    public_ip_address text,
    daemon_version text,
    container_runtime text,
    registered_at timestamptz,
    disabled boolean NOT NULL DEFAULT false,
    token_generation integer NOT NULL DEFAULT 0,
    token_generated_at timestamptz,
    token_expires_at timestamptz,
    org_id text,
    group_id text,
    agent_id text,
    app_id text,
    created_by text NOT NULL,
    updated_by text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz
);
CREATE INDEX nodes_created_at_id_idx ON nodes (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX nodes_org_id_created_at_id_idx ON nodes (org_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX nodes_org_id_idx ON nodes (org_id) WHERE deleted_at IS NULL;
CREATE INDEX nodes_name_id_idx ON nodes (name, id) WHERE deleted_at IS NULL;

CREATE TABLE gateways (
    gateway_id integer GENERATED ALWAYS AS IDENTITY CONSTRAINT gateways_pkey PRIMARY KEY,
    seat text NOT NULL CONSTRAINT gateways_seat_key UNIQUE,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
);

CREATE TABLE node_state (
    node_key integer CONSTRAINT node_state_pkey PRIMARY KEY
        CONSTRAINT node_state_node_key_fkey REFERENCES nodes ON DELETE CASCADE,
    status text NOT NULL,
    status_reason text,
    status_changed_at timestamptz NOT NULL,
    gateway_id integer,
    epoch integer NOT NULL DEFAULT 0,
    alive_at timestamptz,
    last_heartbeat timestamptz NOT NULL,
    last_seen_at timestamptz,
    last_metrics_at timestamptz,
    token_last_used timestamptz,
    updated_at timestamptz NOT NULL,
    heartbeat_time timestamptz,
    metrics_time timestamptz,
    gpu_time timestamptz,
    cpu_usage smallint,
    ram_usage smallint,
    uptime_seconds bigint,
    ram_free bigint,
    gpu_utilization smallint[],
    gpu_temperature smallint[],
    gpu_memory_free integer[]
) WITH (fillfactor = 50);

CREATE TABLE gpus (
    node_key integer NOT NULL CONSTRAINT gpus_node_key_fkey REFERENCES nodes ON DELETE CASCADE,
    gpu smallint NOT NULL,
    device_id text NOT NULL,
    model text,
    memory_total integer,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    removed_at timestamptz,
    CONSTRAINT gpus_pkey PRIMARY KEY (node_key, gpu),
    CONSTRAINT gpus_node_key_device_id_model_key UNIQUE NULLS NOT DISTINCT (node_key, device_id, model)
);

CREATE TABLE installation (
    engine text CONSTRAINT installation_pkey PRIMARY KEY
);
"""

SAMPLES = """
CREATE TABLE heartbeats (
    node_key integer NOT NULL,
    time timestamptz NOT NULL,
    status text,
    cpu_usage smallint,
    ram_usage smallint,
    active_deployments integer,
    uptime_seconds bigint,
    CONSTRAINT heartbeats_pkey PRIMARY KEY (node_key, time)
) {partitioned};
CREATE TABLE gpu_heartbeats (
    node_key integer NOT NULL,
    gpu smallint NOT NULL,
    time timestamptz NOT NULL,
    utilization smallint,
    temperature smallint,
    CONSTRAINT gpu_heartbeats_pkey PRIMARY KEY (node_key, gpu, time)
) {partitioned};
CREATE TABLE node_metrics (
    node_key integer NOT NULL,
    time timestamptz NOT NULL,
    cpu_usage smallint,
    cpu_cores integer,
    cpu_temperature smallint,
    memory_total bigint,
    memory_used bigint,
    memory_free bigint,
    memory_usage smallint,
    disk_total bigint,
    disk_used bigint,
    disk_free bigint,
    disk_usage smallint,
    network_bytes_in bigint,
    network_bytes_out bigint,
    CONSTRAINT node_metrics_pkey PRIMARY KEY (node_key, time)
) {partitioned};
CREATE TABLE gpu_metrics (
    node_key integer NOT NULL,
    gpu smallint NOT NULL,
    time timestamptz NOT NULL,
    utilization smallint,
    memory_total integer,
    memory_used integer,
    memory_free integer,
    temperature smallint,
    power_usage integer,
    CONSTRAINT gpu_metrics_pkey PRIMARY KEY (node_key, gpu, time)
) {partitioned};
"""

# Attaching a table that was made beside its parent locks out neither readers nor writers, as
# CREATE TABLE … PARTITION OF would.
POSTGRES = """
CREATE FUNCTION make_partitions(first_day date, last_day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    partition text;
    day date;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('aiwm.make_partitions'));
    FOREACH parent IN ARRAY ARRAY['heartbeats', 'gpu_heartbeats', 'node_metrics', 'gpu_metrics'] LOOP
        FOR day IN SELECT generate_series(first_day, last_day, interval '1 day')::date LOOP
            partition := parent || to_char(day, '"_p"YYYYMMDD');
            CONTINUE WHEN to_regclass('aiwm.' || partition) IS NOT NULL;
            EXECUTE format('CREATE TABLE aiwm.%I (LIKE aiwm.%I INCLUDING ALL)', partition, parent);
            EXECUTE format(
                'ALTER TABLE aiwm.%I ATTACH PARTITION aiwm.%I FOR VALUES FROM (%L) TO (%L)',
                parent, partition, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC'
            );
        END LOOP;
    END LOOP;
END $$;

CREATE FUNCTION time_bucket(width interval, moment timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN date_bin(width, moment, timestamptz '2000-01-03 00:00:00+00');
"""

# Steps become units here and nowhere else in SQL: a tenth of % and °C and W, a thousandth of GB.
VIEWS = """
CREATE SCHEMA history;

CREATE VIEW history.nodes AS
SELECT n.id AS node_id, n.name AS node_name, n.org_id, n.role, n.is_local, n.vpn_ip, n.metadata,
       s.status, s.status_reason, s.gateway_id IS NOT NULL AS websocket_connected,
       s.last_heartbeat, s.last_seen_at, s.last_metrics_at,
       n.hostname, n.os, n.cpu_cores, n.cpu_model, n.ram_total, n.disk_total, n.ip_address, n.public_ip_address,
       n.daemon_version, n.container_runtime, n.registered_at, n.created_at, n.deleted_at
FROM nodes n JOIN node_state s USING (node_key);

CREATE VIEW history.gpus AS
SELECT n.id AS node_id, n.name AS node_name, n.org_id, g.device_id, g.model AS gpu_model,
       g.memory_total / 1000::float8 AS memory_total, g.first_seen, g.last_seen, g.removed_at
FROM gpus g JOIN nodes n USING (node_key);

CREATE VIEW history.heartbeats AS
SELECT h.time, n.id AS node_id, n.name AS node_name, n.org_id,
       h.status, h.cpu_usage / 10::float8 AS cpu_usage, h.ram_usage / 10::float8 AS ram_usage,
       h.active_deployments, h.uptime_seconds
FROM heartbeats h JOIN nodes n USING (node_key);

CREATE VIEW history.gpu_heartbeats AS
SELECT h.time, n.id AS node_id, n.name AS node_name, n.org_id, g.device_id, g.model AS gpu_model,
       h.utilization / 10::float8 AS utilization, h.temperature / 10::float8 AS temperature
FROM gpu_heartbeats h JOIN gpus g USING (node_key, gpu) JOIN nodes n USING (node_key);

CREATE VIEW history.node_metrics AS
SELECT m.time, n.id AS node_id, n.name AS node_name, n.org_id,
       m.cpu_usage / 10::float8 AS cpu_usage, m.cpu_cores, m.cpu_temperature / 10::float8 AS cpu_temperature,
       m.memory_total / 1000::float8 AS memory_total, m.memory_used / 1000::float8 AS memory_used,
       m.memory_free / 1000::float8 AS memory_free, m.memory_usage / 10::float8 AS memory_usage,
       m.disk_total / 1000::float8 AS disk_total, m.disk_used / 1000::float8 AS disk_used,
       m.disk_free / 1000::float8 AS disk_free, m.disk_usage / 10::float8 AS disk_usage,
       m.network_bytes_in, m.network_bytes_out
FROM node_metrics m JOIN nodes n USING (node_key);

CREATE VIEW history.gpu_metrics AS
SELECT m.time, n.id AS node_id, n.name AS node_name, n.org_id, g.device_id, g.model AS gpu_model,
       m.utilization / 10::float8 AS utilization, m.memory_total / 1000::float8 AS memory_total,
       m.memory_used / 1000::float8 AS memory_used, m.memory_free / 1000::float8 AS memory_free,
       m.temperature / 10::float8 AS temperature, m.power_usage / 10::float8 AS power_usage
FROM gpu_metrics m JOIN gpus g USING (node_key, gpu) JOIN nodes n USING (node_key);
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    engine = _offered_engine()
    _execute(NODES)
    _execute(SAMPLES.format(partitioned="PARTITION BY RANGE (time)" if engine == "postgresql" else ""))
    if engine == "timescaledb":
        op.execute("CREATE EXTENSION IF NOT EXISTS timescaledb SCHEMA public")
        for table in SAMPLE_TABLES:
            op.execute(
                f"SELECT create_hypertable('{table}', by_range('time', interval '1 day'), "
                "create_default_indexes => false)"
            )
    else:
        _execute(POSTGRES)
    _execute(VIEWS)
    op.execute(sa.text("INSERT INTO installation (engine) VALUES (:engine)").bindparams(engine=engine))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    engine = op.get_bind().scalar(sa.text("SELECT engine FROM installation"))
    op.execute("DROP SCHEMA history CASCADE")
    for table in ("installation", *SAMPLE_TABLES, "gpus", "node_state", "gateways", "nodes"):
        op.execute(f"DROP TABLE {table}")
    if engine == "postgresql":
        op.execute("DROP FUNCTION time_bucket(interval, timestamptz)")
        op.execute("DROP FUNCTION make_partitions(date, date)")


def _offered_engine() -> str:
    """TimescaleDB where the server has it loaded; installed on disk alone is not enough."""
    offered = op.get_bind().scalar(
        sa.text(
            "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') OR ("
            " EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')"
            " AND current_setting('shared_preload_libraries') LIKE '%timescaledb%')"
        )
    )
    return "timescaledb" if offered else "postgresql"


def _execute(script: str) -> None:
    """Many statements at once, which asyncpg takes only where they are not prepared."""
    op.get_bind().connection.run_async(lambda driver: driver.execute(script))
