"""Node: everything about one machine."""

from grafana_foundation_sdk.models.dashboard import Dashboard, DynamicConfigValue, ValueMap, ValueMappingResult

from dashboards.build import looks, variables
from dashboards.build.frame import board, statuses_of_node
from dashboards.build.looks import PERCENT_GAUGE, colour, column
from dashboards.build.panels import AnyPanel, curves, rows, stats, timeline
from dashboards.build.sql import (
    DAY,
    FROM,
    NODE_GPU_LADDER,
    NODE_LADDER,
    ONE_NODE,
    RANGE,
    TO,
    broken_at_gaps,
    bucket,
    chosen,
    measured,
    steps_of,
)

NODE = "node_id IN (${node:sqlstring})"
GPUS = f"{NODE} AND {chosen('device', 'device_id')}"
GPUS_MEASURED = f"{ONE_NODE} AND {chosen('device', 'device_id')}"
HEARTBEATS = f"{RANGE} <= {2 * DAY}"
"""Raw heartbeats are read over short ranges alone."""
SILENCE = 90
"""Seconds between two heartbeats from which on they are a gap: what the service waits before it says offline."""

KINDS = {
    "status": "orange",
    "registered": "green",
    "gpu_vanished": "red",
    "gpu_appeared": "green",
    "hardware_changed": "yellow",
    "taken_over": "purple",
    "clock_skew": "red",
    "tokens_revoked": "yellow",
    "deleted": "red",
}
SIZE = """
    CASE WHEN {field} < 1024 THEN round({field}::numeric, 1)::float8 || ' GiB'
         ELSE round({field}::numeric / 1024, 2)::float8 || ' TiB' END"""
"""As the panels show it."""
CHANGED = """
    (SELECT string_agg(concat_ws(' ', key, nullif(concat_ws(' → ', value ->> 'from', value ->> 'to'), '')), ', ')
     FROM jsonb_each(detail -> 'changed'))"""
GPU = "concat_ws(', ', detail ->> 'deviceId', detail ->> 'model')"
MORE = {
    "status": "concat_ws(' → ', detail ->> 'from', detail ->> 'to') || coalesce(': ' || (detail ->> 'reason'), '')",
    "created": "detail ->> 'name'",
    "changed": CHANGED,
    "registered": "concat_ws(', ', detail ->> 'hostname', detail ->> 'os', detail ->> 'cpuModel')",
    "hardware_changed": CHANGED,
    "gpu_appeared": GPU,
    "gpu_vanished": GPU,
    "taken_over": "'by another connection'",
    "clock_skew": "round((detail ->> 'clockSkewMs')::numeric / 1000, 1) || ' s behind the server'",
    "token_made": "'good until ' || (detail ->> 'expiresAt')",
}
"""What is worth telling of an event, by its kind."""
HARDWARE = {
    "Name": "node_name",
    "_id": "node_id",
    "Org": "org_id",
    "Role": "array_to_string(role, ', ')",
    "Hostname": "hostname",
    "Operating system": "os",
    "CPU": "cpu_model",
    "CPU cores": "cpu_cores::text",
    "Memory": SIZE.format(field="ram_total"),
    "Disk": SIZE.format(field="disk_total"),
    "GPUs": "(SELECT string_agg(DISTINCT gpu_model, ', ') FROM history.gpus g WHERE g.node_id = n.node_id AND g.removed_at IS NULL)",
    "Address": "ip_address",
    "Public address": "public_ip_address",
    "VPN address": "vpn_ip",
    "Worker": "daemon_version",
    "Container runtime": "container_runtime",
    "Metadata": "nullif(metadata, '{}'::jsonb)::text",
    "Created": "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC'",
    "Registered": "to_char(registered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC'",
}


def dashboard() -> Dashboard:
    """Where a link from the fleet, the portal or an alert ends."""
    return board(
        "aiwm-node",
        "Node",
        "Everything about one node: its status, heartbeats, machine, GPUs and what happened to it.",
        since="now-24h",
        refresh="1m",
        variables=[variables.org(), variables.node(), variables.device()],
        annotations=[statuses_of_node()],
        rows=[
            ("", [_status(), _now(), _range()]),
            ("", [_statuses(), _gpus()]),
            ("GPUs", [_utilisation(), _memory_of_gpus(), _temperature(), _power()]),
            ("Machine", [_cpu(), _memory(), _disk(), _network()]),
            ("Heartbeats", [_heartbeats(), _gaps()]),
            ("What it is, and what happened to it", [_hardware(), _events()]),
        ],
    )


def _status() -> AnyPanel:
    return stats(
        "Status",
        "The status now, and for how long the node has sent neither heartbeat nor metrics.",
        f"""
SELECT status AS "Status", extract(epoch FROM now() - last_heartbeat)::float8 AS "Since heartbeat",
       extract(epoch FROM now() - last_metrics_at)::float8 AS "Since metrics"
FROM history.nodes
WHERE {NODE}
""",
        unit=looks.SECONDS,
        span=8,
        columns={
            "Status": column(unit="string", statuses=True),
            "Since heartbeat": column(decimals=0),
            "Since metrics": column(decimals=0),
        },
    )


