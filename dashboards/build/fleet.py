"""Fleet: healthy? idle? hot? what changed?"""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.build import looks, variables
from dashboards.build.frame import board, went_and_came_back
from dashboards.build.looks import NODE_COLUMNS, NODE_LINK, PERCENT_GAUGE, SPREAD, colour, column, fill_below
from dashboards.build.panels import AnyPanel, buckets, curves, rows, stats
from dashboards.build.sql import (
    FLEET_LADDER,
    FREE_MEMORY,
    FROM,
    GPU_LADDER,
    IDLE,
    TO,
    bucket,
    gpus_chosen,
    gpus_measured,
    mean,
    measured,
    nodes_chosen,
    nodes_measured,
    steps_of,
)

PRESENT = f"""
SELECT g.*, g.memory_total - g.memory_free AS memory_used,
       g.utilization < {IDLE} AS is_idle,
       g.utilization < {IDLE} AND g.memory_free >= {FREE_MEMORY} * g.memory_total AS is_free
FROM history.gpus g JOIN history.nodes n ON n.node_id = g.node_id
WHERE g.removed_at IS NULL AND n.deleted_at IS NULL AND n.status = 'online'
  AND {gpus_chosen("g")}
"""
"""The GPUs of nodes that are online, with what was last heard of them."""

TENTHS = ", ".join(
    f"count(*) FILTER (WHERE {low} <= utilization_avg AND utilization_avg "
    f'{"<" if low < 90 else "<="} {low + 10}) AS "{low}–{low + 10} %"'
    for low in range(0, 100, 10)
)
STATUSES = ",\n       ".join(
    f"coalesce(sum(sum(change) FILTER (WHERE status = '{status}')) OVER (ORDER BY time), 0)::int AS \"{status.title()}\""
    for status in looks.STATUS_COLOURS
)


def dashboard() -> Dashboard:
    """The first screen of whoever is on duty."""
    chosen = [variables.org(), variables.model(), variables.nodes(), *variables.metadata()]
    return board(
        "aiwm-fleet",
        "Fleet",
        "Is the fleet healthy, who is idle, who is hot, what changed.",
        since="now-3h",
        refresh="1m",
        variables=[*chosen, variables.price_of_kwh()],
        annotations=[went_and_came_back()],
        rows=[
            ("", [_nodes(), _changes(), _gpus(), _now(), _energy()]),
            ("", [_utilisation(), _temperature(), _power(), _memory()]),
            ("Who", [_models(), _tenths(), _busiest(), _idlest(), _hottest()]),
            ("What changed", [_statuses(), _outages()]),
        ],
    )


def _nodes() -> AnyPanel:
    return stats(
        "Nodes",
        "How many nodes have which status now. Deleted ones do not count.",
        f"""
SELECT count(*) FILTER (WHERE status = 'online') AS "Online",
       count(*) FILTER (WHERE status = 'offline') AS "Offline",
       count(*) FILTER (WHERE status = 'maintenance') AS "Maintenance",
       count(*) FILTER (WHERE status = 'installing') AS "Installing",
       count(*) FILTER (WHERE status = 'pending') AS "Pending"
FROM history.nodes
WHERE deleted_at IS NULL
  AND {nodes_chosen()}
""",
        unit=looks.COUNT,
        span=12,
        columns={
            "Online": column(steps=looks.GOOD),
            "Offline": column(steps=looks.TROUBLE),
            "Maintenance": column(steps=((None, "text"), (1, "purple"))),
            "Installing": column(steps=((None, "text"), (1, "blue"))),
            "Pending": column(steps=((None, "text"),)),
        },
    )


def _changes() -> AnyPanel:
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


def _gpus() -> AnyPanel:
    return stats(
        "GPUs of nodes that are online",
        f"Idle: under {IDLE} % in use. Free: idle, and at least {FREE_MEMORY:.0%} of its memory free.",
        f"""
SELECT count(*) AS "GPUs", count(*) FILTER (WHERE NOT is_idle) AS "At work",
       count(*) FILTER (WHERE is_idle) AS "Idle", count(*) FILTER (WHERE is_free) AS "Free"
FROM ({PRESENT}) AS present
""",
        unit=looks.COUNT,
        span=9,
        columns={
            "At work": column(steps=looks.GOOD),
            "Idle": column(steps=looks.NOTABLE),
            "Free": column(steps=looks.PLAIN),
        },
    )


