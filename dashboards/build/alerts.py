"""The alert rules, written as the YAML that Grafana provisions.

Each query names what is at fault, a row each: text columns become labels, the one number its value. So no rows mean
that all is well, at most 100 rows keep a fleet that vanishes one message, and no rule depends on a range.
Grafana replaces `$NAME` in some of the fields and not in others; there is no dollar in any of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import dedent
from typing import Any, Final

import yaml

from dashboards.build.sql import IDLE

HOT: Final = 85
"""°C. Data centre GPUs slow themselves down at about 90."""
SILENT: Final = 300
"""s. Five times the interval of metrics: four may get lost."""
OCCUPIED: Final = 50
"""% of a GPU's memory in use: somebody has put something on it."""
FULL: Final = 90
"""% of a node's disk in use."""

Panels = Mapping[tuple[str, str], int]
"""The id of each panel, by its dashboard's uid and its title."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: when it fires, how loud, and what the person who is woken reads."""

    uid: str
    title: str
    sql: str
    over: float
    lasting: str
    severity: str
    summary: str
    description: str
    first: str
    panel: tuple[str, str]
    on_error: str = "KeepLast"
    """What a query that fails does to it. One rule says that the database does not answer, the others wait."""

    @property
    def anchor(self) -> str:
        """Its heading in docs/operations.md."""
        return self.title.lower().replace(" ", "-")


NODE_OFFLINE: Final = Rule(
    uid="aiwm-node-offline",
    title="Node offline",
    sql="""
        SELECT node_id, node_name, org_id, extract(epoch FROM now() - last_heartbeat)::float8 AS silent
        FROM history.nodes
        WHERE status = 'offline' AND deleted_at IS NULL
        ORDER BY last_heartbeat DESC, node_id
        LIMIT 100
    """,
    over=0,
    lasting="2m",
    severity="critical",
    summary="{{ .Labels.node_name }} is offline",
    description="Nothing was heard of node {{ .Labels.node_id }} for {{ humanizeDuration .Values.A.Value }}.",
    first="See whether the machine runs; if it is meant to be away, set it to maintenance.",
    panel=("aiwm-node", "Status over time"),
)
GPU_HOT: Final = Rule(
    uid="aiwm-gpu-hot",
    title="GPU hot",
    sql=f"""
        SELECT g.node_id, g.node_name, g.org_id, g.device_id, g.gpu_model, g.temperature
        FROM history.gpus g JOIN history.nodes n USING (node_id)
        WHERE g.temperature > {HOT} AND g.removed_at IS NULL AND n.status = 'online' AND n.deleted_at IS NULL
        ORDER BY g.node_id, g.device_id
        LIMIT 100
    """,
    over=HOT,
    lasting="10m",
    severity="critical",
    summary="A GPU of {{ .Labels.node_name }} is hot",
    description="{{ .Labels.gpu_model }} {{ .Labels.device_id }} of node {{ .Labels.node_id }} has "
    f'{{{{ printf "%.0f" .Values.A.Value }}}} °C, and was over {HOT} °C for 10 minutes.',
    first="Look at fans and air; a GPU that is this hot slows itself down.",
    panel=("aiwm-node", "Temperature of each GPU"),
)
TELEMETRY_LATE: Final = Rule(
    uid="aiwm-telemetry-late",
    title="Telemetry late",
    sql=f"""
        SELECT node_id, node_name, org_id, age
        FROM history.nodes
        CROSS JOIN LATERAL (
            SELECT extract(epoch FROM now() - coalesce(last_sample_at, registered_at))::float8 AS age
        ) AS newest
        WHERE status = 'online' AND deleted_at IS NULL AND age > {SILENT}
        ORDER BY node_id
        LIMIT 100
    """,
    over=SILENT,
    lasting="5m",
    severity="critical",
    summary="Metrics of {{ .Labels.node_name }} come late",
    description="Node {{ .Labels.node_id }} is online, and its newest metrics are "
    "{{ humanizeDuration .Values.A.Value }} old.",
    first="Of one node: its worker, its network, its clock. Of all at once: the service or the database.",
    panel=("aiwm-health", "Telemetry longest on the way"),
    on_error="Error",
)
GPU_IDLE: Final = Rule(
    uid="aiwm-gpu-idle",
    title="GPU idle with its memory in use",
    sql=f"""
        SELECT h.node_id, h.node_name, h.org_id, h.device_id, h.gpu_model,
               100 * avg(h.memory_used_avg / nullif(h.memory_total_avg, 0)) AS memory
        FROM history.gpu_metrics_1h h JOIN history.gpus g USING (node_id, device_id)
        WHERE h.time >= date_trunc('hour', now()) - interval '6 hours' AND h.time < date_trunc('hour', now())
          AND g.removed_at IS NULL AND g.utilization < {IDLE}
        GROUP BY h.node_id, h.node_name, h.org_id, h.device_id, h.gpu_model
        HAVING count(h.utilization_max) = 6 AND max(h.utilization_max) < {IDLE}
           AND avg(h.memory_used_avg / nullif(h.memory_total_avg, 0)) > {OCCUPIED / 100}
        ORDER BY h.node_id, h.device_id
        LIMIT 100
    """,
    over=OCCUPIED,
    lasting="0s",  # the six hours are in the query: a restart of Grafana forgets none of them
    severity="warning",
    summary="A GPU of {{ .Labels.node_name }} is occupied and idle",
    description="{{ .Labels.gpu_model }} {{ .Labels.device_id }} of node {{ .Labels.node_id }} was used less than "
    f'{IDLE} % in each of the last 6 hours, with {{{{ printf "%.0f" .Values.A.Value }}}} % of its memory taken.',
    first="Ask whose job it is: it may hang, or have been forgotten.",
    panel=("aiwm-node", "Memory of each GPU"),
)
DISK_FULL: Final = Rule(
    uid="aiwm-disk-full",
    title="Disk nearly full",
    sql=f"""
        SELECT node_id, node_name, org_id, min(disk_usage) AS disk
        FROM history.node_metrics
        WHERE time > now() - interval '10 minutes' AND time <= now()
        GROUP BY node_id, node_name, org_id
        HAVING min(disk_usage) > {FULL}
        ORDER BY node_id
        LIMIT 100
    """,
    over=FULL,
    lasting="5m",
    severity="warning",
    summary="The disk of {{ .Labels.node_name }} is nearly full",
    description='Node {{ .Labels.node_id }} has {{ printf "%.0f" .Values.A.Value }} % of its disk in use, '
    f"and was over {FULL} % for 10 minutes.",
    first="Clear old images and checkpoints from the machine.",
    panel=("aiwm-node", "Disk"),
)
# What was stored on time, and is not in the rollup although every policy had its turn since. A silent fleet has
# nothing to roll up, and a rollup without rows, as of GPUs where there are none, is not behind.
ROLLUP_BEHIND: Final = Rule(
    uid="aiwm-rollup-behind",
    title="Rollup behind",
    sql="""
        SELECT r.name AS rollup, extract(epoch FROM now() - min(i.time))::float8 AS behind
        FROM (VALUES ('node_metrics_5m', interval '1 hour'), ('gpu_metrics_5m', interval '1 hour'),
                     ('gpu_metrics_5m_by_node', interval '1 hour'),
                     ('node_metrics_1h', interval '6 hours'), ('gpu_metrics_1h', interval '6 hours'),
                     ('gpu_metrics_1h_by_node', interval '6 hours'),
                     ('node_metrics_1d', interval '36 hours'), ('gpu_metrics_1d', interval '36 hours')
        ) AS r (name, allowed)
        JOIN history.platform_rollups USING (name)
        JOIN history.platform_ingest i ON i.time > rolled_until AND i.frames > i.late_frames
        WHERE i.time > now() - interval '3 days'
        GROUP BY r.name, r.allowed
        HAVING now() - min(i.time) > r.allowed
    """,
    over=0,
    lasting="15m",
    severity="warning",
    summary="Rollup {{ .Labels.rollup }} is behind",
    description="What was stored {{ humanizeDuration .Values.A.Value }} ago is not in {{ .Labels.rollup }} yet. "
    "Nothing is lost: answers come from finer tables, and cost more.",
    first="`aiwm db status` names the job that fails; the database's log says why.",
    panel=("aiwm-platform", "Rollups"),
)
GROUPS: Final = {
    "now": ("1m", (NODE_OFFLINE, GPU_HOT, TELEMETRY_LATE)),
    "by and by": ("5m", (GPU_IDLE, DISK_FULL, ROLLUP_BEHIND)),
}
"""Each group is asked at an interval of its own."""


