"""How an analyst who is bound to one organisation tries to see another's rows, on a connection of their own.

Each attack is a script of statements. Whatever they give (rows, notices, errors) is held against what stands in the other
organisation's rows; many must be refused, others may run and must be told of the own rows alone.
"""

from typing import Final, NamedTuple


class SqlAttack(NamedTuple):
    """What is tried, one statement after another, whether the ones before it were refused or not."""

    name: str
    script: tuple[str, ...]
    tells: str | None = None
    """What the own rows must give away, so that the attack is known to work."""


_LEAKY: Final = """
    CREATE FUNCTION pg_temp.tell(value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0000001 AS
    $$ BEGIN RAISE NOTICE 'row of %', value; RETURN true; END $$
"""
_VIEWS: Final = ("nodes", "gpus", "gpu_metrics", "node_metrics_1h", "node_events", "status_periods", "heartbeats")

SQL_ATTACKS: Final = (
    SqlAttack(
        "a cheap function that tells what it is given",
        (_LEAKY, *(f"SELECT 1 FROM history.{view} WHERE pg_temp.tell(node_name)" for view in _VIEWS)),
        tells="row of gpu-01",
    ),
    SqlAttack(
        "the same as an operator, in a join, an order, an aggregate's filter, a CASE and a lateral",
        (
            _LEAKY,
            (
                "CREATE FUNCTION pg_temp.eq(a text, b text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0000001 AS "
                "$$ BEGIN RAISE NOTICE 'row of %', a; RETURN a = b; END $$"
            ),
            "CREATE OPERATOR pg_temp.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.eq)",
            "SELECT 1 FROM history.nodes WHERE node_name OPERATOR(pg_temp.===) 'x'",
            "SELECT 1 FROM history.nodes a JOIN history.gpus b ON pg_temp.tell(b.device_id) AND a.node_id = b.node_id",
            "SELECT node_id FROM history.nodes ORDER BY pg_temp.tell(org_id)",
            "SELECT count(*) FILTER (WHERE pg_temp.tell(org_id)) FROM history.nodes",
            "SELECT CASE WHEN pg_temp.tell(org_id) THEN 1 END FROM history.nodes",
            "SELECT 1 FROM history.nodes n, LATERAL (SELECT pg_temp.tell(n.node_id)) AS told",
            "SELECT 1 FROM history.gpu_metrics WHERE pg_temp.tell(device_id) LIMIT 1 OFFSET 100000",
        ),
        tells="row of gpu-01",
    ),
    SqlAttack(
        "a function that says it leaks nothing",
        (
            (
                "CREATE FUNCTION pg_temp.sealed(value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE LEAKPROOF AS "
                "$$ BEGIN RAISE NOTICE 'row of %', value; RETURN true; END $$"
            ),
            "SELECT 1 FROM history.nodes WHERE pg_temp.sealed(org_id)",
        ),
    ),
    SqlAttack(
        "errors that quote what they met",
        (
            *(f"SELECT 1 FROM history.{view} WHERE node_name::integer = 1" for view in _VIEWS),
            "SELECT 1 FROM history.nodes WHERE org_id::date IS NULL",
            "SELECT 1 FROM history.nodes WHERE ('[' || org_id)::jsonb IS NULL",
            "SELECT 1 FROM history.nodes WHERE '' ~ ('(' || org_id)",
            "SELECT 1 FROM history.nodes WHERE node_id::bit(1) IS NULL",
            "SELECT 1 FROM history.nodes WHERE to_timestamp(org_id, 'YYYY') IS NULL",
            "SELECT xmlparse(CONTENT '<' || org_id) FROM history.nodes",
            "SELECT org_id::regclass FROM history.nodes",
        ),
        tells="gpu-01",
    ),
    SqlAttack(
        "errors that come for one row and not for another",
        (
            "SELECT 1 FROM history.nodes WHERE 1 / (node_name <> 'gpu-0' || 3)::integer = 1",
            "SELECT 1 FROM history.gpu_metrics WHERE 1 / (device_id <> 'GPU-' || '3-1')::integer = 1",
            "SELECT 1 FROM history.nodes WHERE sqrt(CASE WHEN node_name = 'gpu-0' || 3 THEN -1 ELSE 1 END) = 1",
            "SELECT 'nothing divided by zero' FROM history.nodes WHERE 1 / (node_name <> 'gpu-0' || 3)::integer = 1",
        ),
        tells="nothing divided by zero",
    ),
    SqlAttack(
        "plans: estimates, what was removed, in every form",
        tuple(
            f"EXPLAIN ({options}) SELECT * FROM history.{view} WHERE node_name LIKE 'gpu%'"
            for options in (
                "VERBOSE",
                "ANALYZE, VERBOSE, BUFFERS",
                "FORMAT JSON",
                "ANALYZE, FORMAT XML",
                "SETTINGS, FORMAT YAML",
            )
            for view in _VIEWS
        ),
        tells="gpu%",
    ),
    SqlAttack(
        "statistics of columns",
        (
            "SELECT s::text FROM pg_stats s WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
            "SELECT s::text FROM pg_stats_ext s",
            "SELECT s::text FROM pg_stats_ext_exprs s",
            "SELECT stavalues1::text FROM pg_statistic",
            "SELECT d::text FROM pg_statistic_ext_data d",
            "CREATE STATISTICS pg_temp.s (mcv) ON org_id, name FROM aiwm.nodes",
            "ANALYZE aiwm.nodes",
        ),
    ),
    SqlAttack(
        "what others are doing",
        (
            "SELECT query, application_name, client_addr FROM pg_stat_activity",
            "SELECT * FROM pg_stat_statements",
            "SELECT * FROM pg_prepared_statements",
            "SELECT * FROM pg_cursors",
            "SELECT * FROM pg_locks",
            "SELECT * FROM pg_stat_progress_copy",
            "SELECT pg_current_logfile()",
        ),
    ),
    SqlAttack(
        "a prepared statement and a cursor that outlive a change of role",
        (
            "PREPARE mine AS SELECT 'prepared', org_id FROM history.nodes",
            "EXECUTE mine",
            "SET ROLE aiwm_analyst",
            "EXECUTE mine",
            "SET plan_cache_mode = force_generic_plan",
            "EXECUTE mine",
            "RESET ROLE",
            "EXECUTE mine",
        ),
        tells="prepared",
    ),
    SqlAttack(
        "another role",
        (
            "SET ROLE free",
            "SET SESSION AUTHORIZATION free",
            "SET LOCAL ROLE postgres",
            "SET ROLE pg_read_all_data",
            "SET ROLE pg_monitor",
            "GRANT pg_read_all_data TO bound",
            "ALTER ROLE bound SUPERUSER",
            "ALTER ROLE bound BYPASSRLS",
            "SELECT set_config('role', 'free', false)",
            "SELECT set_config('session_authorization', 'free', false)",
            "SELECT DISTINCT org_id FROM history.nodes",
        ),
        tells="acme",
    ),
    SqlAttack(
        "names that stand before the private ones",
        (
            "CREATE TEMP TABLE analysts (login text, org_id text)",
            "INSERT INTO pg_temp.analysts VALUES ('bound', NULL)",
            "CREATE TEMP VIEW reader AS SELECT NULL::text AS org_id, true AS sees_all",
            "CREATE TEMP VIEW visible_nodes AS SELECT 1",
            "CREATE FUNCTION pg_temp.pg_has_role(name, oid, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
            "CREATE FUNCTION pg_temp.session_user() RETURNS name LANGUAGE sql AS $$ SELECT 'free'::name $$",
            "SET search_path = pg_temp, history, pg_catalog",
            "SELECT DISTINCT org_id FROM history.nodes",
            "SELECT DISTINCT org_id FROM history.gpu_metrics_1h",
        ),
        tells="acme",
    ),
    SqlAttack(
        "views, tables and blocks of one's own",
        (
            "CREATE TEMP VIEW mine WITH (security_invoker) AS SELECT * FROM history.nodes",
            "SELECT * FROM mine",
            "CREATE TEMP TABLE copied AS SELECT * FROM history.gpus",
            "SELECT * FROM copied",
            "DO $$ DECLARE r record; BEGIN FOR r IN SELECT * FROM history.nodes LOOP RAISE NOTICE '%', r; END LOOP; END $$",
            (
                "CREATE FUNCTION pg_temp.definer() RETURNS SETOF text SECURITY DEFINER LANGUAGE sql AS "
                "'SELECT org_id FROM history.nodes'"
            ),
            "SELECT pg_temp.definer()",
            "ALTER VIEW history.nodes SET (security_barrier = false)",
            "CREATE RULE told AS ON SELECT TO history.nodes DO INSTEAD SELECT 1",
        ),
        tells="gpu-01",
    ),
    SqlAttack(
        "functions that read tables for their caller",
        (
            "SELECT query_to_xml('SELECT * FROM aiwm.nodes', true, true, '')",
            "SELECT table_to_xml('aiwm.nodes', true, true, '')",
            "SELECT schema_to_xml('aiwm', true, true, '')",
            "SELECT database_to_xml(true, true, '')",
            "SELECT ts_stat('SELECT to_tsvector(org_id) FROM history.nodes')",
            "SELECT ts_stat('SELECT to_tsvector(name) FROM aiwm.nodes')",
            "SELECT currtid2('aiwm.nodes', '(0,1)')",
            "SELECT aiwm.gateway_channel(1)",
            "SELECT pg_read_file('postgresql.conf')",
            "SELECT pg_ls_dir('.')",
            "SELECT lo_import('/etc/passwd')",
            "COPY aiwm.nodes TO STDOUT",
            "COPY (SELECT 1) TO PROGRAM 'true'",
            "CREATE EXTENSION dblink",
            "CREATE EXTENSION pageinspect",
            "SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
            "CREATE PUBLICATION p FOR ALL TABLES",
            "LOCK TABLE aiwm.nodes",
            "SELECT * FROM aiwm.installation",
            "TABLE aiwm.visible_nodes",
        ),
        tells="acm",
    ),
)
