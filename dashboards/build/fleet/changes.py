"""What changed in this range."""

from dashboards.build import looks
from dashboards.build.looks import NODE_COLUMNS, NODE_LINK, colour, column
from dashboards.build.panels import AnyPanel, curves, rows, stats
from dashboards.build.sql import (
    FROM,
    TO,
    bucket,
    gpus_chosen,
    nodes_chosen,
)

STATUSES = ",\n       ".join(
    f"coalesce(sum(sum(change) FILTER (WHERE status = '{status}')) OVER (ORDER BY time), 0)::int AS \"{status.title()}\""
    for status in looks.STATUS_COLOURS
)


def counts() -> AnyPanel:
    """How many of each kind."""
    counted = {
        "Went offline": f"history.status_periods WHERE status = 'offline' AND $__timeFilter(started_at) AND {nodes_chosen()}",
        "Came back": f"history.status_periods WHERE status = 'offline' AND $__timeFilter(ended_at) AND {nodes_chosen()}",
        "New nodes": f"history.nodes WHERE $__timeFilter(created_at) AND {nodes_chosen()}",
        "GPUs gone": f"history.gpus WHERE $__timeFilter(removed_at) AND {gpus_chosen()}",
        "GPUs new": f"history.gpus WHERE $__timeFilter(first_seen) AND {gpus_chosen()}",
    }
    columns = ",\n".join(f'(SELECT count(*) FROM {source}) AS "{name}"' for name, source in counted.items())
    return stats(
        "What changed in this range",
        "How often nodes went offline and came back, and which nodes and GPUs are new or gone.",
        f"SELECT {columns}",
        unit=looks.COUNT,
        span=12,
        steps=looks.PLAIN,
        columns={
            "Went offline": column(steps=looks.TROUBLE),
            "Came back": column(steps=looks.GOOD),
            "New nodes": column(steps=looks.PLAIN),
            "GPUs gone": column(steps=looks.TROUBLE),
            "GPUs new": column(steps=looks.PLAIN),
        },
    )


def statuses() -> AnyPanel:
    """Nodes by status over time."""
    return curves(
        "Nodes by status over time",
        "How many nodes had which status.",
        f"""
WITH changes (time, status, change) AS (
    SELECT {bucket(FROM)} + n * make_interval(secs => $__interval_ms / 1000.0), NULL, 0
    FROM generate_series(0, floor(($__unixEpochTo() - $__unixEpochFrom()) * 1000.0 / $__interval_ms)::int) AS n
    UNION ALL
    SELECT greatest({bucket("started_at")}, {bucket(FROM)}), status, 1 FROM history.status_periods
    WHERE started_at <= {TO} AND (ended_at IS NULL OR ended_at > {FROM})
      AND {nodes_chosen()}
    UNION ALL
    SELECT {bucket("ended_at")}, status, -1 FROM history.status_periods
    WHERE ended_at > {FROM} AND ended_at <= {TO}
      AND {nodes_chosen()}
)
SELECT time, {STATUSES}
FROM changes
GROUP BY time ORDER BY time
""",
        unit=looks.COUNT,
        stacked=True,
        many=True,
        calcs=("min", "max", "lastNotNull"),
        columns={status.title(): column(colour(shade)) for status, shade in looks.STATUS_COLOURS.items()},
    )


def outages() -> AnyPanel:
    """A row a time offline."""
    return rows(
        "Went offline and came back",
        "Times in which nodes were offline, newest first. An empty time of return: still offline.",
        f"""
SELECT node_id, node_name AS "Node", started_at AS "Offline since", ended_at AS "Until",
       extract(epoch FROM coalesce(ended_at, now()) - started_at)::float8 AS "For", reason AS "Why"
FROM history.status_periods
WHERE status = 'offline' AND started_at <= {TO} AND (ended_at IS NULL OR ended_at >= {FROM})
  AND {nodes_chosen()}
ORDER BY started_at DESC, node_name
LIMIT 100
""",
        unit="string",
        columns=NODE_COLUMNS
        | {
            "Node": column(link=NODE_LINK, width=130),
            "Offline since": column(unit=looks.TIME, width=160),
            "Until": column(unit=looks.TIME, width=160),
            "For": column(
                unit=looks.SECONDS,
                width=90,
                steps=((None, "text"), (3600, "orange"), (86400, "red")),
                cell="color-text",
            ),
        },
    )
