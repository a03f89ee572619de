"""Rollups of node and GPU metrics: 5 minutes, an hour, a day; and the columnstore.

On TimescaleDB's community edition they are continuous aggregates. Elsewhere a view of the same name adds
up a table that the maintenance loop keeps and the raw rows that it has not come to yet, which is what a
continuous aggregate does too: whoever reads need not know.
"""

from collections.abc import Callable
from itertools import chain

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OLDEST_TIMESCALEDB = (2, 21)  # several refresh policies of one aggregate

COLUMNS = {
    "node_metrics": {
        "cpu_usage": "smallint",
        "cpu_cores": "integer",
        "cpu_temperature": "smallint",
        "memory_total": "bigint",
        "memory_used": "bigint",
        "memory_free": "bigint",
        "memory_usage": "smallint",
        "disk_total": "bigint",
        "disk_used": "bigint",
        "disk_free": "bigint",
        "disk_usage": "smallint",
        "network_bytes_in": "bigint",
        "network_bytes_out": "bigint",
    },
    "gpu_metrics": {
        "utilization": "smallint",
        "memory_total": "integer",
        "memory_used": "integer",
        "memory_free": "integer",
        "temperature": "smallint",
        "power_usage": "integer",
    },
}
KEYS = {"node_metrics": "node_key", "gpu_metrics": "node_key, gpu"}
# What is counted, from where to where, in how many buckets: tenths of % and °C in twenties of 100, tenths of W
# in 40 W, sizes in twentieths of what there is in all.
PERCENT, CELSIUS, WATT = ("0", "1000", 20), ("0", "1000", 20), ("0", "16000", 40)
SHARE = ("0", "1", 20)
HISTOGRAMS = {
    "node_metrics": {
        "cpu_usage": ("cpu_usage", PERCENT),
        "cpu_temperature": ("cpu_temperature", CELSIUS),
        "memory_used": ("memory_used / nullif(memory_total, 0)::float8", SHARE),
        "memory_free": ("memory_free / nullif(memory_total, 0)::float8", SHARE),
        "memory_usage": ("memory_usage", PERCENT),
        "disk_used": ("disk_used / nullif(disk_total, 0)::float8", SHARE),
        "disk_free": ("disk_free / nullif(disk_total, 0)::float8", SHARE),
        "disk_usage": ("disk_usage", PERCENT),
    },
    "gpu_metrics": {
        "utilization": ("utilization", PERCENT),
        "memory_used": ("memory_used / nullif(memory_total, 0)::float8", SHARE),
        "memory_free": ("memory_free / nullif(memory_total, 0)::float8", SHARE),
        "temperature": ("temperature", CELSIUS),
        "power_usage": ("power_usage", WATT),
    },
}
WIDTHS = {"5m": "5 minutes", "1h": "1 hour", "1d": "1 day"}
# The GPUs of a node together: whoever asks for a fleet need not read every card.
BY_NODE = "gpu_metrics_1h_by_node"
ROLLUPS = [(table, width) for width in WIDTHS for table in COLUMNS]
# A month of 5 minutes is as much as 7 hours of raw samples; the columnstore keeps a node's samples together.
CHUNKS = {"5m": "7 days", "1h": "30 days", "1d": "365 days"}
ORDER = {"heartbeats": "time", "gpu_heartbeats": "gpu, time", "node_metrics": "time", "gpu_metrics": "gpu, time"}

LOOP = """
CREATE TABLE rolling (
    only_one boolean NOT NULL DEFAULT true CONSTRAINT rolling_pkey PRIMARY KEY CONSTRAINT rolling_one CHECK (only_one),
    threshold timestamptz NOT NULL,
    rolled_until timestamptz NOT NULL
);
INSERT INTO rolling (threshold, rolled_until) VALUES ('-infinity', '-infinity');
CREATE TABLE touched (
    node_key integer NOT NULL,
    bucket timestamptz NOT NULL
);
"""