def _now() -> AnyPanel:
    return stats(
        "Measured now",
        "Means over all GPUs of nodes that are online, the hottest of them, and the power they draw together.",
        f"""
SELECT avg(utilization) AS "Utilisation", 100 * sum(memory_used) / nullif(sum(memory_total), 0) AS "Memory in use",
       max(temperature) AS "Hottest", sum(power_usage) AS "Power"
FROM ({PRESENT}) AS present
""",
        unit=looks.PERCENT,
        span=9,
        columns={
            "Utilisation": column(steps=looks.LOAD, decimals=1),
            "Memory in use": column(steps=looks.PLAIN, decimals=1),
            "Hottest": column(unit=looks.CELSIUS, steps=looks.HEAT, decimals=0),
            "Power": column(unit=looks.WATT, steps=looks.PLAIN, decimals=1),
        },
    )


def _energy() -> AnyPanel:
    source = measured(FLEET_LADDER, "time, power_usage_sum, hours", nodes_measured())
    return stats(
        "Energy in this range",
        "What the GPUs drew: mean watts of each step times its hours. The price of a kWh is chosen above. "
        + steps_of(FLEET_LADDER),
        f"""
SELECT sum(power_usage_sum * hours) / 1000 AS "Energy",
       sum(power_usage_sum * hours) / 1000 * nullif(${{price_kwh:sqlstring}}, '')::float8 AS "Cost"
FROM {source}
""",
        unit=looks.KWH,
        span=6,
        columns={"Energy": column(decimals=1), "Cost": column(unit=looks.MONEY, decimals=2)},
    )


def _utilisation() -> AnyPanel:
    source = measured(GPU_LADDER, "time, samples, utilization_avg", gpus_measured())
    return curves(
        "GPU utilisation",
        "Mean over the fleet, and its spread: a tenth of the GPUs is below the lower line, a tenth above the upper one. "
        + steps_of(GPU_LADDER),
        f"""
SELECT time, {mean("utilization_avg")} AS "Mean",
       percentile_cont(0.1) WITHIN GROUP (ORDER BY utilization_avg) AS "p10",
       percentile_cont(0.9) WITHIN GROUP (ORDER BY utilization_avg) AS "p90"
FROM {source}
GROUP BY time ORDER BY time
""",
        unit=looks.PERCENT,
        limits=(0, 100),
        columns={"Mean": column(colour("green")), "p10": column(*SPREAD), "p90": column(*SPREAD, fill_below("p10"))},
    )


def _temperature() -> AnyPanel:
    source = measured(FLEET_LADDER, "time, samples, temperature_avg, temperature_max", nodes_measured())
    return curves(
        "GPU temperature",
        f"Mean over the fleet, and the hottest moment of any GPU. {steps_of(FLEET_LADDER)}",
        f"""
SELECT time, {mean("temperature_avg")} AS "Mean", max(temperature_max) AS "Hottest"
FROM {source}
GROUP BY time ORDER BY time
""",
        unit=looks.CELSIUS,
        limits=(None, None),
        steps=looks.HEAT,
        columns={"Mean": column(colour("green")), "Hottest": column(colour("red"))},
    )


def _power() -> AnyPanel:
    source = measured(FLEET_LADDER, "time, node_id, org_id, power_usage_sum", nodes_measured())
    return curves(
        "Power drawn by GPUs, by org",
        f"Mean watts of all GPUs added up. {steps_of(FLEET_LADDER)}",
        f"""
SELECT time, org_id AS metric, sum(power_usage_sum) AS value
FROM {source}
GROUP BY time, org_id ORDER BY time, org_id
""",
        unit=looks.WATT,
        stacked=True,
    )


