"""`python -m dashboards.build` writes the dashboards; `--check` says which file is not what would be written."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.build import alerts, fleet, gpus, health, node, platform

FOLDER = Path(__file__).parents[1] / "grafana"
BOARDS = {
    "fleet": fleet.dashboard,
    "gpu-utilisation": gpus.dashboard,
    "node": node.dashboard,
    "health": health.dashboard,
    "platform": platform.dashboard,
}


def files() -> Iterator[tuple[Path, str]]:
    """Each file with its text."""
    panels: dict[tuple[str, str], int] = {}
    for name, make in BOARDS.items():
        text = json.dumps(make(), cls=JSONEncoder, indent=2, ensure_ascii=False)
        yield FOLDER / "dashboards" / f"{name}.json", f"{text}\n"
        board = json.loads(text)
        panels |= {(board["uid"], panel["title"]): panel["id"] for panel in board["panels"]}
    yield FOLDER / "provisioning" / "alerting" / "rules.yaml", alerts.text(panels)


def main(arguments: list[str]) -> int:
    """Write them, or compare."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m dashboards.build [--check]", file=sys.stderr)
        return 2
    different = [(path, text) for path, text in files() if not path.exists() or path.read_text() != text]
    for path, text in different:
        if arguments:
            print(f"{path.relative_to(Path.cwd())} is not what dashboards/build makes: run `make dashboards`.")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 1 if arguments and different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
