"""What operators look at: the present of nodes and GPUs in SQL, and what the database knows of itself.

Views of the platform are for logins that see every organisation; to others they are empty.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Columns can be added to a view at its end, and taken away only with it: the view of before is its beginning.
NODES = """
    SELECT n.id AS node_id, n.name AS node_name, n.org_id, n.role, n.is_local, n.vpn_ip, n.metadata,
           s.status, s.status_reason, s.gateway_id IS NOT NULL AS websocket_connected,
           s.last_heartbeat, s.last_seen_at, s.last_metrics_at,
           n.hostname, n.os, n.cpu_cores, n.cpu_model, n.ram_total, n.disk_total, n.ip_address, n.public_ip_address,
           n.daemon_version, n.container_runtime, n.registered_at, n.created_at, n.deleted_at, s.clock_skew_ms {more}
    FROM visible_nodes n JOIN node_state s USING (node_key)
"""
NODES_NOW = """,
           s.cpu_usage / 10::float8 AS cpu_usage, s.ram_usage / 10::float8 AS ram_usage,
           s.ram_free / 1000::float8 AS ram_free, s.uptime_seconds, s.metrics_time AS last_sample_at
"""
GPUS = """
    SELECT n.id AS node_id, n.name AS node_name, n.org_id, g.device_id, g.model AS gpu_model,
           g.memory_total / 1000::float8 AS memory_total, g.first_seen, g.last_seen, g.removed_at {more}
    FROM gpus g JOIN visible_nodes n USING (node_key) {joined}
"""
GPUS_NOW = """,
           s.gpu_utilization[g.gpu] / 10::float8 AS utilization, s.gpu_temperature[g.gpu] / 10::float8 AS temperature,
           s.gpu_memory_free[g.gpu] / 1000::float8 AS memory_free, s.gpu_power_usage[g.gpu] / 10::float8 AS power_usage
"""
COMMENTS = {
    "nodes": {
        "cpu_usage": "CPU in use, %: its last heartbeat",
        "ram_usage": "Memory in use, %: its last heartbeat",
        "ram_free": "Memory free, GB (2^30 bytes): its last metrics",
        "uptime_seconds": "Since the machine started, s: its last heartbeat",
        "last_sample_at": "The time of its newest metrics, UTC, by its own clock",
    },
    "gpus": {
        "utilization": "GPU in use, %: what was last heard",
        "temperature": "GPU temperature, °C: what was last heard",
        "memory_free": "GPU memory free, GB (2^30 bytes): what was last heard",
        "power_usage": "Power drawn, W: what was last heard",
    },
}

# A field's name, what it is, its unit and the steps in one.
GPU_FIELDS = {
    "utilization": ("GPUs in use", "%", 10),
    "memory_total": ("GPU memory in all", "GB (2^30 bytes)", 1000),
    "memory_used": ("GPU memory in use", "GB (2^30 bytes)", 1000),
    "memory_free": ("GPU memory free", "GB (2^30 bytes)", 1000),
    "temperature": ("GPU temperature", "°C", 10),
    "power_usage": ("Power drawn", "W", 10),
}

INGEST = """
CREATE TABLE ingest_minutes (
    minute timestamptz NOT NULL,
    writer integer NOT NULL,
    frames bigint NOT NULL,
    rows bigint NOT NULL,
    late_frames bigint NOT NULL,
    duplicates bigint NOT NULL,
    delay_ms bigint NOT NULL,
    longest_delay_ms bigint NOT NULL,
    CONSTRAINT ingest_minutes_pkey PRIMARY KEY (minute, writer)
) WITH (fillfactor = 50);
"""

# Who may see them is decided within: a function runs for whoever asks, whatever view it stands in.
FUNCTION = """
CREATE FUNCTION {name}() RETURNS TABLE ({columns}) LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, aiwm, public, pg_temp AS $$
    SELECT * FROM ({query}) AS found WHERE (SELECT sees_all FROM aiwm.reader)