def _now() -> AnyPanel:
    return stats(
        "Now",
        "Of its last heartbeat: CPU and memory in use, and how long the machine runs. Skew: how far its clock is behind "
        "the server's. Delay: from its newest metrics to their arrival.",
        f"""
SELECT cpu_usage AS "CPU", ram_usage AS "Memory", uptime_seconds AS "Uptime", clock_skew_ms AS "Clock skew",
       extract(epoch FROM last_metrics_at - last_sample_at)::float8 AS "Delay"
FROM history.nodes
WHERE {NODE}
""",
        unit=looks.PERCENT,
        span=10,
        columns={
            "CPU": column(steps=looks.FULL, decimals=0),
            "Memory": column(steps=looks.FULL, decimals=0),
            "Uptime": column(unit=looks.SECONDS, decimals=0),
            "Clock skew": column(unit=looks.MILLISECONDS, steps=looks.SKEW, decimals=0),
            "Delay": column(unit=looks.SECONDS, steps=looks.DELAY, decimals=1),
        },
    )


def _range() -> AnyPanel:
    source = measured(NODE_GPU_LADDER, "power_usage_avg, hours", ONE_NODE)
    return stats(
        "In this range",
        f"Uptime: online ÷ (online + offline). Energy: what its GPUs drew. {steps_of(NODE_GPU_LADDER)}",
        f"""
SELECT (SELECT 100 * sum(length) FILTER (WHERE status = 'online') / nullif(sum(length), 0)
        FROM (SELECT status, extract(epoch FROM least(coalesce(ended_at, now()), {TO})
                                                - greatest(started_at, {FROM}))::float8 AS length
              FROM history.status_periods
              WHERE {NODE} AND status IN ('online', 'offline')
                AND started_at <= {TO} AND (ended_at IS NULL OR ended_at >= {FROM})) AS periods) AS "Uptime",
       (SELECT sum(power_usage_avg * hours) / 1000 FROM {source}) AS "Energy"
""",
        unit=looks.PERCENT,
        span=6,
        columns={
            "Uptime": column(steps=((None, "red"), (95, "orange"), (99.5, "green")), decimals=2),
            "Energy": column(unit=looks.KWH, decimals=1),
        },
    )


def _statuses() -> AnyPanel:
    return timeline(
        "Status over time",
        "Which status the node had; nothing before it was created and after it was deleted.",
        f"""
SELECT time, status AS "Status"
FROM (SELECT greatest(started_at, {FROM}) AS time, status FROM history.status_periods
      WHERE {NODE} AND started_at <= {TO} AND (ended_at IS NULL OR ended_at > {FROM})
      UNION ALL
      SELECT deleted_at, NULL FROM history.nodes WHERE {NODE} AND $__timeFilter(deleted_at)) AS statuses
ORDER BY time
LIMIT 2000
""",
    )


def _gpus() -> AnyPanel:
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


def _utilisation() -> AnyPanel:
    return _by_gpu(
        *("Utilisation of each GPU", "Mean of each step.", "utilization_avg"),
        unit=looks.PERCENT,
        limits=(0, 100),
    )


def _memory_of_gpus() -> AnyPanel:
    return _by_gpu(
        *("Memory of each GPU", "In use, mean of each step.", "memory_used_avg"),
        unit=looks.GB,
    )


def _temperature() -> AnyPanel:
    return _by_gpu(
        *("Temperature of each GPU", "The hottest moment of each step.", "temperature_max"),
        unit=looks.CELSIUS,
        limits=(None, None),
        steps=looks.HEAT,
    )


def _power() -> AnyPanel:
    return _by_gpu(
        *("Power of each GPU", "Mean watts of each step, one GPU upon the other.", "power_usage_avg"),
        unit=looks.WATT,
        stacked=True,
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


def _cpu() -> AnyPanel:
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


def _memory() -> AnyPanel:
    return _machine(
        "Memory",
        "In use and in all.",
        {"In use": "memory_used_avg", "All": "memory_total_max"},
        {"In use": column(colour("blue")), "All": column(colour("text"))},
        unit=looks.GB,
    )


def _disk() -> AnyPanel:
    return _machine(
        "Disk",
        "In use and in all.",
        {"In use": "disk_used_max", "All": "disk_total_max"},
        {"In use": column(colour("blue")), "All": column(colour("text"))},
        unit=looks.GB,
    )


def _network() -> AnyPanel:
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


def _heartbeats() -> AnyPanel:
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


def _gaps() -> AnyPanel:
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


def _hardware() -> AnyPanel:
    facts = ",\n    ".join(f"({number}, '{name}', {value})" for number, (name, value) in enumerate(HARDWARE.items()))
    return rows(
        "Hardware and software",
        "As the node registered, and what its owner noted.",
        f"""
SELECT fact AS "Fact", value AS "Value"
FROM history.nodes n CROSS JOIN LATERAL (VALUES
    {facts}
) AS facts (place, fact, value)
WHERE {NODE} AND value IS NOT NULL
ORDER BY place
""",
        unit="string",
        span=10,
        height=12,
        columns={"Fact": column(width=160)},
    )


def _events() -> AnyPanel:
    kinds = ValueMap(
        {kind: ValueMappingResult(text=kind.replace("_", " "), color=shade) for kind, shade in KINDS.items()}
    )
    more = "\n".join(f"WHEN '{kind}' THEN {told}" for kind, told in MORE.items())
    return rows(
        "Events",
        "What happened, who did it (empty: the worker or the service), newest first.",
        f"""
SELECT time AS "Time", kind AS "What", actor AS "Who", CASE kind
{more}
END AS "More"
FROM history.node_events
WHERE {NODE} AND $__timeFilter(time)
ORDER BY time DESC
LIMIT 200
""",
        unit="string",
        span=14,
        height=12,
        filterable=("What", "Who"),
        columns={
            "Time": column(unit=looks.TIME, width=160),
            "What": column(DynamicConfigValue("mappings", [kinds]), cell="color-text", width=130),
            "Who": column(width=120),
        },
    )
