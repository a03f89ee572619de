"""What it is, and what happened to it."""

from grafana_foundation_sdk.models.dashboard import DynamicConfigValue, ValueMap, ValueMappingResult

from dashboards.build import looks
from dashboards.build.looks import column
from dashboards.build.node.present import NODE
from dashboards.build.panels import AnyPanel, rows

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


def hardware() -> AnyPanel:
    """What it registered with."""
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


def events() -> AnyPanel:
    """Newest first."""
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