# TimescaleDB's own, for PostgreSQL alone: an element for each bucket, one before them and one behind.
HISTOGRAM = """
CREATE FUNCTION histogram_step(state integer[], value float8, low float8, high float8, buckets integer)
RETURNS integer[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    place integer;
BEGIN
    IF value IS NULL THEN
        RETURN state;
    END IF;
    IF state IS NULL THEN
        state := array_fill(0, ARRAY[buckets + 2]);
    END IF;
    place := width_bucket(value, low, high, buckets) + 1;
    state[place] := state[place] + 1;
    RETURN state;
END $$;
CREATE AGGREGATE histogram(value float8, low float8, high float8, buckets integer) (
    SFUNC = histogram_step, STYPE = integer[], PARALLEL = SAFE
);
"""

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

DROP_PARTITION = """
CREATE FUNCTION drop_partition(partition text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DROP TABLE aiwm.%I', partition);
END $$;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE installation ADD COLUMN edition text")
    engine, edition = _offered()
    op.execute(sa.text("UPDATE installation SET edition = :edition").bindparams(edition=edition))
    if edition == "community":
        for table, order in ORDER.items():
            _execute(_columnstore("TABLE", table, order))
        for table, width in ROLLUPS:
            _execute(_continuous_aggregate(table, width))
        _execute(_continuous_aggregate_by_node())
        return
    _execute(LOOP)
    if engine == "postgresql":
        _execute(HISTOGRAM)
        _execute(DROP_PARTITION)
        _execute(MAKE_PARTITIONS.format(parents=_quoted(*COLUMNS, "heartbeats", "gpu_heartbeats", *_tables())))
    for table, width in ROLLUPS:
        _execute(_rolled_table(table, width, partitioned=engine == "postgresql"))
        if engine == "timescaledb":
            op.execute(
                f"SELECT create_hypertable('{table}_{width}_rolled', by_range('time', interval '{CHUNKS[width]}'), "
                "create_default_indexes => false)"
            )
        _execute(_view(table, width))
        _execute(_roll(table, width))
    _execute(_rolled_table_by_node(partitioned=engine == "postgresql"))
    if engine == "timescaledb":
        op.execute(
            f"SELECT create_hypertable('{BY_NODE}_rolled', by_range('time', interval '{CHUNKS['1h']}'), "
            "create_default_indexes => false)"
        )
    _execute(f"""
        CREATE VIEW {BY_NODE} AS
        SELECT * FROM {BY_NODE}_rolled
        UNION ALL {_of_gpus("gpu_metrics_1h", f"WHERE {_tail('1h')}")}
    """)
    _execute(_roll_by_node())
    if engine == "postgresql":
        # For the samples that are there already; new ones make their own room.
        op.execute(
            "SELECT make_partitions(day, day) FROM (SELECT DISTINCT "
            "to_date(right(relname, 8), 'YYYYMMDD') AS day FROM pg_inherits "
            "JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'node_metrics'::regclass) days"
        )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    engine, edition = op.get_bind().execute(sa.text("SELECT engine, edition FROM installation")).one()
    if edition == "community":
        op.execute(f"DROP MATERIALIZED VIEW {BY_NODE}")
    else:
        op.execute(f"DROP FUNCTION roll_{BY_NODE}(integer[], timestamptz[], timestamptz[])")
        op.execute(f"DROP VIEW {BY_NODE}")
        op.execute(f"DROP TABLE {BY_NODE}_rolled")
    for table, width in reversed(ROLLUPS):
        if edition == "community":
            op.execute(f"DROP MATERIALIZED VIEW {table}_{width}")
        else:
            op.execute(f"DROP FUNCTION roll_{table}_{width}(integer[], timestamptz[], timestamptz[])")
            op.execute(f"DROP VIEW {table}_{width}")
            op.execute(f"DROP TABLE {table}_{width}_rolled")
    if edition == "community":
        for table in ORDER:
            _decompress(table)
            op.execute(f"ALTER TABLE {table} SET (timescaledb.enable_columnstore = false)")
    else:
        op.execute("DROP TABLE touched")
        op.execute("DROP TABLE rolling")
    if engine == "postgresql":
        _execute(MAKE_PARTITIONS.format(parents=_quoted("heartbeats", "gpu_heartbeats", *COLUMNS)))
        op.execute("DROP FUNCTION drop_partition(text)")
        op.execute("DROP AGGREGATE histogram(float8, float8, float8, integer)")
        op.execute("DROP FUNCTION histogram_step(integer[], float8, float8, float8, integer)")
    op.execute("ALTER TABLE installation DROP COLUMN edition")


def _offered() -> tuple[str, str | None]:
    """The engine of the first migration; for TimescaleDB the edition, too: Apache has no continuous aggregates."""
    engine = op.get_bind().scalar(sa.text("SELECT engine FROM installation"))
    if engine != "timescaledb":
        return engine, None
    version = op.get_bind().scalar(sa.text("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"))
    if op.get_bind().scalar(sa.text("SELECT current_setting('timescaledb.license')")) != "timescale":
        return engine, "apache"
    if tuple(int(part) for part in version.split("-")[0].split(".")[:2]) < OLDEST_TIMESCALEDB:
        needed = ".".join(map(str, OLDEST_TIMESCALEDB))
        raise RuntimeError(f"TimescaleDB {version} is too old: {needed} or newer is needed; update the extension.")
    return engine, "community"


def _columnstore(kind: str, name: str, order: str) -> str:
    return (
        f"ALTER {kind} {name} SET (timescaledb.enable_columnstore, "
        f"timescaledb.segmentby = 'node_key', timescaledb.orderby = '{order}')"
    )


def _decompress(table: str) -> None:
    op.execute(
        f"SELECT decompress_chunk(format('%I.%I', chunk_schema, chunk_name)::regclass) "
        f"FROM timescaledb_information.chunks WHERE hypertable_schema = 'aiwm' AND hypertable_name = '{table}' "
        "AND is_compressed"
    )


def _continuous_aggregate(table: str, width: str) -> str:
    keys = KEYS[table]
    of = _of_hours if width == "1d" else _of_samples
    source = f"{table}_1h" if width == "1d" else table
    return f"""
        CREATE MATERIALIZED VIEW {table}_{width}
        WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false,
              timescaledb.chunk_interval = '{CHUNKS[width]}')
        AS {of(table, width, source, _last_of_timescaledb)}
        WITH NO DATA;
        CREATE INDEX ON {table}_{width} ({keys}, time);
        {_columnstore("MATERIALIZED VIEW", f"{table}_{width}", ORDER[table])};
    """


def _rolled_table(table: str, width: str, *, partitioned: bool) -> str:
    wide = {"smallint": "bigint", "integer": "bigint", "bigint": "numeric"}
    columns = chain.from_iterable(
        (
            f"{name}_count integer",
            f"{name}_sum {wide[type_]}",
            *(f"{name}_{part} {type_}" for part in ("min", "max", "last")),
            *((f"{name}_hist integer[]",) if width != "5m" and name in HISTOGRAMS[table] else ()),
        )
        for name, type_ in COLUMNS[table].items()
    )
    gpu = "gpu smallint NOT NULL," if table == "gpu_metrics" else ""
    return f"""
        CREATE TABLE {table}_{width}_rolled (
            node_key integer NOT NULL, {gpu} time timestamptz NOT NULL, samples integer NOT NULL, {", ".join(columns)},
            CONSTRAINT {table}_{width}_rolled_pkey PRIMARY KEY ({KEYS[table]}, time)
        ) {"PARTITION BY RANGE (time)" if partitioned else ""}
    """


def _view(table: str, width: str) -> str:
    """The rolled rows, and behind them what was not rolled up yet."""
    of = _of_hours if width == "1d" else _of_samples
    source = f"{table}_1h" if width == "1d" else table
    return f"""
        CREATE VIEW {table}_{width} AS
        SELECT * FROM {table}_{width}_rolled
        UNION ALL {of(table, width, source, _last_of_arrays, where=f"WHERE {_tail(width)}")}
    """


def _tail(width: str) -> str:
    return f"time >= (SELECT time_bucket('{WIDTHS[width]}', rolled_until) FROM rolling)"


def _continuous_aggregate_by_node() -> str:
    return f"""
        CREATE MATERIALIZED VIEW {BY_NODE}
        WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false,
              timescaledb.chunk_interval = '{CHUNKS["1h"]}')
        AS {_of_gpus("gpu_metrics_1h", bucketed=True)}
        WITH NO DATA;
        CREATE INDEX ON {BY_NODE} (node_key, time);
        {_columnstore("MATERIALIZED VIEW", BY_NODE, "time")};
    """


def _rolled_table_by_node(*, partitioned: bool) -> str:
    wide = {"smallint": "bigint", "integer": "bigint"}
    columns = ", ".join(
        f"{name}_count integer, {name}_sum {wide[type_]}, {name}_min {type_}, {name}_max {type_}, {name}_avg_sum float8"
        for name, type_ in COLUMNS["gpu_metrics"].items()
    )
    return f"""
        CREATE TABLE {BY_NODE}_rolled (
            node_key integer NOT NULL, time timestamptz NOT NULL, samples integer NOT NULL, {columns},
            CONSTRAINT {BY_NODE}_rolled_pkey PRIMARY KEY (node_key, time)
        ) {"PARTITION BY RANGE (time)" if partitioned else ""}
    """


def _roll_by_node() -> str:
    ranges = "unnest(node_keys, starts, ends) AS r (node_key, from_time, to_time)"
    rows = f"""
        (SELECT s.* FROM {ranges} JOIN gpus USING (node_key)
         JOIN gpu_metrics_1h_rolled s ON s.node_key = r.node_key AND s.gpu = gpus.gpu
         AND s.time >= r.from_time AND s.time < r.to_time) AS found
    """
    return f"""
        CREATE FUNCTION roll_{BY_NODE}(node_keys integer[], starts timestamptz[], ends timestamptz[])
        RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
        BEGIN
            DELETE FROM aiwm.{BY_NODE}_rolled old USING {ranges}
            WHERE old.node_key = r.node_key AND old.time >= r.from_time AND old.time < r.to_time;
            INSERT INTO aiwm.{BY_NODE}_rolled {_of_gpus(rows)};
        END $$
    """


def _of_gpus(source: str, where: str = "", *, bucketed: bool = False) -> str:
    """The averages of a node's GPUs are added up besides, so that watts stay watts."""
    columns = ", ".join(
        f"sum({name}_count)::integer AS {name}_count, sum({name}_sum)::bigint AS {name}_sum, "
        f"min({name}_min) AS {name}_min, max({name}_max) AS {name}_max, "
        f"sum({name}_sum / nullif({name}_count, 0)::float8) AS {name}_avg_sum"
        for name in COLUMNS["gpu_metrics"]
    )
    time = "time_bucket('1 hour', time)" if bucketed else "time"
    return f"""
        SELECT node_key, {time} AS time, sum(samples)::integer AS samples, {columns}
        FROM {source} {where} GROUP BY node_key, {time}
    """


