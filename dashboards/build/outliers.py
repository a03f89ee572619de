"""GPUs unlike others of their model: hotter, or with another power, under the same load."""

from dashboards.build import looks
from dashboards.build.looks import NODE_COLUMNS, column
from dashboards.build.panels import AnyPanel, rows
from dashboards.build.sql import LAST_HOUR, chosen, gpus_measured

HOTTER = 10
"""°C above the median of its model, under the same load, that make an outlier."""
OFF = 25
"""Percent above or below the median power of its model, under the same load, that make an outlier."""
COMPARED = f"""
WITH hour AS MATERIALIZED (
    SELECT node_key, node_id, node_name, device_id, gpu_model, least(floor(utilization_avg / 10), 9) AS tenth,
           utilization_avg AS utilization, temperature_avg AS temperature, power_usage_avg AS power
    FROM history.gpu_metrics_1h
    WHERE {LAST_HOUR} AND {chosen("model", "gpu_model")}
), usual AS (
    SELECT gpu_model, tenth, count(*) AS gpus,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY temperature) AS temperature,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY power) AS power
    FROM hour GROUP BY gpu_model, tenth HAVING count(*) >= 3
)
"""
"""The last whole hour of the range; GPUs are compared with all of their model in the same tenth of utilisation, chosen or not."""


def hotter() -> AnyPanel:
    """By temperature."""
    return rows(
        "Hotter than others of their model",
        f"Over the last whole hour of this range: {HOTTER} °C or more above the median of GPUs of the same model in the same "
        "tenth of utilisation. A fan, dust, or its place in the chassis.",
        f"""
{COMPARED.strip()}
SELECT node_id, node_name AS "Node", device_id AS "GPU", gpu_model AS "Model", utilization AS "Utilisation",
       hour.temperature AS "Temperature", hour.temperature - usual.temperature AS "Above usual"
FROM hour JOIN usual USING (gpu_model, tenth)
WHERE hour.temperature - usual.temperature >= {HOTTER}
  AND {gpus_measured()}
ORDER BY "Above usual" DESC, node_name, device_id
LIMIT 50
""",
        unit=looks.CELSIUS,
        columns=NODE_COLUMNS
        | {
            "Utilisation": column(unit=looks.PERCENT, width=90, decimals=0),
            "Temperature": column(steps=looks.HEAT, cell="color-text", width=100, decimals=0),
            "Above usual": column(steps=((None, "orange"), (20, "red")), cell="gauge", limits=(0, 40), decimals=0),
        },
    )


def power_off() -> AnyPanel:
    """By power."""
    return rows(
        "Power unlike others of their model",
        f"Over the last whole hour of this range: {OFF} % or more from the median of GPUs of the same model in the same tenth "
        "of utilisation. Much less may be a power cap or throttling.",
        f"""
{COMPARED.strip()}
SELECT node_id, node_name AS "Node", device_id AS "GPU", gpu_model AS "Model", utilization AS "Utilisation",
       hour.power AS "Power", usual.power AS "Usual", 100 * (hour.power / nullif(usual.power, 0) - 1) AS "Off by"
FROM hour JOIN usual USING (gpu_model, tenth)
WHERE abs(hour.power / nullif(usual.power, 0) - 1) >= {OFF / 100}
  AND {gpus_measured()}
ORDER BY abs(hour.power / nullif(usual.power, 0) - 1) DESC, node_name, device_id
LIMIT 50
""",
        unit=looks.WATT,
        columns=NODE_COLUMNS
        | {
            "Model": column(width=120),
            "Utilisation": column(unit=looks.PERCENT, width=90, decimals=0),
            "Power": column(width=75, decimals=0),
            "Usual": column(width=75, decimals=0),
            "Off by": column(
                unit=looks.PERCENT, steps=((None, "purple"), (0, "orange")), cell="color-text", width=75, decimals=0
            ),
        },
    )
