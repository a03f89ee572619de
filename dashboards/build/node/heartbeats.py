"""Signs of life, and where there were none."""

from dashboards.build import looks
from dashboards.build.looks import colour, column
from dashboards.build.node.present import NODE
from dashboards.build.panels import AnyPanel, curves, rows
from dashboards.build.sql import (
    DAY,
    FROM,
    RANGE,
    bucket,
)

HEARTBEATS = f"{RANGE} <= {2 * DAY}"
"""Raw heartbeats are read over short ranges alone."""
SILENCE = 90
"""Seconds between two heartbeats from which on they are a gap: what the service waits before it says offline."""


def a_minute() -> AnyPanel:
    """How many a minute."""
    return curves(
        "Heartbeats a minute",
        "How many came; two are usual. Zero is a gap. Shown for ranges up to two days: older gaps are in the status.",
        f"""
SELECT time, sum(beats) * 60000.0 / $__interval_ms AS "Heartbeats"
FROM (SELECT {bucket(FROM)} + n * make_interval(secs => $__interval_ms / 1000.0) AS time, 0 AS beats
      FROM generate_series(1, floor(({RANGE}) * 1000.0 / $__interval_ms)::int - 1) AS n
      WHERE {HEARTBEATS}
      UNION ALL
      SELECT {bucket()}, 1 FROM history.heartbeats
      WHERE {HEARTBEATS} AND {NODE} AND $__timeFilter(time)) AS counted
GROUP BY time ORDER BY time
""",
        unit=looks.COUNT,
        bars=True,
        calcs=("min", "mean"),
        columns={"Heartbeats": column(colour("green"))},
    )


def gaps() -> AnyPanel:
    """The longest silences."""
    return rows(
        "Gaps between heartbeats",
        f"More than {SILENCE} s between two, by the node's clock, longest first. For ranges up to two days.",
        f"""
SELECT before AS "From", time AS "To", extract(epoch FROM time - before)::float8 AS "Silent"
FROM (SELECT time, lag(time) OVER (ORDER BY time) AS before FROM history.heartbeats
      WHERE {HEARTBEATS} AND {NODE} AND $__timeFilter(time)) AS beats
WHERE time - before > interval '{SILENCE} seconds'
ORDER BY time - before DESC
LIMIT 100
""",
        unit=looks.SECONDS,
        columns={
            "From": column(unit=looks.TIME),
            "To": column(unit=looks.TIME),
            "Silent": column(steps=((None, "text"), (300, "orange"), (3600, "red")), cell="color-text"),
        },
    )
