"""The real service in a process of its own, and what it says of itself."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx
import psutil

from app.clock import SystemClock
from app.domain.auth import Tokens
from app.model import CallerRole, Owner

SECRET: Final = "b" * 32
READY_SECONDS: Final = 60


def node_id(number: int) -> str:
    """The id of a node that `load.make_nodes` made."""
    return f"{number:024x}"


def token(number: int) -> str:
    """The token of that node's worker."""
    return Tokens((SECRET,), SystemClock()).issue_node(node_id(number), 0, 86_400).token


class Service:
    """A service that answers on a port."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self._pid = pid
        self._http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)

    async def close(self) -> None:
        """Leave no connection open: the service closes its end, and httpx does not look."""
        await self._http.aclose()

    async def is_ready(self, gateways: int) -> bool:
        """Whether it answers, and so many gateways are there: a start takes seconds of a processor."""
        try:
            is_ready = (await self._http.get("/health/ready")).status_code == 200
            return is_ready and (await self.metrics())["aiwm_processes{}"] == gateways
        except httpx.TransportError:
            return False

    def gateways(self) -> list[int]:
        """The processes of its gateways, where it has several."""
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
        return [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]

    def largest_gateway(self) -> int:
        """Resident bytes of the largest of them."""
        return max(int(psutil.Process(pid).memory_info().rss) for pid in self.gateways())

    async def ask(self, path: str) -> int:
        """An administrator's question; the status of its answer."""
        admin = Tokens((SECRET,), SystemClock()).issue_portal("bench", CallerRole.ADMIN, Owner(), 3600)
        return (await self._http.get(path, headers={"Authorization": f"Bearer {admin}"})).status_code

    async def metrics(self) -> dict[str, float]:
        """Its own metrics."""
        text = (await self._http.get("/metrics")).text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {key: float(value) for key, _, value in lines}


@asynccontextmanager
async def serving(database_url: str, *, workers: int = 1, **settings: str) -> AsyncIterator[Service]:
    """The service, started as anybody would."""
    with socket.socket() as probe, TemporaryDirectory() as folder:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        own = {name: value for name, value in os.environ.items() if not name.startswith("AIWM_")}
        own |= {"AIWM_DATABASE_URL": database_url, "AIWM_JWT_SECRET": SECRET, "AIWM_PORT": str(port)}
        own |= {"AIWM_WORKERS": str(workers), "AIWM_DATA_DIR": folder, "AIWM_LOG_LEVEL": "warning"} | settings
        process = subprocess.Popen([sys.executable, "-m", "app.cli", "serve"], env=own, stdout=subprocess.DEVNULL)
        service = Service(port, process.pid)
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await service.is_ready(workers):
                    await asyncio.sleep(0.2)
            yield service
        finally:
            await service.close()
            process.terminate()
            await asyncio.to_thread(process.wait, 60)
