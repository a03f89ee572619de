"""`aiwm nodes` against the real service."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from app.errors import StartupError
from app.nodes_cli.command import nodes_command
from app.portal import Portal
from app.storage.database import Database
from tests.fakes import FakeClock
from tests.integration.gateway import Gateway, running_gateway


async def run(gateway: Gateway, *arguments: str) -> Result:
    """The command in a thread, since it has an event loop of its own. A StartupError is `exception`."""
    environment = {
        "AIWM_PUBLIC_URL": gateway.settings.url,
        "AIWM_TOKEN": gateway.http.headers["Authorization"].removeprefix("Bearer "),
    }
    return await asyncio.to_thread(CliRunner(env=environment).invoke, nodes_command, arguments)


async def names(gateway: Gateway) -> list[str]:
    answer = (await gateway.http.get("/nodes", params={"limit": 1000})).json()
    return sorted(node["name"] for node in answer["data"])


async def test_a_node_from_creation_to_deletion(database: Database, clock: FakeClock) -> None:
    """Created, listed, shown by its name, given a token that connects, deleted."""
    async with running_gateway(database, clock) as gateway:
        made = json.loads((await run(gateway, "create", "gpu-01", "--metadata", "rack=7", "--json")).stdout)
        assert made["metadata"] == {"rack": "7"}
        assert made["_id"] in (await run(gateway, "list", "--status", "pending")).stdout
        shown = json.loads((await run(gateway, "show", "gpu-01", "--json")).stdout)
        assert shown == made
        token = (await run(gateway, "token", "gpu-01", "--expires-in", "3600")).stdout.strip()
        async with gateway.worker(token) as worker:
            assert (await worker.receive())["status"] == "success"
        assert (await run(gateway, "delete", "gpu-01", "--yes")).exit_code == 0
        assert await names(gateway) == []
        missing = await run(gateway, "show", "gpu-01")
        assert isinstance(missing.exception, StartupError)


async def test_an_import_that_is_repeated_goes_on_where_it_was(
    database: Database, clock: FakeClock, tmp_path: Path
) -> None:
    """Nodes are created once; scripts that are there stay, the missing one is written; a bad row holds up none."""
    file, out = tmp_path / "nodes.txt", tmp_path / "scripts"
    wanted = [f"gpu-{number:02}" for number in range(20)]
    async with running_gateway(database, clock) as gateway:
        await run(gateway, "create", "gpu-07")
        file.write_text("\n".join([*wanted[:10], "x" * 129]))
        first = await run(gateway, "import", str(file), "--out", str(out), "--json")
        assert first.exit_code == 1
        assert "9 nodes created, 1 were there, 1 failed" in first.stderr
        before = {path.name: path.read_text() for path in out.iterdir()}
        assert len(before) == 10
        lost = before.popitem()[0]
        (out / lost).unlink()
        file.write_text("\n".join(wanted))
        second = await run(gateway, "import", str(file), "--out", str(out), "--json")
        assert second.exit_code == 0
        assert "10 nodes created, 10 were there, 0 failed" in second.stderr
        assert await names(gateway) == wanted
        after = {path.name: path.read_text() for path in out.iterdir()}
        assert len(after) == 20
        assert lost in after
        assert {name: after[name] for name in before} == before
        for node in json.loads(second.stdout):
            assert node["_id"] in Path(node["script"]).read_text()  # noqa: ASYNC240 - a test waits for nobody


async def test_a_busy_service_is_asked_again_when_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """429 and 503 with Retry-After are waited out."""
    answers = iter((429, 503, 200))
    waited: list[float] = []

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(next(answers), headers={"Retry-After": "7"}, json={"_id": "1"})

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async with Portal("http://the.test", "t") as portal:
        await portal._client.aclose()
        portal._client = httpx.AsyncClient(base_url="http://the.test", transport=httpx.MockTransport(answer))
        monkeypatch.setattr(asyncio, "sleep", sleep)
        found: dict[str, Any] = await portal.post("/nodes", dict[str, Any], {})
    assert (found, waited) == ({"_id": "1"}, [7.0, 7.0])
