"""Its GPUs: what was last heard of each, and their curves."""

from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from dashboards.build import looks
from dashboards.build.looks import PERCENT_GAUGE, column
from dashboards.build.node.present import NODE
from dashboards.build.panels import AnyPanel, curves, rows
from dashboards.build.sql import (
    NODE_GPU_LADDER,
    ONE_NODE,
    broken_at_gaps,
    chosen,
    measured,
    steps_of,
)

GPUS = f"{NODE} AND {chosen('device', 'device_id')}"
GPUS_MEASURED = f"{ONE_NODE} AND {chosen('device', 'device_id')}"


def table() -> AnyPanel:
    """A row a GPU."""
    return rows(
        "GPUs",
        "What was last heard of each GPU. Removed: when the node registered without it.",
        f"""
SELECT device_id AS "GPU", gpu_model AS "Model", utilization AS "Utilisation",
       100 * (memory_total - memory_free) / nullif(memory_total, 0) AS "Memory", memory_total AS "Memory in all",
       temperature AS "Temperature", power_usage AS "Power", first_seen AS "First seen", removed_at AS "Removed"
FROM history.gpus
WHERE {GPUS}
ORDER BY removed_at NULLS FIRST, device_id
LIMIT 200
""",
        unit=looks.PERCENT,
        span=24,
        height=10,
        columns={
            "GPU": column(width=350),
            "Utilisation": PERCENT_GAUGE,
            "Memory": PERCENT_GAUGE,
            "Memory in all": column(unit=looks.GB, width=110, decimals=0),
            "Temperature": column(unit=looks.CELSIUS, steps=looks.HEAT, cell="gauge", limits=(20, 100), decimals=0),
            "Power": column(unit=looks.WATT, width=90, decimals=0),
            "First seen": column(unit=looks.TIME, width=160),
            "Removed": column(
                DynamicConfigValue("mappings", [looks.WITHOUT_COLOUR]),
                unit=looks.TIME,
                width=160,
                steps=((None, "red"),),
                cell="color-text",
            ),
        },
    )


def _by_gpu(title: str, description: str, field: str, **more: object) -> AnyPanel:
    source = measured(NODE_GPU_LADDER, f"time, step, device_id, {field}", GPUS_MEASURED)
    return curves(
        title,
        f"{description} {steps_of(NODE_GPU_LADDER)}",
        f"""
SELECT time, device_id AS metric, {field} AS value
FROM {broken_at_gaps("device_id", field, source)}
ORDER BY time, device_id
""",
        span=24,
        many=True,
        **more,  # type: ignore[arg-type]
    )


def utilisation() -> AnyPanel:
    """A line a GPU."""
    return _by_gpu(
        *("Utilisation of each GPU", "Mean of each step.", "utilization_avg"),
        unit=looks.PERCENT,
        limits=(0, 100),
    )


def memory() -> AnyPanel:
    """A line a GPU."""
    return _by_gpu(
        *("Memory of each GPU", "In use, mean of each step.", "memory_used_avg"),
        unit=looks.GB,
    )


def temperature() -> AnyPanel:
    """A line a GPU."""
    return _by_gpu(
        *("Temperature of each GPU", "The hottest moment of each step.", "temperature_max"),
        unit=looks.CELSIUS,
        limits=(None, None),
        steps=looks.HEAT,
    )


def power() -> AnyPanel:
    """One GPU upon the other."""
    return _by_gpu(
        *("Power of each GPU", "Mean watts of each step, one GPU upon the other.", "power_usage_avg"),
        unit=looks.WATT,
        stacked=True,
    )