def _roll(table: str, width: str) -> str:
    """A function that computes buckets anew: of each of these nodes all that start within its range."""
    of = _of_hours if width == "1d" else _of_samples
    source = f"{table}_1h_rolled" if width == "1d" else table
    # By node, number and time: the index finds each range, however many samples there are.
    devices = "JOIN gpus USING (node_key)" if table == "gpu_metrics" else ""
    gpu = "AND s.gpu = gpus.gpu" if table == "gpu_metrics" else ""
    ranges = "unnest(node_keys, starts, ends) AS r (node_key, from_time, to_time)"
    rows = f"""
        (SELECT s.* FROM {ranges} {devices}
         JOIN {source} s ON s.node_key = r.node_key {gpu} AND s.time >= r.from_time AND s.time < r.to_time) AS found
    """
    return f"""
        CREATE FUNCTION roll_{table}_{width}(node_keys integer[], starts timestamptz[], ends timestamptz[])
        RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
        BEGIN
            DELETE FROM aiwm.{table}_{width}_rolled old USING {ranges}
            WHERE old.node_key = r.node_key AND old.time >= r.from_time AND old.time < r.to_time;
            INSERT INTO aiwm.{table}_{width}_rolled {of(table, width, rows, _last_of_arrays)};
        END $$
    """


