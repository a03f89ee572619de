"""What its GPUs did in this range."""

from dashboards.build import looks
from dashboards.build.looks import SPREAD, colour, column, fill_below
from dashboards.build.panels import AnyPanel, buckets, curves, stats
from dashboards.build.sql import (
    FLEET_LADDER,
    GPU_LADDER,
    gpus_measured,
    mean,
    measured,
    nodes_measured,
    steps_of,
)

TENTHS = ", ".join(
    f'coalesce(sum(gpus) FILTER (WHERE tenth = {tenth}), 0)::bigint AS "{10 * tenth}–{10 * tenth + 10} %"'
    for tenth in range(10)
)
"""100 % belongs to the last one. By tenth is counted first: otherwise each GPU's row would be looked at ten times."""


def utilisation() -> AnyPanel:
    """Mean and spread."""
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


def temperature() -> AnyPanel:
    """Mean and hottest."""
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


def power() -> AnyPanel:
    """By org."""
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


def memory() -> AnyPanel:
    """In use and in all."""
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


def tenths() -> AnyPanel:
    """A heat map."""
    source = measured(GPU_LADDER, "time, utilization_avg", gpus_measured())
    return buckets(
        "Utilisation of the fleet over time",
        "How many GPUs were used how much: each cell counts those whose mean lies in that tenth. "
        + steps_of(GPU_LADDER),
        f"""
SELECT time, {TENTHS}
FROM (
    SELECT time, CASE WHEN utilization_avg < 90 THEN floor(utilization_avg / 10) ELSE 9 END AS tenth, count(*) AS gpus
    FROM {source}
    WHERE utilization_avg IS NOT NULL
    GROUP BY 1, 2
) AS counted
GROUP BY time ORDER BY time
""",
        unit=looks.COUNT,
    )


def energy() -> AnyPanel:
    """And what it cost."""
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
