"""How the node is now, and how it was in this range."""

from dashboards.build import looks
from dashboards.build.looks import column
from dashboards.build.panels import AnyPanel, stats, timeline
from dashboards.build.sql import (
    FROM,
    NODE_GPU_LADDER,
    ONE_NODE,
    TO,
    measured,
    steps_of,
)

NODE = "node_id IN (${node:sqlstring})"


def status() -> AnyPanel:
    """Its status, and since when it is silent."""
    return stats(
        "Status",
        "The status now, and for how long the node has sent neither heartbeat nor metrics.",
        f"""
SELECT status AS "Status", extract(epoch FROM now() - last_heartbeat)::float8 AS "Since heartbeat",
       extract(epoch FROM now() - last_metrics_at)::float8 AS "Since metrics"
FROM history.nodes
WHERE {NODE}
""",
        unit=looks.SECONDS,
        span=8,
        columns={
            "Status": column(unit="string", statuses=True),
            "Since heartbeat": column(decimals=0),
            "Since metrics": column(decimals=0),
        },
    )


def now() -> AnyPanel:
    """Its last heartbeat."""
    return stats(
        "Now",
        "Of its last heartbeat: CPU and memory in use, and how long the machine runs. Skew: how far its clock is behind "
        "the server's. Delay: from its newest metrics to their arrival.",
        f"""
SELECT cpu_usage AS "CPU", ram_usage AS "Memory", uptime_seconds AS "Uptime", clock_skew_ms AS "Clock skew",
       extract(epoch FROM last_metrics_at - last_sample_at)::float8 AS "Delay"
FROM history.nodes
WHERE {NODE}
""",
        unit=looks.PERCENT,
        span=10,
        columns={
            "CPU": column(steps=looks.FULL, decimals=0),
            "Memory": column(steps=looks.FULL, decimals=0),
            "Uptime": column(unit=looks.SECONDS, decimals=0),
            "Clock skew": column(unit=looks.MILLISECONDS, steps=looks.SKEW, decimals=0),
            "Delay": column(unit=looks.SECONDS, steps=looks.DELAY, decimals=1),
        },
    )


def uptime() -> AnyPanel:
    """Uptime and energy."""
    source = measured(NODE_GPU_LADDER, "power_usage_avg, hours", ONE_NODE)
    return stats(
        "In this range",
        f"Uptime: online ÷ (online + offline). Energy: what its GPUs drew. {steps_of(NODE_GPU_LADDER)}",
        f"""
SELECT (SELECT 100 * sum(length) FILTER (WHERE status = 'online') / nullif(sum(length), 0)
        FROM (SELECT status, extract(epoch FROM least(coalesce(ended_at, now()), {TO})
                                                - greatest(started_at, {FROM}))::float8 AS length
              FROM history.status_periods
              WHERE {NODE} AND status IN ('online', 'offline')
                AND started_at <= {TO} AND (ended_at IS NULL OR ended_at >= {FROM})) AS periods) AS "Uptime",
       (SELECT sum(power_usage_avg * hours) / 1000 FROM {source}) AS "Energy"
""",
        unit=looks.PERCENT,
        span=6,
        columns={
            "Uptime": column(steps=((None, "red"), (95, "orange"), (99.5, "green")), decimals=2),
            "Energy": column(unit=looks.KWH, decimals=1),
        },
    )


def statuses() -> AnyPanel:
    """Which status it had when."""
    return timeline(
        "Status over time",
        "Which status the node had; nothing before it was created and after it was deleted.",
        f"""
SELECT time, status AS "Status"
FROM (SELECT greatest(started_at, {FROM}) AS time, status FROM history.status_periods
      WHERE {NODE} AND started_at <= {TO} AND (ended_at IS NULL OR ended_at > {FROM})
      UNION ALL
      SELECT deleted_at, NULL FROM history.nodes WHERE {NODE} AND $__timeFilter(deleted_at)) AS statuses
ORDER BY time
LIMIT 2000
""",
    )