def _of_samples(table: str, width: str, source: str, last: Callable[[str, str], str], where: str = "") -> str:
    columns = chain.from_iterable(
        (
            f"count({name})::integer AS {name}_count",
            f"sum({name}) AS {name}_sum",
            f"min({name}) AS {name}_min",
            f"max({name}) AS {name}_max",
            f"{last(name, name)} AS {name}_last",
            *((f"{_histogram(table, name)} AS {name}_hist",) if width != "5m" and name in HISTOGRAMS[table] else ()),
        )
        for name in COLUMNS[table]
    )
    return _grouped(table, width, source, "count(*)::integer AS samples", columns, where)


def _of_hours(table: str, width: str, source: str, last: Callable[[str, str], str], where: str = "") -> str:
    columns = chain.from_iterable(
        (
            f"sum({name}_count)::integer AS {name}_count",
            f"sum({name}_sum){'' if type_ == 'bigint' else '::bigint'} AS {name}_sum",
            f"min({name}_min) AS {name}_min",
            f"max({name}_max) AS {name}_max",
            f"{last(f'{name}_last', f'{name}_last')} AS {name}_last",
            *((f"{_merged(table, name)} AS {name}_hist",) if name in HISTOGRAMS[table] else ()),
        )
        for name, type_ in COLUMNS[table].items()
    )
    return _grouped(table, width, source, "sum(samples)::integer AS samples", columns, where)


