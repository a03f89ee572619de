"""The GPUs of a node together, over 5 minutes: what a fleet's last hours are drawn from.

All of it is that of an hour with another width, and is made from what the database has of that.

Rolling up, the planner did not see how short the time is that all ranges lie in, and read every sample there is for a
step of 5 minutes. Now it is told.

And of what is behind `rolled_until` it learns that it is little: of an edge that it does not know it took a third of all
samples to be behind it, beside which no other choice mattered. Of a range between two it takes 1 in 200.
"""

import re

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

ROLLUP, HOURLY = "gpu_metrics_5m_by_node", "gpu_metrics_1h_by_node"
ROLLED = f"{ROLLUP}_rolled"
ARGUMENTS = "(integer[], timestamptz[], timestamptz[])"

# Chunks are as long as those of the GPUs' own.
AGGREGATE = f"""
    CREATE MATERIALIZED VIEW {ROLLUP}
    WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false,
          timescaledb.chunk_interval = '7 days')
    AS {{query}}
    WITH NO DATA;
    CREATE INDEX ON {ROLLUP} (node_key, time);
    ALTER MATERIALIZED VIEW {ROLLUP} SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'node_key',
                                          timescaledb.orderby = 'time');
    CREATE INDEX {ROLLUP}_time_idx ON {ROLLUP} USING brin (time) WITH (autosummarize = on)
"""
QUERY = """
    SELECT view_definition FROM timescaledb_information.continuous_aggregates
    WHERE view_schema = 'aiwm' AND view_name = :hourly
"""
MATERIALIZED = """
    SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
    FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'aiwm' AND view_name = :rollup
"""

