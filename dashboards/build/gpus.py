"""GPU utilisation: who uses what there is, and what idling costs."""

from grafana_foundation_sdk.models.dashboard import Dashboard, DynamicConfigValue, FieldColorModeId

from dashboards.build import looks, variables
from dashboards.build.frame import board, went_and_came_back
from dashboards.build.looks import NODE_COLUMNS, PERCENT_GAUGE, SPREAD, by_value, colour, column, fill_below
from dashboards.build.panels import AnyPanel, bars, curves, rows, stats
from dashboards.build.sql import (
    DAY,
    FLEET_LADDER,
    FROM,
    HISTOGRAM_LADDER,
    IDLE,
    IDLE_SAMPLES,
    SETTLED,
    TO,
    WEEK_LADDER,
    Rung,
    gpus_measured,
    mean,
    measured,
    nodes_measured,
    steps_of,
)

GPU_HOUR = "nullif(${price_gpu_hour:sqlstring}, '')::float8"
DAYS_COUNT = steps_of(HISTOGRAM_LADDER, settled=True)
"""What panels of the histograms say."""
KWH = "nullif(${price_kwh:sqlstring}, '')::float8"
ENERGY = "sum(power_usage_avg * samples) / 60 / 1000"
"""kWh, of samples a minute apart."""
WEEKDAYS = ", ".join(
    f"({number}, '{name}')"
    for number, name in enumerate(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"), 1)
)
HOURS = ", ".join(f'max(utilization) FILTER (WHERE hour = {hour}) AS "{hour:02}"' for hour in range(24))


def dashboard() -> Dashboard:
    """For whoever sells GPUs, or pays for them."""
    chosen = [variables.org(), variables.model(), variables.nodes(), *variables.metadata()]
    return board(
        "aiwm-gpu-utilisation",
        "GPU utilisation",
        "By node, model and org; when it is high and low; what idles, and what that costs.",
        since="now-7d",
        refresh="5m",
        variables=[*chosen, variables.price_of_gpu_hour(), variables.price_of_kwh(), variables.timezone()],
        annotations=[went_and_came_back()],
        rows=[
            ("", [_hours(), _spread()]),
            ("", [_percentiles(), _models(), _orgs(), _idle_hours()]),
            ("When", [_weekdays()]),
            ("Who", [_nodes(), _histogram(), _idle()]),
        ],
    )


def _hours() -> AnyPanel:
    hours = measured(FLEET_LADDER[1:], "samples, power_usage_avg", nodes_measured(), settled=True)
    idle = measured(HISTOGRAM_LADDER, f"samples, {IDLE_SAMPLES} AS idle_samples", gpus_measured(), settled=True)
    return stats(
        "GPU-hours in this range",
        f"Time that GPUs were there in hours that are over, a sample being a minute; the share of samples under {IDLE} % in "
        "use (over more than three days: of whole days, UTC), what that share would have earned, and what all energy cost, "
        "at the prices chosen above.",
        f"""
SELECT hours AS "GPU-hours", hours * share AS "Idle GPU-hours", 100 * share AS "Idle share",
       hours * share * {GPU_HOUR} AS "Not earned", energy AS "Energy", energy * {KWH} AS "Energy cost"
FROM (SELECT sum(samples)::float8 / 60 AS hours, {ENERGY} AS energy FROM {hours}) AS there,
     (SELECT sum(idle_samples)::float8 / nullif(sum(samples), 0)::float8 AS share FROM {idle}) AS idle
""",
        unit=looks.GPU_HOURS,
        span=14,
        columns={
            "GPU-hours": column(unit=looks.MONEY, decimals=0),
            "Idle GPU-hours": column(unit=looks.MONEY, decimals=0, steps=looks.NOTABLE),
            "Idle share": column(unit=looks.PERCENT, decimals=1, steps=((None, "green"), (25, "orange"), (50, "red"))),
            "Not earned": column(unit=looks.MONEY, decimals=2, steps=looks.NOTABLE),
            "Energy": column(unit=looks.KWH, decimals=1),
            "Energy cost": column(unit=looks.MONEY, decimals=2),
        },
    )


def _spread() -> AnyPanel:
    source = measured(HISTOGRAM_LADDER, "node_id, device_id, samples, utilization_avg", gpus_measured(), settled=True)
    return stats(
        "Utilisation of GPUs in this range",
        f"The mean, and percentiles across GPUs of their means: half of the GPUs are used less than p50. {DAYS_COUNT}",
        f"""
SELECT sum(utilization * samples) / nullif(sum(samples), 0) AS "Mean",
       percentile_cont(0.1) WITHIN GROUP (ORDER BY utilization) AS "p10",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY utilization) AS "p50",
       percentile_cont(0.9) WITHIN GROUP (ORDER BY utilization) AS "p90"
FROM (SELECT {mean("utilization_avg")} AS utilization, sum(samples) AS samples
      FROM {source}
      GROUP BY node_id, device_id) AS gpus
WHERE utilization IS NOT NULL
""",
        unit=looks.PERCENT,
        span=10,
        steps=looks.LOAD,
    )


def _percentiles() -> AnyPanel:
    source = measured(WEEK_LADDER, "time, samples, utilization_avg", gpus_measured(), settled=True)
    return curves(
        "Percentiles across GPUs",
        "Of the GPUs' means: half of them lie between p25 and p75, a tenth below p10, a tenth above p90. "
        + steps_of(WEEK_LADDER, settled=True),
        f"""
SELECT time, {mean("utilization_avg")} AS "Mean",
       (percentiles)[1] AS "p10", (percentiles)[2] AS "p25", (percentiles)[3] AS "p50", (percentiles)[4] AS "p75",
       (percentiles)[5] AS "p90"
FROM {source}
GROUP BY time ORDER BY time
""".replace(
            "(percentiles)",
            "(percentile_cont(ARRAY[0.1, 0.25, 0.5, 0.75, 0.9]) WITHIN GROUP (ORDER BY utilization_avg))",
        ),
        unit=looks.PERCENT,
        limits=(0, 100),
        many=True,
        columns={
            "Mean": column(colour("blue")),
            "p10": column(*SPREAD),
            "p25": column(*SPREAD),
            "p50": column(colour("green")),
            "p75": column(*SPREAD, fill_below("p25")),
            "p90": column(*SPREAD, fill_below("p10")),
        },
    )


def _by(what: str, title: str, ladder: tuple[Rung, ...], where: str) -> AnyPanel:
    source = measured(ladder, f"time, {what}, samples, utilization_avg", where, settled=True)
    return curves(
        title,
        f"Mean utilisation, each bucket weighing as much as it has samples. {steps_of(ladder, settled=True)}",
        f"""
SELECT time, {what} AS metric, {mean("utilization_avg")} AS value
FROM {source}
GROUP BY time, {what} ORDER BY time, {what}
""",
        unit=looks.PERCENT,
        limits=(0, 100),
        many=True,
    )


def _models() -> AnyPanel:
    return _by("gpu_model", "By model", WEEK_LADDER, gpus_measured())


def _orgs() -> AnyPanel:
    return _by("org_id", "By org", FLEET_LADDER, nodes_measured())


def _idle_hours() -> AnyPanel:
    source = measured(HISTOGRAM_LADDER, f"time, samples, {IDLE_SAMPLES} AS idle_samples", gpus_measured(), settled=True)
    return curves(
        "GPU-hours, at work and idle",
        f"Idle: under {IDLE} % in use; a sample is a minute. {DAYS_COUNT}",
        f"""
SELECT time, sum(samples - idle_samples) / 60.0 AS "At work", sum(idle_samples) / 60.0 AS "Idle"
FROM {source}
GROUP BY time ORDER BY time
""",
        unit=looks.GPU_HOURS,
        stacked=True,
        bars=True,
        calcs=("sum",),
        columns={"At work": column(colour("green")), "Idle": column(colour("orange"))},
    )


def _weekdays() -> AnyPanel:
    cells = column(
        DynamicConfigValue("mappings", [looks.WITHOUT_COLOUR]),
        by_value(FieldColorModeId.CONTINUOUS_BL_YL_RD),
        unit=looks.PERCENT,
        cell="color-background",
        limits=(0, 100),
        decimals=0,
    )
    return rows(
        "Hours of the day by weekday",
        "Mean utilisation in the time zone chosen above, of hours that are over. Of a longer range its last 31 days.",
        f"""
SELECT weekdays.name AS "Weekday", {HOURS}
FROM (VALUES {WEEKDAYS}) AS weekdays (weekday, name)
LEFT JOIN (
    SELECT extract(isodow FROM time AT TIME ZONE zone)::int AS weekday,
           extract(hour FROM time AT TIME ZONE zone)::int AS hour, {mean("utilization_avg")} AS utilization
    FROM history.gpu_metrics_1h_by_node, (SELECT coalesce(nullif(${{timezone:sqlstring}}, ''), 'UTC') AS zone) AS chosen
    WHERE time BETWEEN greatest({FROM}, {TO} - interval '{31 * DAY} seconds') AND {TO} AND time < {SETTLED}
      AND {nodes_measured()}
    GROUP BY 1, 2
) AS measured USING (weekday)
GROUP BY weekday, weekdays.name ORDER BY weekday
""",
        unit=looks.PERCENT,
        span=24,
        height=9,
        columns={"Weekday": column(width=110)} | {f"{hour:02}": cells for hour in range(24)},
    )


def _histogram() -> AnyPanel:
    source = measured(HISTOGRAM_LADDER, "node_id, device_id, samples, utilization_avg", gpus_measured(), settled=True)
    return bars(
        "GPUs by utilisation",
        f"How many GPUs had which mean over this range. {DAYS_COUNT}",
        f"""
SELECT low || '–' || low + 10 || ' %' AS "Utilisation", count(utilization) AS "GPUs"
FROM generate_series(0, 90, 10) AS low
LEFT JOIN (SELECT {mean("utilization_avg")} AS utilization FROM {source} GROUP BY node_id, device_id) AS gpus
    ON least(floor(utilization / 10) * 10, 90) = low
GROUP BY low ORDER BY low
""",
        unit=looks.COUNT,
        span=9,
        height=12,
        by="Utilisation",
        columns={"GPUs": column(colour("blue"))},
    )


def _nodes() -> AnyPanel:
    source = measured(
        HISTOGRAM_LADDER,
        f"node_id, node_name, org_id, device_id, samples, utilization_avg, memory_used_avg, memory_total_avg, "
        f"power_usage_avg, {IDLE_SAMPLES} AS idle_samples",
        gpus_measured(),
        settled=True,
    )
    return rows(
        "Nodes",
        f"Each node's GPUs over this range, least used first. {DAYS_COUNT}",
        f"""
SELECT node_id, node_name AS "Node", org_id AS "Org", count(DISTINCT device_id) AS "GPUs",
       {mean("utilization_avg")} AS "Utilisation",
       100 * sum(memory_used_avg * samples) / nullif(sum(memory_total_avg * samples), 0) AS "Memory",
       100.0 * sum(idle_samples) / nullif(sum(samples), 0) AS "Idle", {ENERGY} AS "Energy"
FROM {source}
GROUP BY node_id, node_name, org_id ORDER BY "Utilisation" NULLS LAST, node_name
LIMIT 500
""",
        unit=looks.COUNT,
        span=15,
        height=12,
        filterable=("Node", "Org"),
        columns=NODE_COLUMNS
        | {
            "GPUs": column(width=60),
            "Utilisation": PERCENT_GAUGE,
            "Memory": PERCENT_GAUGE,
            "Idle": column(unit=looks.PERCENT, width=80, decimals=0),
            "Energy": column(unit=looks.KWH, width=100, decimals=1),
        },
    )


def _idle() -> AnyPanel:
    source = measured(
        HISTOGRAM_LADDER,
        f"node_id, node_name, device_id, gpu_model, samples, memory_used_avg, {IDLE_SAMPLES} AS idle_samples",
        gpus_measured(),
        settled=True,
    )
    return rows(
        "Idle GPUs",
        f"GPUs by the hours that they were under {IDLE} % in use, what they would have earned in them, and the memory "
        f"that was held all the same. {DAYS_COUNT}",
        f"""
SELECT node_id, node_name AS "Node", device_id AS "GPU", gpu_model AS "Model", sum(idle_samples) / 60.0 AS "Idle hours",
       100.0 * sum(idle_samples) / nullif(sum(samples), 0) AS "Idle",
       {mean("memory_used_avg")} AS "Memory held", sum(idle_samples) / 60.0 * {GPU_HOUR} AS "Not earned"
FROM {source}
GROUP BY node_id, node_name, device_id, gpu_model
HAVING sum(idle_samples) > 0
ORDER BY "Idle hours" DESC, node_name, device_id
LIMIT 100
""",
        unit=looks.COUNT,
        span=24,
        height=12,
        filterable=("Node", "GPU", "Model"),
        columns=NODE_COLUMNS
        | {
            "GPU": column(width=350),
            "Idle hours": column(unit=looks.HOURS, width=110, decimals=1),
            "Idle": column(
                unit=looks.PERCENT,
                cell="gauge",
                limits=(0, 100),
                steps=((None, "green"), (25, "orange"), (50, "red")),
                decimals=0,
            ),
            "Memory held": column(unit=looks.GB, width=110, decimals=1),
            "Not earned": column(unit=looks.MONEY, width=110, decimals=2),
        },
    )
