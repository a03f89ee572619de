"""Node: everything about one machine."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.build import variables
from dashboards.build.frame import board, statuses_of_node
from dashboards.build.node import gpus, heartbeats, machine, present, story


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
            ("", [present.status(), present.now(), present.uptime()]),
            ("", [present.statuses(), gpus.table()]),
            ("GPUs", [gpus.utilisation(), gpus.memory(), gpus.temperature(), gpus.power()]),
            ("Machine", [machine.cpu(), machine.memory(), machine.disk(), machine.network()]),
            ("Heartbeats", [heartbeats.a_minute(), heartbeats.gaps()]),
            ("What it is, and what happened to it", [story.hardware(), story.events()]),
        ],
    )
