"""Health: what is wrong, or is about to be."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.build import looks, outliers, variables
from dashboards.build.frame import board, went_and_came_back
from dashboards.build.looks import NODE_COLUMNS, SPREAD, colour, column, fill_below
from dashboards.build.panels import AnyPanel, curves, rows, stats
from dashboards.build.sql import (
    GPU_LADDER,
    LAST_HOUR,
    bucket,
    gpus_chosen,
    gpus_measured,
    measured,
    nodes_chosen,
    nodes_measured,
    steps_of,
)

SILENT = 90
"""A registered node that was not heard of for this many seconds is stale, as in the API's summary."""
FLAPS = 3
"""A node that went offline at least this often in the range is flapping."""
SKEWED_MS = 30_000
LATE = 120
"""Metrics that arrive more than this many seconds after they were measured are late."""

LIVE = f"deleted_at IS NULL AND registered_at IS NOT NULL\n  AND {nodes_chosen()}"
STALE = f"{LIVE} AND status <> 'maintenance' AND last_seen_at < now() - interval '{SILENT} seconds'"
DELAYED = f"{LIVE} AND last_metrics_at - last_sample_at > interval '{LATE} seconds'"
SKEWED = f"{LIVE} AND abs(clock_skew_ms) > {SKEWED_MS}"
FLAPPING = f"""
SELECT node_id, node_name, count(*) AS times, max(started_at) AS last_time,
       sum(extract(epoch FROM coalesce(ended_at, now()) - started_at))::float8 AS silent
FROM history.status_periods
WHERE status = 'offline' AND $__timeFilter(started_at)
  AND {nodes_chosen()}
GROUP BY node_id, node_name HAVING count(*) >= {FLAPS}
"""
GONE = f"$__timeFilter(removed_at)\n  AND {gpus_chosen()}"


def dashboard() -> Dashboard:
    """What to look at when something is reported, and before it is."""
    return board(
        "aiwm-health",
        "Health",
        "Stale and flapping nodes, clocks, outliers in temperature and power, vanished GPUs, late telemetry.",
        since="now-24h",
        refresh="1m",
        variables=[variables.org(), variables.model(), variables.nodes(), *variables.metadata()],
        annotations=[went_and_came_back()],
        rows=[
            ("", [_summary()]),
            ("Nodes", [_stale(), _flapping(), _offline(), _full()]),
            ("GPUs", [outliers.hotter(), outliers.power_off(), _temperatures(), _gone()]),
            ("Clocks and delay", [_skewed(), _delayed()]),
        ],
    )


def _summary() -> AnyPanel:
    counted = {
        "Stale nodes": f"history.nodes WHERE {STALE}",
        "Flapping nodes": f"({FLAPPING}) AS flapping",
        "Clocks off": f"history.nodes WHERE {SKEWED}",
        "Telemetry late": f"history.nodes WHERE {DELAYED}",
        "GPUs at 85 °C": f"history.gpus WHERE removed_at IS NULL AND temperature >= 85 AND {gpus_chosen()}",
        "GPUs vanished": f"history.gpus WHERE {GONE}",
    }
    columns = ",\n".join(f'(SELECT count(*) FROM {source}) AS "{name}"' for name, source in counted.items())
    return stats(
        "At a glance",
        f"All zero is well. Stale: silent for {SILENT} s. Flapping: offline {FLAPS} times or more in this range. Clocks off: "
        f"by more than {SKEWED_MS // 1000} s. Late: metrics on the way for more than {LATE} s.",
        f"SELECT {columns}",
        unit=looks.COUNT,
        span=24,
        steps=looks.TROUBLE,
        background=True,
    )


def _stale() -> AnyPanel:
    return rows(
        "Stale nodes",
        f"Registered, not in maintenance, and not heard of for {SILENT} s or longer; the longest silent first.",
        f"""
SELECT node_id, node_name AS "Node", status AS "Status", last_seen_at AS "Last seen",
       extract(epoch FROM now() - last_seen_at)::float8 AS "Silent", status_reason AS "Why"
FROM history.nodes
WHERE {STALE}
ORDER BY last_seen_at, node_name
LIMIT 100
""",
        unit="string",
        columns=NODE_COLUMNS
        | {
            "Status": column(statuses=True, cell="color-text", width=110),
            "Last seen": column(unit=looks.TIME, width=160),
            "Silent": column(unit=looks.SECONDS, steps=((None, "orange"), (3600, "red")), cell="color-text", width=100),
        },
    )


def _flapping() -> AnyPanel:
    return rows(
        "Flapping nodes",
        f"Went offline {FLAPS} times or more in this range.",
        f"""
SELECT node_id, node_name AS "Node", times AS "Times offline", silent AS "Offline in all", last_time AS "Last time"
FROM ({FLAPPING}) AS flapping
ORDER BY times DESC, node_name
LIMIT 100
""",
        unit=looks.COUNT,
        columns=NODE_COLUMNS
        | {
            "Times offline": column(steps=((None, "orange"), (10, "red")), cell="gauge", limits=(0, 20)),
            "Offline in all": column(unit=looks.SECONDS, width=110),
            "Last time": column(unit=looks.TIME, width=160),
        },
    )