def _grouped(table: str, width: str, source: str, samples: str, columns: "chain[str]", where: str) -> str:
    key = KEYS[table]
    return f"""
        SELECT {key}, time_bucket('{WIDTHS[width]}', time) AS time, {samples}, {", ".join(columns)}
        FROM {source} {where} GROUP BY {key}, time_bucket('{WIDTHS[width]}', time)
    """


def _histogram(table: str, name: str) -> str:
    expression, (low, high, buckets) = HISTOGRAMS[table][name]
    # TimescaleDB's counts a NULL as 0.
    return f"histogram({expression}, {low}, {high}, {buckets}) FILTER (WHERE {expression} IS NOT NULL)"


def _merged(table: str, name: str) -> str:
    _, (_, _, buckets) = HISTOGRAMS[table][name]
    sums = ", ".join(f"sum({name}_hist[{place}])" for place in range(1, buckets + 3))
    return f"CASE WHEN count({name}_hist) > 0 THEN ARRAY[{sums}]::integer[] END"


def _last_of_timescaledb(name: str, present: str) -> str:
    return f"last({name}, time) FILTER (WHERE {present} IS NOT NULL)"


def _last_of_arrays(name: str, present: str) -> str:
    return f"(array_agg({name} ORDER BY time DESC) FILTER (WHERE {present} IS NOT NULL))[1]"


def _tables() -> list[str]:
    return [*(f"{table}_{width}_rolled" for table, width in ROLLUPS), f"{BY_NODE}_rolled"]


def _quoted(*names: str) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _execute(script: str) -> None:
    """Many statements at once, which asyncpg takes only where they are not prepared."""
    op.get_bind().connection.run_async(lambda driver: driver.execute(script))