def _memory() -> AnyPanel:
    source = measured(FLEET_LADDER, "time, memory_used_sum, memory_total_sum", nodes_measured())
    return curves(
        "GPU memory",
        f"What is in use of the GPUs' memory, and all there is. {steps_of(FLEET_LADDER)}",
        f"""
SELECT time, sum(memory_used_sum) AS "In use", sum(memory_total_sum) AS "All"
FROM {source}
GROUP BY time ORDER BY time
""",
        unit=looks.GB,
        columns={"In use": column(colour("blue")), "All": column(colour("text"))},
    )


def _models() -> AnyPanel:
    return rows(
        "GPUs by model",
        "What each model's GPUs do now; free ones first. Only nodes that are online.",
        f"""
SELECT gpu_model AS "Model", count(*) AS "GPUs", count(*) FILTER (WHERE is_free) AS "Free",
       count(*) FILTER (WHERE is_idle) AS "Idle", avg(utilization) AS "Utilisation",
       100 * sum(memory_used) / nullif(sum(memory_total), 0) AS "Memory", max(temperature) AS "Hottest",
       sum(power_usage) AS "Power"
FROM ({PRESENT}) AS present
GROUP BY gpu_model ORDER BY "Free" DESC, "GPUs" DESC, gpu_model
LIMIT 100
""",
        unit=looks.COUNT,
        columns={
            "Model": column(width=150),
            "GPUs": column(width=65),
            "Free": column(steps=((None, "text"), (1, "green")), cell="color-text", width=65),
            "Idle": column(steps=looks.NOTABLE, cell="color-text", width=65),
            "Utilisation": PERCENT_GAUGE,
            "Memory": PERCENT_GAUGE,
            "Hottest": column(unit=looks.CELSIUS, steps=looks.HEAT, cell="color-text", width=80, decimals=0),
            "Power": column(unit=looks.WATT, width=90, decimals=1),
        },
    )


def _tenths() -> AnyPanel:
    source = measured(GPU_LADDER, "time, utilization_avg", gpus_measured())
    return buckets(
        "Utilisation of the fleet over time",
        "How many GPUs were used how much: each cell counts those whose mean lies in that tenth. "
        + steps_of(GPU_LADDER),
        f"SELECT time, {TENTHS}\nFROM {source}\nGROUP BY time ORDER BY time",
        unit=looks.COUNT,
    )


def _ranked(title: str, sorting: str, order: str) -> AnyPanel:
    source = measured(
        FLEET_LADDER,
        "node_id, node_name, samples, utilization_avg, memory_used_sum, memory_total_sum",
        nodes_measured(),
    )
    return rows(
        title,
        f"Mean utilisation of a node's GPUs over this range, {sorting}. {steps_of(FLEET_LADDER)}",
        f"""
SELECT node_id, min(node_name) AS "Node", {mean("utilization_avg")} AS "Utilisation",
       100 * sum(memory_used_sum) / nullif(sum(memory_total_sum), 0) AS "Memory"
FROM {source}
GROUP BY node_id ORDER BY "Utilisation" {order} NULLS LAST, "Node"
LIMIT 10
""",
        unit=looks.PERCENT,
        span=8,
        height=11,
        columns=NODE_COLUMNS | {"Utilisation": PERCENT_GAUGE, "Memory": PERCENT_GAUGE},
    )


def _busiest() -> AnyPanel:
    return _ranked("Busiest nodes", "highest first", "DESC")


def _idlest() -> AnyPanel:
    return _ranked("Idlest nodes", "lowest first", "ASC")


def _hottest() -> AnyPanel:
    return rows(
        "Hottest GPUs now",
        "What was last heard of the GPUs of nodes that are online.",
        f"""
SELECT node_id, node_name AS "Node", temperature AS "Temperature", power_usage AS "Power", gpu_model AS "Model",
       device_id AS "GPU"
FROM ({PRESENT}) AS present
WHERE temperature IS NOT NULL
ORDER BY temperature DESC, node_name, device_id
LIMIT 10
""",
        unit=looks.CELSIUS,
        span=8,
        height=11,
        columns=NODE_COLUMNS
        | {
            "Temperature": column(steps=looks.HEAT, cell="gauge", limits=(20, 100), width=140, decimals=0),
            "Power": column(unit=looks.WATT, width=70, decimals=0),
            "Model": column(width=110),
        },
    )


def _statuses() -> AnyPanel:
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


def _outages() -> AnyPanel:
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