def _offline() -> AnyPanel:
    return curves(
        "Nodes that went offline",
        "How many went offline in each interval: many at once is a network, a rack or the service itself.",
        f"""
SELECT {bucket("started_at")} AS time, count(*) AS "Went offline"
FROM history.status_periods
WHERE status = 'offline' AND $__timeFilter(started_at)
  AND {nodes_chosen()}
GROUP BY 1 ORDER BY 1
""",
        unit=looks.COUNT,
        bars=True,
        calcs=("sum", "max"),
        columns={"Went offline": column(colour("red"))},
    )


def _full() -> AnyPanel:
    return rows(
        "Fullest disks and memories",
        "The highest of the last whole hour of this range.",
        f"""
SELECT node_id, node_name AS "Node", disk_usage_max AS "Disk", disk_free_min AS "Disk free", memory_usage_max AS "Memory"
FROM history.node_metrics_1h
WHERE {LAST_HOUR}
  AND {nodes_measured()}
ORDER BY greatest(disk_usage_max, memory_usage_max) DESC NULLS LAST, node_name
LIMIT 20
""",
        unit=looks.PERCENT,
        columns=NODE_COLUMNS
        | {
            "Disk": column(steps=looks.FULL, cell="gauge", limits=(0, 100), decimals=0),
            "Disk free": column(unit=looks.GB, width=100, decimals=0),
            "Memory": column(steps=looks.FULL, cell="gauge", limits=(0, 100), decimals=0),
        },
    )


def _temperatures() -> AnyPanel:
    source = measured(GPU_LADDER, "time, temperature_avg, temperature_max", gpus_measured(), settled=True)
    return curves(
        "Temperatures across GPUs",
        f"Percentiles of the GPUs' means, and the hottest moment of any. {steps_of(GPU_LADDER, settled=True)}",
        f"""
SELECT time, percentile_cont(0.5) WITHIN GROUP (ORDER BY temperature_avg) AS "p50",
       percentile_cont(0.95) WITHIN GROUP (ORDER BY temperature_avg) AS "p95", max(temperature_max) AS "Hottest"
FROM {source}
GROUP BY time ORDER BY time
""",
        unit=looks.CELSIUS,
        limits=(None, None),
        steps=looks.HEAT,
        columns={
            "p50": column(colour("green")),
            "p95": column(*SPREAD, fill_below("p50")),
            "Hottest": column(colour("red")),
        },
    )


def _gone() -> AnyPanel:
    return rows(
        "GPUs that vanished",
        "Their nodes registered without them in this range.",
        f"""
SELECT node_id, node_name AS "Node", device_id AS "GPU", gpu_model AS "Model", removed_at AS "Gone since",
       first_seen AS "First seen"
FROM history.gpus
WHERE {GONE}
ORDER BY removed_at DESC, node_name, device_id
LIMIT 100
""",
        unit="string",
        columns=NODE_COLUMNS
        | {
            "Gone since": column(unit=looks.TIME, width=160, steps=((None, "red"),), cell="color-text"),
            "First seen": column(unit=looks.TIME, width=160),
        },
    )


def _skewed() -> AnyPanel:
    return rows(
        "Clocks farthest off",
        "A worker's clock against the server's: positive is behind. Status never depends on it, samples carry it.",
        f"""
SELECT node_id, node_name AS "Node", status AS "Status", clock_skew_ms AS "Skew"
FROM history.nodes
WHERE {LIVE} AND clock_skew_ms IS NOT NULL
ORDER BY abs(clock_skew_ms) DESC, node_name
LIMIT 20
""",
        unit=looks.MILLISECONDS,
        columns=NODE_COLUMNS
        | {
            "Status": column(unit="string", statuses=True, cell="color-text", width=110),
            "Skew": column(steps=looks.SKEW, cell="color-text"),
        },
    )


def _delayed() -> AnyPanel:
    return rows(
        "Telemetry longest on the way",
        "From the time of a node's newest metrics, by its own clock, to their arrival.",
        f"""
SELECT node_id, node_name AS "Node", status AS "Status", last_sample_at AS "Measured", last_metrics_at AS "Arrived",
       extract(epoch FROM last_metrics_at - last_sample_at)::float8 AS "Delay"
FROM history.nodes
WHERE {LIVE} AND last_metrics_at IS NOT NULL AND last_sample_at IS NOT NULL
ORDER BY last_metrics_at - last_sample_at DESC, node_name
LIMIT 20
""",
        unit=looks.SECONDS,
        columns=NODE_COLUMNS
        | {
            "Status": column(unit="string", statuses=True, cell="color-text", width=110),
            "Measured": column(unit=looks.TIME, width=160),
            "Arrived": column(unit=looks.TIME, width=160),
            "Delay": column(steps=looks.DELAY, cell="color-text", width=100, decimals=1),
        },
    )
