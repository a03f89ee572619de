"""Platform: what the database knows of the service and of itself."""

from grafana_foundation_sdk.models.dashboard import Dashboard, DynamicConfigValue, ValueMap, ValueMappingResult

from dashboards.build import looks
from dashboards.build.frame import board
from dashboards.build.looks import colour, column
from dashboards.build.panels import AnyPanel, curves, rows, stats
from dashboards.build.sql import bucket

BEHIND = """greatest(0, lag_seconds - CASE WHEN name LIKE '%\\_1d' THEN 86400 WHEN name LIKE '%\\_1h%' THEN 3600 ELSE 300 END)"""
"""Seconds since the end of the newest bucket that could be there."""
LAG = ((None, "green"), (6 * 3600, "orange"), (12 * 3600, "red"))
MINUTES = "FROM history.platform_ingest WHERE $__timeFilter(time) GROUP BY 1 ORDER BY 1"
A_MINUTE = "* 60000.0 / $__interval_ms"


def dashboard() -> Dashboard:
    """For whoever runs the service; empty for logins that are bound to an org."""
    return board(
        "aiwm-platform",
        "Platform",
        "What is stored each minute, what comes late, how far rollups are, what all of it takes on disk.",
        since="now-24h",
        refresh="1m",
        variables=[],
        annotations=[],
        rows=[
            ("", [_now(), _stored()]),
            ("What comes in", [_rows(), _late(), _delay()]),
            ("What is kept", [_rollups(), _tables(), _jobs()]),
        ],
    )


def _now() -> AnyPanel:
    return stats(
        "The last five minutes",
        "Telemetry stored a minute, and how long it was on the way.",
        """
SELECT sum(rows) / 5.0 AS "Rows a minute", sum(frames) / 5.0 AS "Frames a minute", sum(late_frames) AS "Late frames",
       sum(delay_avg * frames) / nullif(sum(frames), 0) AS "Mean delay"
FROM history.platform_ingest
WHERE time >= date_trunc('minute', now()) - interval '5 minutes' AND time < date_trunc('minute', now())
""",
        unit=looks.COUNT,
        span=12,
        columns={
            "Late frames": column(steps=looks.NOTABLE),
            "Mean delay": column(unit=looks.SECONDS, steps=looks.DELAY, decimals=1),
        },
    )


def _stored() -> AnyPanel:
    return stats(
        "The database",
        "What samples and rollups take on disk, what the columnstore saves, the rollup that is farthest behind, and "
        "jobs that failed.",
        f"""
SELECT sum(bytes) AS "On disk",
       (sum(bytes_before_compression) / nullif(sum(bytes_after_compression), 0))::float8 AS "Compressed to 1 :",
       (SELECT max({BEHIND}) FROM history.platform_rollups) AS "Farthest behind",
       (SELECT count(*) FROM history.platform_jobs WHERE last_success IS NULL OR next_start < now() - interval '1 hour')
           AS "Jobs overdue"
FROM history.platform_tables
""",
        unit=looks.COUNT,
        span=12,
        columns={
            "On disk": column(unit=looks.BYTES, decimals=1),
            "Compressed to 1 :": column(decimals=1),
            "Farthest behind": column(unit=looks.SECONDS, steps=LAG, decimals=0),
            "Jobs overdue": column(steps=looks.TROUBLE),
        },
    )


def _rows() -> AnyPanel:
    return curves(
        "Rows and frames a minute",
        "What the gateways stored: a frame is one message of a node, a row is a sample of a node or of one GPU.",
        f"""
SELECT {bucket()} AS time, sum(rows) {A_MINUTE} AS "Rows", sum(frames) {A_MINUTE} AS "Frames"
{MINUTES}
""",
        span=8,
        unit=looks.COUNT,
        columns={"Rows": column(colour("blue")), "Frames": column(colour("green"))},
    )


def _late() -> AnyPanel:
    return curves(
        "Late frames and duplicates a minute",
        "Late: measured more than 5 minutes before it was stored. Duplicates were stored before, and are stored once.",
        f"""
SELECT {bucket()} AS time, sum(late_frames) {A_MINUTE} AS "Late", sum(duplicates) {A_MINUTE} AS "Duplicates"
{MINUTES}
""",
        span=8,
        unit=looks.COUNT,
        bars=True,
        columns={"Late": column(colour("orange")), "Duplicates": column(colour("purple"))},
    )


def _delay() -> AnyPanel:
    return curves(
        "How long telemetry is on the way",
        "From a sample's time, by the worker's clock, to its arrival: mean and longest.",
        f"""
SELECT {bucket()} AS time, sum(delay_avg * frames) / nullif(sum(frames), 0) AS "Mean", max(delay_max) AS "Longest"
{MINUTES}
""",
        span=8,
        unit=looks.SECONDS,
        limits=(None, None),
        columns={"Mean": column(colour("green")), "Longest": column(colour("orange"))},
    )


def _rollups() -> AnyPanel:
    return rows(
        "Rollups",
        "Up to where each is computed, and how long its next bucket has been over. What is newer is computed as it is asked "
        "for. While a fleet is silent the lag grows.",
        f"""
SELECT name AS "Rollup", rolled_until AS "Computed until", {BEHIND} AS "Behind"
FROM history.platform_rollups
ORDER BY "Behind" DESC, name
LIMIT 100
""",
        span=10,
        height=11,
        unit="string",
        columns={
            "Computed until": column(unit=looks.TIME, width=170),
            "Behind": column(unit=looks.SECONDS, cell="color-text", steps=LAG, width=130),
        },
    )


def _tables() -> AnyPanel:
    return rows(
        "Tables",
        "Samples and rollups on disk. Saved: what the columnstore makes of what is in columns.",
        """
SELECT name AS "Table", parts AS "Parts", bytes AS "On disk", row_bytes AS "In rows",
       bytes_after_compression AS "In columns", bytes_before_compression AS "Before",
       100 * (1 - bytes_after_compression::float8 / nullif(bytes_before_compression, 0)) AS "Saved"
FROM history.platform_tables
ORDER BY bytes DESC, name
LIMIT 100
""",
        unit=looks.BYTES,
        span=14,
        height=11,
        columns={
            "Parts": column(unit=looks.COUNT, width=65),
            **dict.fromkeys(("On disk", "In rows", "In columns", "Before"), column(width=100)),
            "Saved": column(unit=looks.PERCENT, steps=looks.GOOD, cell="gauge", limits=(0, 100), decimals=1),
        },
    )


def _jobs() -> AnyPanel:
    runs = ValueMap(
        {
            "true": ValueMappingResult(text="yes", color="green", index=0),
            "false": ValueMappingResult(text="held back", color="orange", index=1),
        }
    )
    return rows(
        "Jobs",
        "What TimescaleDB does by itself; none on plain PostgreSQL, where the service does it.",
        """
SELECT what AS "What", table_name AS "Table", is_scheduled AS "Runs", last_success AS "Last success",
       last_duration_seconds AS "Took", next_start AS "Next", failures AS "Failures"
FROM history.platform_jobs
ORDER BY failures DESC, what, table_name
LIMIT 100
""",
        unit=looks.COUNT,
        span=24,
        height=11,
        columns={
            "Runs": column(DynamicConfigValue("mappings", [runs]), cell="color-text", width=80),
            "Last success": column(unit=looks.TIME, width=160),
            "Took": column(unit=looks.SECONDS, width=80, decimals=2),
            "Next": column(unit=looks.TIME, width=160),
            "Failures": column(steps=looks.TROUBLE, cell="color-text", width=80),
        },
    )
