"""Who did most, and who least."""

from dashboards.build import looks
from dashboards.build.looks import NODE_COLUMNS, PERCENT_GAUGE
from dashboards.build.panels import AnyPanel, rows
from dashboards.build.sql import (
    FLEET_LADDER,
    mean,
    measured,
    nodes_measured,
    steps_of,
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


def busiest() -> AnyPanel:
    """Nodes by utilisation."""
    return _ranked("Busiest nodes", "highest first", "DESC")


def idlest() -> AnyPanel:
    """The other end."""
    return _ranked("Idlest nodes", "lowest first", "ASC")