def text(panels: Panels) -> str:
    """The file. Raises KeyError where a rule's panel is not there."""
    groups = [
        {
            "orgId": 1,
            "name": name,
            "folder": "AIWM alerts",
            "interval": interval,
            "rules": [_rule(rule, panels[rule.panel]) for rule in rules],
        }
        for name, (interval, rules) in GROUPS.items()
    ]
    rules: str = yaml.dump(
        {"apiVersion": 1, "groups": groups}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120
    )
    return f"# Made by dashboards/build/alerts.py: `make dashboards` writes it anew.\n{rules}"


def _rule(rule: Rule, panel: int) -> dict[str, Any]:
    dashboard = rule.panel[0]
    return {
        "uid": rule.uid,
        "title": rule.title,
        "condition": "C",
        "for": rule.lasting,
        # A row is a fault, so no rows are good news.
        "noDataState": "OK",
        "execErrState": rule.on_error,
        "data": [_query(rule.sql), _threshold(rule.over)],
        "labels": {"severity": rule.severity, "service": "aiwm"},
        "annotations": {
            "summary": rule.summary,
            "description": rule.description,
            "runbook": f"{rule.first} See docs/operations.md#{rule.anchor}",
            "__dashboardUid__": dashboard,
            "__panelId__": str(panel),
        },
        "dashboardUid": dashboard,
        "panelId": panel,
    }


def _query(sql: str) -> dict[str, Any]:
    return {
        "refId": "A",
        "datasourceUid": "aiwm",
        "relativeTimeRange": {"from": 600, "to": 0},
        "model": {
            "refId": "A",
            "datasource": {"type": "grafana-postgresql-datasource", "uid": "aiwm"},
            "format": "table",
            "rawQuery": True,
            "editorMode": "code",
            "rawSql": dedent(sql).strip() + "\n",
        },
    }


def _threshold(over: float) -> dict[str, Any]:
    return {
        "refId": "C",
        "datasourceUid": "__expr__",
        "relativeTimeRange": {"from": 0, "to": 0},
        "model": {
            "refId": "C",
            "type": "threshold",
            "datasource": {"type": "__expr__", "uid": "__expr__"},
            "expression": "A",
            "conditions": [{"type": "query", "evaluator": {"type": "gt", "params": [over]}}],
        },
    }


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """SQL as it is read: a line each."""


def _string(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _string)