$$;
REVOKE ALL ON FUNCTION {name}() FROM PUBLIC;
CREATE VIEW history.{name} WITH (security_barrier) AS SELECT * FROM {name}();
"""
TABLES = """name text, parts bigint, bytes bigint, row_bytes bigint,
    bytes_before_compression bigint, bytes_after_compression bigint"""
ROLLUPS = "name text, rolled_until timestamptz, lag_seconds float8"
JOBS = """what text, table_name text, is_scheduled boolean, next_start timestamptz, last_success timestamptz,
    last_duration_seconds float8, failures bigint"""

PARTITIONS = """
    SELECT regexp_replace(parent.relname, '_rolled$', ''), count(*), sum(pg_total_relation_size(child.oid))::bigint,
           sum(pg_total_relation_size(child.oid))::bigint, NULL::bigint, NULL::bigint
    FROM pg_inherits
    JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class child ON child.oid = inhrelid
    WHERE parent.relnamespace = 'aiwm'::regnamespace AND parent.relkind = 'p'
    GROUP BY parent.relname
"""
HELD = """
    SELECT hypertable_name::text AS name, format('%I.%I', hypertable_schema, hypertable_name)::regclass AS hypertable
    FROM timescaledb_information.hypertables WHERE hypertable_schema = 'aiwm'
    UNION ALL
    SELECT view_name, format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)::regclass
    FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'aiwm'
"""
# A chunk's own relation is its rows; its bytes are those and what the columnstore has of it.
CHUNKS = """
    SELECT regexp_replace(held.name, '_rolled$', ''), chunks.parts, chunks.bytes, chunks.row_bytes, {columns}
    FROM ({held}) AS held
    CROSS JOIN LATERAL (
        SELECT count(*) AS parts, coalesce(sum(total_bytes), 0)::bigint AS bytes,
               coalesce(sum(pg_total_relation_size(format('%I.%I', chunk_schema, chunk_name)::regclass)), 0)::bigint
                   AS row_bytes
        FROM chunks_detailed_size(hypertable)) AS chunks
    {joined}
"""
IN_COLUMNS = """
    LEFT JOIN LATERAL (
        SELECT sum(before_compression_total_bytes)::bigint AS before, sum(after_compression_total_bytes)::bigint AS after
        FROM hypertable_columnstore_stats(hypertable)) AS columns ON true
"""
ROLLED = "SELECT rollup, until, extract(epoch FROM now() - until)::float8 FROM watermarks"
POLICIES = """
    SELECT CASE proc_name WHEN 'policy_refresh_continuous_aggregate' THEN 'refresh'
                          WHEN 'policy_compression' THEN 'compress' ELSE 'drop' END,
           jobs.hypertable_name::text, scheduled, nullif(job_stats.next_start, '-infinity'),
           nullif(last_successful_finish, '-infinity'), extract(epoch FROM last_run_duration)::float8,
           coalesce(total_failures, 0)
    FROM timescaledb_information.jobs LEFT JOIN timescaledb_information.job_stats USING (job_id)
    WHERE jobs.hypertable_schema = 'aiwm'
      AND proc_name IN ('policy_refresh_continuous_aggregate', 'policy_compression', 'policy_retention')
"""
NO_JOBS = """
    SELECT NULL::text, NULL::text, NULL::boolean, NULL::timestamptz, NULL::timestamptz, NULL::float8, NULL::bigint
    WHERE false
