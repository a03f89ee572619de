"""The fleet as it is now."""

from dashboards.build import looks
from dashboards.build.looks import NODE_COLUMNS, PERCENT_GAUGE, column
from dashboards.build.panels import AnyPanel, rows, stats
from dashboards.build.sql import (
    FREE_MEMORY,
    IDLE,
    gpus_chosen,
    nodes_chosen,
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


def nodes() -> AnyPanel:
    """By status."""
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


def gpus() -> AnyPanel:
    """At work, idle, free."""
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


def now() -> AnyPanel:
    """All GPUs together."""
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


def models() -> AnyPanel:
    """A row a model."""
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


def hottest() -> AnyPanel:
    """GPUs, hottest first."""
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
