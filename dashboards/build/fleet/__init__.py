"""Fleet: healthy? idle? hot? what changed?"""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.build import variables
from dashboards.build.fleet import changes, curves, present, ranks
from dashboards.build.frame import board, went_and_came_back


def dashboard() -> Dashboard:
    """The first screen of whoever is on duty."""
    chosen = [variables.org(), variables.model(), variables.nodes(), *variables.metadata()]
    return board(
        "aiwm-fleet",
        "Fleet",
        "Is the fleet healthy, who is idle, who is hot, what changed.",
        since="now-3h",
        refresh="1m",
        variables=[*chosen, variables.price_of_kwh()],
        annotations=[went_and_came_back()],
        rows=[
            ("", [present.nodes(), changes.counts(), present.gpus(), present.now(), curves.energy()]),
            ("", [curves.utilisation(), curves.temperature(), curves.power(), curves.memory()]),
            ("Who", [present.models(), curves.tenths(), ranks.busiest(), ranks.idlest(), present.hottest()]),
            ("What changed", [changes.statuses(), changes.outages()]),
        ],
    )
