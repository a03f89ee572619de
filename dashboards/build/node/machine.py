"""The machine around them."""

from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from dashboards.build import looks
from dashboards.build.looks import colour, column
from dashboards.build.panels import AnyPanel, curves
from dashboards.build.sql import (
    NODE_LADDER,
    ONE_NODE,
    broken_at_gaps,
    measured,
    steps_of,
)


def _machine(
    title: str, description: str, columns: dict[str, str], looks_of: dict[str, list[DynamicConfigValue]], **more: object
) -> AnyPanel:
    values = ", ".join(columns.values())
    source = measured(NODE_LADDER, f"time, step, {values}", ONE_NODE)
    selected = ", ".join(f'{field} AS "{name}"' for name, field in columns.items())
    return curves(
        title,
        f"{description} {steps_of(NODE_LADDER)}",
        f"SELECT time, {selected}\nFROM {broken_at_gaps('', values, source)}\nORDER BY time",
        columns=looks_of,
        **more,  # type: ignore[arg-type]
    )


def cpu() -> AnyPanel:
    """In use, and its temperature."""
    return _machine(
        "CPU",
        "In use, mean and highest, and its temperature on the right-hand axis.",
        {"In use": "cpu_usage_avg", "Highest": "cpu_usage_max", "Temperature": "cpu_temperature_avg"},
        {
            "In use": column(colour("blue")),
            "Highest": column(colour("super-light-blue")),
            "Temperature": column(
                colour("orange"),
                DynamicConfigValue("custom.axisPlacement", "right"),
                unit=looks.CELSIUS,
                limits=(0, 110),
            ),
        },
        unit=looks.PERCENT,
        limits=(0, 100),
    )


def memory() -> AnyPanel:
    """In use and in all."""
    return _machine(
        "Memory",
        "In use and in all.",
        {"In use": "memory_used_avg", "All": "memory_total_max"},
        {"In use": column(colour("blue")), "All": column(colour("text"))},
        unit=looks.GB,
    )


def disk() -> AnyPanel:
    """In use and in all."""
    return _machine(
        "Disk",
        "In use and in all.",
        {"In use": "disk_used_max", "All": "disk_total_max"},
        {"In use": column(colour("blue")), "All": column(colour("text"))},
        unit=looks.GB,
    )


def network() -> AnyPanel:
    """Both ways."""
    source = measured(NODE_LADDER, "time, step, network_bytes_in_last, network_bytes_out_last", ONE_NODE)
    rate = """
    (CASE WHEN time - lag(time) OVER earlier > 3 * step THEN NULL
          WHEN {bytes} >= lag({bytes}) OVER earlier THEN {bytes} - lag({bytes}) OVER earlier ELSE {bytes} END)::float8
        / nullif(extract(epoch FROM time - lag(time) OVER earlier), 0)::float8"""
    received, sent = (rate.format(bytes=f"network_bytes_{way}_last") for way in ("in", "out"))
    return curves(
        "Network",
        f"Bytes a second, from counters; one that falls started anew. {steps_of(NODE_LADDER)}",
        f"""
SELECT time, {received} AS "Received", {sent} AS "Sent"
FROM {source}
WINDOW earlier AS (ORDER BY time)
ORDER BY time
""",
        unit=looks.BYTES_A_SECOND,
        columns={"Received": column(colour("green")), "Sent": column(colour("blue"))},
    )
