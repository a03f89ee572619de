"""`make pictures`: fill a database with a simulated fleet, ask it what the dashboards ask, and draw the answers.

AIWM_BENCH_DATABASE_URL names a server with TimescaleDB on which databases may be made and dropped; without it an
embedded PostgreSQL is started, whose pictures have no compression and no jobs.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from app.storage.engines.choice import installed_engine
from bench.__main__ import server
from bench.databases import fresh_database
from dashboards.pictures import answers, browser
from dashboards.pictures.fill import fill

DATABASE: Final = "aiwm_pictures"
DASHBOARDS: Final = {
    file.stem: json.loads(file.read_text()) for file in sorted(Path("dashboards/grafana/dashboards").glob("*.json"))
}
PICTURES: Final = Path("docs/pictures")
NODE: Final = "hcm-h100-06"
"""The one whose dashboard is shown."""


async def ask(url: str) -> dict[str, dict[str, Any]]:
    """What every dashboard shows of a fleet in a fresh database of this server, by the name of its file."""
    now = datetime.now(UTC)
    async with fresh_database(url, DATABASE) as database:
        await fill(database, await installed_engine(database), now)
        async with database.own_connection() as connection:
            await answers.stand_still(connection, now)
            node = str(await connection.fetchval("SELECT node_id FROM history.nodes WHERE node_name = $1", NODE))
            return {
                name: await answers.answered(connection, dashboard, now, node) for name, dashboard in DASHBOARDS.items()
            }


def main() -> None:
    """Run it."""
    with TemporaryDirectory() as temporary, server() as url:
        folder = Path(temporary)
        try:
            browser.bundle(folder)
            print("The fleet reports for a week, which takes some minutes …", flush=True)
            for name, answered in asyncio.run(ask(url)).items():
                picture = PICTURES / f"{name}.png"
                browser.draw(answered, folder, picture)
                print(f"{picture}: {picture.stat().st_size / 1024:.0f} KB", flush=True)
        except browser.BrowserError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