PARTITIONS = f"""
    DO $$
    DECLARE
        parted record;
    BEGIN
        FOR parted IN
            SELECT replace(relname, 'gpu_metrics_5m', '{ROLLUP}') AS name, pg_get_expr(relpartbound, oid) AS bounds
            FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'gpu_metrics_5m_rolled'::regclass
        LOOP
            EXECUTE format('CREATE TABLE aiwm.%I PARTITION OF aiwm.{ROLLED} %s', parted.name, parted.bounds);
        END LOOP;
    END $$
"""
# Nobody rolls up while what is there already is: a pass begins with the first of these tables. Whoever stores samples
# writes to neither, whoever asks waits for neither.
LOCK = "LOCK TABLE node_metrics_5m_rolled, gpu_metrics_5m_rolled IN SHARE MODE"
# A day after the other, so that each is sorted in memory.
FILL = f"""
    SELECT roll_{ROLLUP}(array_agg(node_key), array_agg(day), array_agg(day + interval '24 hours'))
    FROM (SELECT min(first.time) AS oldest FROM gpus CROSS JOIN LATERAL (
              SELECT time FROM gpu_metrics_5m_rolled s WHERE s.node_key = gpus.node_key AND s.gpu = gpus.gpu
              ORDER BY time LIMIT 1) AS first) AS there
    CROSS JOIN rolling CROSS JOIN LATERAL generate_series(oldest, rolled_until, interval '24 hours') AS day
    CROSS JOIN nodes
    GROUP BY day ORDER BY day
"""
ROLL_ALONG = f"    PERFORM aiwm.roll_{ROLLUP}(node_keys, starts, ends);\n"
WIDTHS = {
    **dict.fromkeys(("node_metrics_5m", "gpu_metrics_5m"), "5 minutes"),
    **dict.fromkeys(("node_metrics_1h", "gpu_metrics_1h", HOURLY), "1 hour"),
    **dict.fromkeys(("node_metrics_1d", "gpu_metrics_1d"), "1 day"),
}
BEHIND = re.compile(r'(\w+\."time") >= \( SELECT time_bucket')
LITTLE = re.compile(r"\(\w+\.\"time\" < 'infinity'::timestamp with time zone\) AND ")
# What a function that rolls up had, and what it has.
BOUNDS = {
    "BEGIN": """DECLARE
            first_time timestamptz := (SELECT min(start) FROM unnest(starts) AS start);
            last_time timestamptz := (SELECT max(stop) FROM unnest(ends) AS stop);
        BEGIN""",
    "old.time < r.to_time": "old.time < r.to_time AND old.time >= first_time AND old.time < last_time",
    "s.time < r.to_time": "s.time < r.to_time AND s.time >= first_time AND s.time < last_time",
}
GRANT = """
DO $$
BEGIN
    PERFORM aiwm.grant_to_analysts();
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'This user may not grant to the role aiwm_analyst: `aiwm db analyst` says what to do.';
END $$;
"""
COMMENTS = """
    SELECT format('COMMENT ON COLUMN history.%I.%I IS %L', CAST(:rollup AS text), attname, description)
    FROM pg_description JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid
    WHERE objoid = to_regclass(:hourly) AND classoid = 'pg_class'::regclass
    UNION ALL
    SELECT format('COMMENT ON VIEW history.%I IS %L', CAST(:rollup AS text), obj_description(to_regclass(:hourly), 'pg_class'))
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    engine, edition = _engine()
    if edition == "community":
        # The first pass of maintenance fills it; until then it is added up from the GPUs' own.
        _execute(AGGREGATE.format(query=_of_five_minutes(_value(QUERY, hourly=HOURLY).rstrip().rstrip(";"))))
        op.execute(f"CREATE VIEW {ROLLED} AS SELECT * FROM {_value(MATERIALIZED, rollup=ROLLUP)}")
    else:
        _make_table(engine)
    _execute(f"CREATE VIEW history.{ROLLUP} WITH (security_barrier) AS {_of_five_minutes(_view('history.' + HOURLY))}")
    for statement in op.get_bind().scalars(sa.text(COMMENTS), {"rollup": ROLLUP, "hourly": f"history.{HOURLY}"}).all():
        _execute(statement.replace("an hour", "5 minutes"))
    _execute(GRANT)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _, edition = _engine()
    op.execute(f"DROP VIEW history.{ROLLUP}")
    if edition == "community":
        op.execute(f"DROP VIEW {ROLLED}")
        # Not prepared: TimescaleDB changes the statement as it runs, and a second run of it would be refused.
        _execute(f"DROP MATERIALIZED VIEW {ROLLUP}")
    else:
        op.execute(LOCK)
        _change("roll_gpu_metrics_5m", {ROLL_ALONG: ""})
        for rollup in WIDTHS:
            _change(f"roll_{rollup}", {after: before for before, after in BOUNDS.items()})
        if _function("make_partitions"):
            _change("make_partitions", {f"'{ROLLED}', ": ""})
        _watermarks(WIDTHS)
        _views(LITTLE, "")
        op.execute(f"DROP FUNCTION roll_{ROLLUP}{ARGUMENTS}")
        op.execute(f"DROP VIEW {ROLLUP}")
        op.execute(f"DROP TABLE {ROLLED}")
    op.execute(f"DELETE FROM dropped WHERE table_name = '{ROLLUP}'")


def _make_table(engine: str) -> None:
    is_parted = engine == "postgresql"
    op.execute(LOCK)
    op.execute(
        f"CREATE TABLE {ROLLED} (LIKE {HOURLY}_rolled INCLUDING ALL) {'PARTITION BY RANGE (time)' if is_parted else ''}"
    )
    if is_parted:
        _execute(PARTITIONS)
        _change("make_partitions", {f"'{HOURLY}_rolled'": f"'{ROLLED}', '{HOURLY}_rolled'"})
    else:
        op.execute(
            f"SELECT create_hypertable('{ROLLED}', by_range('time', interval '7 days'), create_default_indexes => false)"
        )
    _execute(f"CREATE VIEW {ROLLUP} AS {_of_five_minutes(_view(HOURLY))}")
    for rollup in WIDTHS:
        _change(f"roll_{rollup}", BOUNDS)
    _execute(_of_five_minutes(_function(f"roll_{HOURLY}")))
    # By the function that makes what it is made of: a program of before, which knows of no other, rolls it up, too.
    _change("roll_gpu_metrics_5m", {"END $function$": f"{ROLL_ALONG}END $function$"})
    op.execute(FILL)
    # The last things: whoever asks waits for them.
    _watermarks(WIDTHS | {ROLLUP: "5 minutes"})
    _views(BEHIND, r"\1 < 'infinity' AND \g<0>")


def _of_five_minutes(definition: str) -> str:
    return definition.replace("gpu_metrics_1h", "gpu_metrics_5m").replace("'01:00:00'", "'00:05:00'")


def _engine() -> tuple[str, str | None]:
    engine, edition = op.get_bind().execute(sa.text("SELECT engine, edition FROM installation")).one()
    return engine, edition


def _watermarks(widths: dict[str, str]) -> None:
    """As of 0011; the list alone differs."""
    values = ", ".join(f"('{rollup}', interval '{width}')" for rollup, width in widths.items())
    op.execute(f"""
        CREATE OR REPLACE VIEW watermarks AS
        SELECT rollup, time_bucket(width, rolled_until) AS until
        FROM (VALUES {values}) AS rollups (rollup, width) CROSS JOIN rolling WHERE rolled_until > '-infinity'
    """)


def _views(before: re.Pattern[str], after: str) -> None:
    """The same views of rollups with one thing changed."""
    for view in (*WIDTHS, ROLLUP):
        query, changes = before.subn(after, _view(view))
        if changes != 1:
            raise RuntimeError(f"{view} has {changes} of {before.pattern!r}")
        _execute(f"CREATE OR REPLACE VIEW {view} AS {query}")


def _change(name: str, changes: dict[str, str]) -> None:
    """The same function with these things changed."""
    function = _function(name)
    for before, after in changes.items():
        if function.count(before) != 1:
            raise RuntimeError(f"{name} has {function.count(before)} of {before!r}")
        function = function.replace(before, after)
    _execute(function)


def _view(name: str) -> str:
    return _value("SELECT pg_get_viewdef(to_regclass(:name))", name=name)


def _function(name: str) -> str:
    """The statement that makes it; empty where there is none."""
    statement = (
        "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'aiwm'::regnamespace AND proname = :name"
    )
    return op.get_bind().scalar(sa.text(statement), {"name": name}) or ""


def _value(statement: str, **values: str) -> str:
    return str(op.get_bind().execute(sa.text(statement), values).scalar_one())


def _execute(script: str) -> None:
    """Many statements at once, which asyncpg takes only where they are not prepared."""
    op.get_bind().connection.run_async(lambda driver: driver.execute(script))
