"""SQL for analysts: rollups as views, a unit on every column, logins that see one organisation.

Row-level security does not go with the columnstore or continuous aggregates (decision 0012): what a login
may see is decided where each view takes its nodes from, behind a security barrier.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

PERCENT, CELSIUS, WATT, SIZE, BYTES, CORES = ("%", 10), ("°C", 10), ("W", 10), ("GB", 1000), ("bytes", 1), ("cores", 1)
# Of each field: what it is, its unit with the steps in one, and how its histogram is scaled.
# A scale is from low to high in units, or a total's name: then what was counted is the share of that total.
NODE_FIELDS = {
    "cpu_usage": ("CPU in use", PERCENT, (0, 100)),
    "cpu_cores": ("CPU cores", CORES, None),
    "cpu_temperature": ("CPU temperature", CELSIUS, (0, 100)),
    "memory_total": ("Memory in all", SIZE, None),
    "memory_used": ("Memory in use", SIZE, "memory_total"),
    "memory_free": ("Memory free", SIZE, "memory_total"),
    "memory_usage": ("Share of the memory in use", PERCENT, (0, 100)),
    "disk_total": ("Disk in all", SIZE, None),
    "disk_used": ("Disk in use", SIZE, "disk_total"),
    "disk_free": ("Disk free", SIZE, "disk_total"),
    "disk_usage": ("Share of the disk in use", PERCENT, (0, 100)),
    "network_bytes_in": ("Received since the machine started", BYTES, None),
    "network_bytes_out": ("Sent since the machine started", BYTES, None),
}
GPU_FIELDS = {
    "utilization": ("GPU in use", PERCENT, (0, 100)),
    "memory_total": ("GPU memory in all", SIZE, None),
    "memory_used": ("GPU memory in use", SIZE, "memory_total"),
    "memory_free": ("GPU memory free", SIZE, "memory_total"),
    "temperature": ("GPU temperature", CELSIUS, (0, 100)),
    "power_usage": ("Power drawn", WATT, (0, 1600)),
}
FIELDS = {"node_metrics": NODE_FIELDS, "gpu_metrics": GPU_FIELDS}
WIDTHS = {"5m": "5 minutes", "1h": "an hour", "1d": "a day (UTC)"}
PARTS = {"avg": "mean", "min": "smallest", "max": "largest", "last": "last"}

# A login without a row sees nothing, whatever group it is in; the owner of the tables needs none. It is
# session_user that counts: SET ROLE does not change it, nor does a function that runs as somebody else.
BINDING = """
CREATE TABLE analysts (
    login text CONSTRAINT analysts_pkey PRIMARY KEY,
    org_id text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE VIEW reader AS
SELECT a.org_id,
       coalesce(a.login IS NOT NULL AND a.org_id IS NULL, false)
       OR pg_has_role(session_user, c.relowner, 'MEMBER') AS sees_all
FROM pg_class c LEFT JOIN analysts a ON a.login = session_user
WHERE c.oid = 'aiwm.analysts'::regclass;

CREATE VIEW visible_nodes AS
SELECT * FROM nodes
WHERE (SELECT sees_all FROM reader) OR org_id = (SELECT org_id FROM reader);
"""

# Those of 0001 and 0002, with their nodes from elsewhere.
VIEWS = {
    "nodes": """
        SELECT n.id AS node_id, n.name AS node_name, n.org_id, n.role, n.is_local, n.vpn_ip, n.metadata,
               s.status, s.status_reason, s.gateway_id IS NOT NULL AS websocket_connected,
               s.last_heartbeat, s.last_seen_at, s.last_metrics_at,
               n.hostname, n.os, n.cpu_cores, n.cpu_model, n.ram_total, n.disk_total, n.ip_address, n.public_ip_address,
               n.daemon_version, n.container_runtime, n.registered_at, n.created_at, n.deleted_at
        FROM {nodes} n JOIN node_state s USING (node_key)""",
    "gpus": """
        SELECT n.id AS node_id, n.name AS node_name, n.org_id, g.device_id, g.model AS gpu_model,
               g.memory_total / 1000::float8 AS memory_total, g.first_seen, g.last_seen, g.removed_at
        FROM gpus g JOIN {nodes} n USING (node_key)""",
    "heartbeats": """
        SELECT h.time, n.id AS node_id, n.name AS node_name, n.org_id,
               h.status, h.cpu_usage / 10::float8 AS cpu_usage, h.ram_usage / 10::float8 AS ram_usage,
               h.active_deployments, h.uptime_seconds
        FROM heartbeats h JOIN {nodes} n USING (node_key)""",
    "gpu_heartbeats": """
        SELECT h.time, n.id AS node_id, n.name AS node_name, n.org_id, g.device_id, g.model AS gpu_model,
               h.utilization / 10::float8 AS utilization, h.temperature / 10::float8 AS temperature
        FROM gpu_heartbeats h JOIN gpus g USING (node_key, gpu) JOIN {nodes} n USING (node_key)""",
    "node_metrics": """
        SELECT m.time, n.id AS node_id, n.name AS node_name, n.org_id,
               m.cpu_usage / 10::float8 AS cpu_usage, m.cpu_cores, m.cpu_temperature / 10::float8 AS cpu_temperature,
               m.memory_total / 1000::float8 AS memory_total, m.memory_used / 1000::float8 AS memory_used,
               m.memory_free / 1000::float8 AS memory_free, m.memory_usage / 10::float8 AS memory_usage,
               m.disk_total / 1000::float8 AS disk_total, m.disk_used / 1000::float8 AS disk_used,
               m.disk_free / 1000::float8 AS disk_free, m.disk_usage / 10::float8 AS disk_usage,
               m.network_bytes_in, m.network_bytes_out
        FROM node_metrics m JOIN {nodes} n USING (node_key)""",
    "gpu_metrics": """
        SELECT m.time, n.id AS node_id, n.name AS node_name, n.org_id, g.device_id, g.model AS gpu_model,
               m.utilization / 10::float8 AS utilization, m.memory_total / 1000::float8 AS memory_total,
               m.memory_used / 1000::float8 AS memory_used, m.memory_free / 1000::float8 AS memory_free,
               m.temperature / 10::float8 AS temperature, m.power_usage / 10::float8 AS power_usage
        FROM gpu_metrics m JOIN gpus g USING (node_key, gpu) JOIN {nodes} n USING (node_key)""",
    "status_periods": """
        SELECT n.id AS node_id, n.name AS node_name, n.org_id, p.status, p.started_at, p.ended_at, p.reason
        FROM status_periods p JOIN {nodes} n USING (node_key)""",
    "node_events": """
        SELECT e.time, n.id AS node_id, n.name AS node_name, n.org_id, e.kind, e.actor, e.detail
        FROM node_events e JOIN {nodes} n USING (node_key)""",
}
ABOUT = {
    "nodes": "Every node, deleted ones too, with what is true of it now",
    "gpus": "Every GPU that a node ever had, by its device id",
    "heartbeats": "What a node said of itself every 30 s; raw, kept for days",
    "gpu_heartbeats": "What a node said of each GPU every 30 s; raw, kept for days",
    "node_metrics": "What a node measured every 60 s; raw, kept for weeks",
    "gpu_metrics": "What a node measured of each GPU every 60 s; raw, kept for weeks",
}
COMMON = {
    "time": "When it was measured, UTC, by the node's clock",
    "node_id": "The node's _id",
    "node_name": "The node's present name",
    "org_id": "The org that owns the node",
    "device_id": "The GPU's own id (NVML or MIG UUID)",
    "gpu_model": "The GPU's model at that time",
}
COMMENTS = {
    "nodes": {
        "role": "What it is for: a set, without unit",
        "is_local": "Whether it stands with its owner: true or false",
        "vpn_ip": "Address in the VPN",
        "metadata": "What its owner noted, JSON",
        "status": "pending, installing, online, offline or maintenance: now",
        "status_reason": "Why it has this status, for people",
        "websocket_connected": "Whether its socket is open: true or false",
        "last_heartbeat": "Its last heartbeat, UTC; its creation until the first one",
        "last_seen_at": "When it was last heard of, UTC",
        "last_metrics_at": "When metrics last came, UTC",
        "hostname": "As it registered",
        "os": "Operating system, as it registered",
        "cpu_cores": "CPU cores, a count",
        "cpu_model": "Model of the CPU",
        "ram_total": "Memory in all, GB (2^30 bytes)",
        "disk_total": "Disk in all, GB (2^30 bytes)",
        "ip_address": "Address in its own network",
        "public_ip_address": "Address seen from outside",
        "daemon_version": "Version of its worker",
        "container_runtime": "What runs its containers",
        "registered_at": "When it last registered, UTC; NULL if never",
        "created_at": "When it was created, UTC",
        "deleted_at": "When it was deleted, UTC; NULL if it was not",
    },
    "gpus": {
        "gpu_model": "The GPU's model",
        "memory_total": "GPU memory in all, GB (2^30 bytes)",
        "first_seen": "When it was first registered, UTC",
        "last_seen": "When it was last registered, UTC",
        "removed_at": "When a registration came without it, UTC; NULL while it is there",
    },
    "heartbeats": {
        "status": "What the worker calls its own status",
        "cpu_usage": "CPU in use, %",
        "ram_usage": "Memory in use, %",
        "active_deployments": "Deployments that run, a count",
        "uptime_seconds": "Since the machine started, s",
    },
    "gpu_heartbeats": {"utilization": "GPU in use, %", "temperature": "GPU temperature, °C"},
}
# In low … high are as many buckets of equal width as `counts` has elements, less the first and the last: those
# hold what lies below and above, and reach to the smallest and the largest value.
HISTOGRAM = """
CREATE TYPE history.histogram AS (low float8, high float8, counts bigint[], min float8, max float8);
COMMENT ON TYPE history.histogram IS
    'How many values lie in each bucket from low to high, one bucket below and one above; for history.quantile';

CREATE FUNCTION history.quantile(histogram history.histogram, q float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog AS $$
DECLARE
    buckets integer := cardinality(histogram.counts) - 2;
    width float8 := (histogram.high - histogram.low) / nullif(buckets, 0);
    rank float8;
    below bigint := 0;
    lower float8;
    upper float8;
BEGIN
    IF q < 0 OR q > 1 OR q = 'NaN' THEN
        RAISE EXCEPTION 'A quantile lies between 0 and 1: % does not.', q USING ERRCODE = 'numeric_value_out_of_range';
    END IF;
    rank := q * (SELECT sum(number) FROM unnest(histogram.counts) AS number);
    IF rank IS NULL OR histogram.min IS NULL THEN
        RETURN NULL;
    ELSIF q = 0 THEN
        RETURN histogram.min;
    ELSIF q = 1 THEN
        RETURN histogram.max;
    END IF;
    FOR place IN 0 .. buckets + 1 LOOP
        IF histogram.counts[place + 1] > 0 AND below + histogram.counts[place + 1] >= rank THEN
            lower := CASE WHEN place = 0 THEN histogram.min ELSE histogram.low + (place - 1) * width END;
            upper := CASE WHEN place > buckets THEN histogram.max ELSE histogram.low + place * width END;
            lower := least(greatest(lower, histogram.min), histogram.max);
            upper := greatest(least(upper, histogram.max), histogram.min);
            RETURN lower + (upper - lower) * (rank - below) / histogram.counts[place + 1];
        END IF;
        below := below + histogram.counts[place + 1];
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION history.quantile(history.histogram, float8) IS
    'The value below which the share q (0 to 1) lies, in the histogram''s unit; off by one bucket at most';

CREATE FUNCTION history.merge_step(merged history.histogram, added history.histogram) RETURNS history.histogram
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog AS $$
DECLARE
    wide history.histogram := merged;
    narrow history.histogram := added;
    buckets integer;
    width float8;
    place integer;
BEGIN
    IF added.counts IS NULL THEN
        RETURN merged;
    ELSIF merged.counts IS NULL THEN
        RETURN added;
    ELSIF merged.low <> added.low OR cardinality(merged.counts) <> cardinality(added.counts) THEN
        RAISE EXCEPTION 'Only histograms of the same quantity can be merged.' USING ERRCODE = 'data_exception';
    END IF;
    IF merged.high = added.high THEN
        wide.counts := ARRAY(
            SELECT a + b FROM unnest(merged.counts, added.counts) WITH ORDINALITY AS pair (a, b, number)
            ORDER BY number
        );
    ELSE
        -- Sizes of different totals: the middles of the smaller one's buckets go where they lie in the larger one.
        IF added.high > merged.high THEN
            wide := added;
            narrow := merged;
        END IF;
        buckets := cardinality(narrow.counts) - 2;
        width := (narrow.high - narrow.low) / buckets;
        FOR source IN 0 .. buckets + 1 LOOP
            CONTINUE WHEN narrow.counts[source + 1] = 0;
            place := CASE WHEN source = 0 THEN 0
                ELSE width_bucket(narrow.low + (least(source, buckets) - 0.5) * width, wide.low, wide.high, buckets) END;
            wide.counts[place + 1] := wide.counts[place + 1] + narrow.counts[source + 1];
        END LOOP;
    END IF;
    wide.min := least(merged.min, added.min);
    wide.max := greatest(merged.max, added.max);
    RETURN wide;
END $$;
CREATE AGGREGATE history.merge(history.histogram) (
    SFUNC = history.merge_step, STYPE = history.histogram, COMBINEFUNC = history.merge_step, PARALLEL = SAFE
);
COMMENT ON AGGREGATE history.merge(history.histogram) IS
    'All histograms as one: of several nodes, GPUs, hours or days; NULL for none';
"""

# CREATE ROLE may race with another database of the cluster, and not everyone may create roles.
GROUP = """
CREATE FUNCTION grant_to_analysts() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
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
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA history TO aiwm_analyst;
END $$;

CREATE FUNCTION make_analyst(login text, verifier text, org text, timeout_ms integer, connections integer)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    found pg_roles;
    bound text;
BEGIN
    PERFORM aiwm.grant_to_analysts();
    SELECT * INTO found FROM pg_roles WHERE rolname = login;
    IF found.oid IS NULL THEN
        EXECUTE format('CREATE ROLE %I LOGIN', login);
        EXECUTE format('GRANT aiwm_analyst TO %I', login);
    ELSIF found.rolsuper OR found.rolcreaterole OR found.rolcreatedb OR found.rolreplication OR found.rolbypassrls
        OR (SELECT array_agg(DISTINCT roleid) FROM pg_auth_members WHERE member = found.oid)
            IS DISTINCT FROM ARRAY['aiwm_analyst'::regrole::oid] THEN
        RAISE EXCEPTION 'The role % exists and is not an analyst: choose another name.', login
            USING ERRCODE = 'duplicate_object';
    END IF;
    SELECT org_id INTO bound FROM aiwm.analysts a WHERE a.login = make_analyst.login;
    IF bound IS NOT NULL AND org IS NULL THEN
        RAISE EXCEPTION 'The login % is bound to the organisation %: name an organisation, or drop the login first.',
            login, bound USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    EXECUTE format('ALTER ROLE %I LOGIN CONNECTION LIMIT %s PASSWORD %L', login, connections, verifier);
    EXECUTE format('ALTER ROLE %I SET statement_timeout = %L', login, timeout_ms);
    EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', login);
    EXECUTE format('ALTER ROLE %I SET search_path = history', login);
    INSERT INTO aiwm.analysts (login, org_id) VALUES (make_analyst.login, org)
    ON CONFLICT ON CONSTRAINT analysts_pkey DO UPDATE SET org_id = excluded.org_id;
END $$;

REVOKE ALL ON FUNCTION grant_to_analysts() FROM PUBLIC;
REVOKE ALL ON FUNCTION make_analyst(text, text, text, integer, integer) FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA history FROM PUBLIC;
DO $$
BEGIN
    PERFORM aiwm.grant_to_analysts();
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'This user may not create the role aiwm_analyst: `aiwm db analyst` says what to do.';
END $$;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # Of all nodes: history is asked for deleted ones too.
    op.execute("CREATE INDEX nodes_org_id_node_key_idx ON nodes (org_id, node_key)")
    _execute(BINDING)
    _execute(HISTOGRAM)
    for name, query in VIEWS.items():
        source = query.format(nodes="visible_nodes")
        _execute(f"CREATE OR REPLACE VIEW history.{name} WITH (security_barrier) AS {source}")
    for table in FIELDS:
        for width in WIDTHS:
            _execute(_rollup(table, width))
    for view, columns in _comments():
        for column, comment in columns.items():
            _execute(f"COMMENT ON COLUMN history.{view}.{column} IS {_literal(comment)}")
    for view, comment in ABOUT.items():
        _execute(f"COMMENT ON VIEW history.{view} IS {_literal(comment)}")
    _execute(GROUP)


def downgrade() -> None:
    """The group stays: its logins may be another database's, and only their owner knows."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP INDEX nodes_org_id_node_key_idx")
    for table in FIELDS:
        for width in WIDTHS:
            op.execute(f"DROP VIEW history.{table}_{width}")
    for name, query in VIEWS.items():
        _execute(f"CREATE OR REPLACE VIEW history.{name} AS {query.format(nodes='nodes')}")
    for view, columns in _comments(rollups=False):
        for column in columns:
            op.execute(f"COMMENT ON COLUMN history.{view}.{column} IS NULL")
    for view in ABOUT:
        op.execute(f"COMMENT ON VIEW history.{view} IS NULL")
    if op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aiwm_analyst')")):
        op.execute("REVOKE ALL ON ALL TABLES IN SCHEMA history FROM aiwm_analyst")
        op.execute("REVOKE ALL ON SCHEMA history FROM aiwm_analyst")
    _execute("""
        DROP AGGREGATE history.merge(history.histogram);
        DROP FUNCTION history.merge_step(history.histogram, history.histogram);
        DROP FUNCTION history.quantile(history.histogram, float8);
        DROP TYPE history.histogram;
        DROP FUNCTION make_analyst(text, text, text, integer, integer);
        DROP FUNCTION grant_to_analysts();
        DROP VIEW visible_nodes;
        DROP VIEW reader;
        DROP TABLE analysts;
    """)


def _rollup(table: str, width: str) -> str:
    gpu = table == "gpu_metrics"
    view = f"history.{table}_{width}"
    columns = ", ".join(f"{expression} AS {name}" for name, expression, _ in _rollup_columns(table, width))
    return f"""
        CREATE VIEW {view} WITH (security_barrier) AS
        SELECT m.time, n.id AS node_id, n.name AS node_name, n.org_id,
               {"g.device_id, g.model AS gpu_model," if gpu else ""} m.samples, {columns}
        FROM {table}_{width} m {"JOIN gpus g USING (node_key, gpu)" if gpu else ""}
        JOIN visible_nodes n USING (node_key);
        COMMENT ON VIEW {view} IS {_literal(f"{table} over {WIDTHS[width]}, kept longer than its samples")};
    """


def _rollup_columns(table: str, width: str) -> Iterator[tuple[str, str, str]]:
    """Each column's name, its expression in units, and its comment."""
    for name, (what, (unit, steps), scale) in FIELDS[table].items():
        shown = f"{unit} (2^30 bytes)" if unit == "GB" else unit
        for part, word in PARTS.items():
            expression = f"m.{name}_{part}" if steps == 1 else f"m.{name}_{part} / {steps}::float8"
            if part == "avg":
                expression = f"m.{name}_sum::float8 / nullif(m.{name}_count::float8 * {steps}, 0)"
            yield f"{name}_{part}", expression, f"{what}: {word}, {shown}; NULL without a value"
        if scale is not None and width != "5m":
            low, high = ("0", f"m.{scale}_max / {steps}::float8") if isinstance(scale, str) else map(str, scale)
            yield (
                f"{name}_hist",
                (
                    f"CASE WHEN m.{name}_hist IS NOT NULL THEN ROW({low}, {high}, m.{name}_hist::bigint[], "
                    f"m.{name}_min / {steps}::float8, m.{name}_max / {steps}::float8)::history.histogram END"
                ),
                f"{what}: histogram in {shown}, for history.quantile and history.merge; NULL without a value",
            )


def _comments(*, rollups: bool = True) -> Iterator[tuple[str, dict[str, str]]]:
    """Each view with the comments of its columns; those of 0002 have theirs."""
    node = {name: COMMON[name] for name in ("node_id", "node_name", "org_id")}
    gpu = node | {name: COMMON[name] for name in ("device_id", "gpu_model")}
    yield "nodes", node | COMMENTS["nodes"]
    yield "gpus", gpu | COMMENTS["gpus"]
    for kind, keys in (("heartbeats", node), ("gpu_heartbeats", gpu)):
        yield kind, {"time": COMMON["time"]} | keys | COMMENTS[kind]
    for table, fields in FIELDS.items():
        keys = gpu if table == "gpu_metrics" else node
        raw = {name: f"{what}, {unit[0]}; NULL if not measured" for name, (what, unit, _) in fields.items()}
        yield table, {"time": COMMON["time"]} | keys | raw
        for width in WIDTHS if rollups else ():
            columns = {name: comment for name, _, comment in _rollup_columns(table, width)}
            times = {"time": f"Start of {WIDTHS[width]}, UTC", "samples": "Samples in it, a count"}
            yield f"{table}_{width}", times | keys | columns


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _execute(script: str) -> None:
    """Many statements at once, which asyncpg takes only where they are not prepared."""
    op.get_bind().connection.run_async(lambda driver: driver.execute(script))