"""
ABOUT = {
    "gpu_metrics_1h_by_node": "The GPUs of a node together, over an hour, kept longer than their samples",
    "platform_ingest": "What the gateways stored each minute; for logins that see every organisation",
    "platform_tables": "What the tables of samples and the rollups hold; for logins that see every organisation",
    "platform_rollups": "Up to where rollups are computed; for logins that see every organisation",
    "platform_jobs": "What TimescaleDB does by itself, its policies; for logins that see every organisation",
}
PLATFORM = {
    "platform_ingest": {
        "time": "Start of a minute, UTC, by the server's clock",
        "frames": "Telemetry frames stored, a count",
        "rows": "Rows stored, those of GPUs too, a count",
        "late_frames": "Frames whose sample was more than 5 minutes old, a count",
        "duplicates": "Frames that were stored before, a count",
        "delay_avg": "From a sample's time to its arrival, mean, s",
        "delay_max": "From a sample's time to its arrival, longest, s",
    },
    "platform_tables": {
        "name": "The table or rollup",
        "parts": "Its chunks or partitions, a count",
        "bytes": "What it takes on disk, bytes",
        "row_bytes": "Of that in rows, not in columns, bytes",
        "bytes_before_compression": "What is in columns took this in rows, bytes; NULL without a columnstore",
        "bytes_after_compression": "What is in columns takes this, bytes; NULL without a columnstore",
    },
    "platform_rollups": {
        "name": "The rollup",
        "rolled_until": "Up to where it is computed, UTC",
        "lag_seconds": "How long ago that is, s; while a fleet is silent it grows",
    },
    "platform_jobs": {
        "what": "refresh, compress or drop",
        "table_name": "Of which table or rollup",
        "is_scheduled": "Whether it runs: false while it is held back",
        "next_start": "When it runs next, UTC",
        "last_success": "When it last succeeded, UTC",
        "last_duration_seconds": "How long it last took, s",
        "failures": "How often it failed, a count",
    },
}
INGEST_VIEW = """
CREATE VIEW history.platform_ingest WITH (security_barrier) AS
SELECT minute AS time, sum(frames)::bigint AS frames, sum(rows)::bigint AS rows,
       sum(late_frames)::bigint AS late_frames, sum(duplicates)::bigint AS duplicates,
       sum(delay_ms)::float8 / nullif(sum(frames), 0) / 1000 AS delay_avg, max(longest_delay_ms) / 1000::float8 AS delay_max
FROM ingest_minutes WHERE (SELECT sees_all FROM reader)
GROUP BY minute
"""

# A function within a view runs for whoever asks, who must be allowed to call it; without USAGE of its schema nobody
# can call it by itself.
GRANTS = """
CREATE OR REPLACE FUNCTION grant_to_analysts() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    name text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aiwm_analyst') THEN
        BEGIN
            CREATE ROLE aiwm_analyst NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
    GRANT USAGE ON SCHEMA history TO aiwm_analyst;
    FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'history'::regnamespace AND relkind = 'v' LOOP
        EXECUTE format('GRANT SELECT ON history.%I TO aiwm_analyst', name);
    END LOOP;
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA history TO aiwm_analyst;{more}
END $$;
"""
GRANT_PLATFORM = """
    FOR name IN SELECT proname FROM pg_proc WHERE pronamespace = 'aiwm'::regnamespace AND proname LIKE 'platform\\_%' LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION aiwm.%I() TO aiwm_analyst', name);
    END LOOP;"""
GRANT_NOW = """
DO $$
BEGIN
    PERFORM aiwm.grant_to_analysts();
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'This user may not grant to the role aiwm_analyst: `aiwm db analyst` says what to do.';
END $$;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _execute(INGEST)
    _execute(f"CREATE OR REPLACE VIEW history.nodes WITH (security_barrier) AS {NODES.format(more=NODES_NOW)}")
    gpus = GPUS.format(more=GPUS_NOW, joined="JOIN node_state s USING (node_key)")
    _execute(f"CREATE OR REPLACE VIEW history.gpus WITH (security_barrier) AS {gpus}")
    _execute(_by_node())
    _execute(INGEST_VIEW)
    for name, (columns, query) in _platform().items():
        _execute(FUNCTION.format(name=name, columns=columns, query=query))
    for view, comment in ABOUT.items():
        _execute(f"COMMENT ON VIEW history.{view} IS {_literal(comment)}")
    for view, comments in (COMMENTS | PLATFORM | {"gpu_metrics_1h_by_node": dict(_by_node_comments())}).items():
        for column, comment in comments.items():
            _execute(f"COMMENT ON COLUMN history.{view}.{column} IS {_literal(comment)}")
    _execute(GRANTS.replace("{more}", GRANT_PLATFORM) + GRANT_NOW)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name in ("platform_tables", "platform_rollups", "platform_jobs"):
        op.execute(f"DROP VIEW history.{name}")
        op.execute(f"DROP FUNCTION {name}()")
    op.execute("DROP VIEW history.platform_ingest")
    op.execute("DROP VIEW history.gpu_metrics_1h_by_node")
    for view, query in {"nodes": NODES.format(more=""), "gpus": GPUS.format(more="", joined="")}.items():
        comments = _comments_of(view)
        op.execute(f"DROP VIEW history.{view}")
        op.execute(f"CREATE VIEW history.{view} WITH (security_barrier) AS {query}")
        for statement in comments:
            _execute(statement)
    op.execute("DROP TABLE ingest_minutes")
    _execute(GRANTS.replace("{more}", "") + GRANT_NOW)


def _platform() -> dict[str, tuple[str, str]]:
    """Columns and query of each function, as the database's engine has them."""
    engine, edition = op.get_bind().execute(sa.text("SELECT engine, edition FROM installation")).one()
    tables, jobs = PARTITIONS, NO_JOBS
    if engine == "timescaledb":
        tables = CHUNKS.format(held=HELD, columns="NULL::bigint, NULL::bigint", joined="")
    if edition == "community":
        tables = CHUNKS.format(held=HELD, columns="columns.before, columns.after", joined=IN_COLUMNS)
        jobs = POLICIES
    return {
        "platform_tables": (TABLES, tables),
        "platform_rollups": (ROLLUPS, ROLLED),
        "platform_jobs": (JOBS, jobs),
    }


def _by_node() -> str:
    columns = ", ".join(
        f"m.{name}_sum::float8 / nullif(m.{name}_count::float8 * {steps}, 0) AS {name}_avg, "
        f"m.{name}_min / {steps}::float8 AS {name}_min, m.{name}_max / {steps}::float8 AS {name}_max, "
        f"m.{name}_avg_sum / {steps} AS {name}_sum"
        for name, (_, _, steps) in GPU_FIELDS.items()
    )
    return f"""
        CREATE VIEW history.gpu_metrics_1h_by_node WITH (security_barrier) AS
        SELECT m.time, n.id AS node_id, n.name AS node_name, n.org_id, m.samples, {columns}
        FROM gpu_metrics_1h_by_node m JOIN visible_nodes n USING (node_key)
    """


def _by_node_comments() -> Iterator[tuple[str, str]]:
    yield "time", "Start of an hour, UTC"
    yield "node_id", "The node's _id"
    yield "node_name", "The node's present name"
    yield "org_id", "The org that owns the node"
    yield "samples", "Samples of all its GPUs in it, a count"
    for name, (what, unit, _) in GPU_FIELDS.items():
        words = {"avg": "mean", "min": "smallest", "max": "largest", "sum": "the GPUs' means added up"}
        for part, word in words.items():
            yield f"{name}_{part}", f"{what}: {word}, {unit}; NULL without a value"


def _comments_of(view: str) -> list[str]:
    """Statements that comment the view again, on the columns that it had before."""
    rows = op.get_bind().execute(
        sa.text("""
            SELECT attname, description FROM pg_description JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid
            WHERE objoid = to_regclass(:view) AND classoid = 'pg_class'::regclass
        """),
        {"view": f"history.{view}"},
    )
    about = op.get_bind().scalar(sa.text("SELECT obj_description(to_regclass(:view))"), {"view": f"history.{view}"})
    return [
        f"COMMENT ON VIEW history.{view} IS {_literal(about)}",
        *(
            f"COMMENT ON COLUMN history.{view}.{column} IS {_literal(comment)}"
            for column, comment in rows
            if column not in COMMENTS[view]
        ),
    ]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _execute(script: str) -> None:
    """Many statements at once, which asyncpg takes only where they are not prepared."""
    op.get_bind().connection.run_async(lambda driver: driver.execute(script))
