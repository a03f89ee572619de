"""The database servers of the tests: each gives out fresh databases, empty or migrated.

PostgreSQL comes from the service's own embedded server. TimescaleDB comes as WebAssembly under Node.js
everywhere, as the official image where Docker runs, and from a server that AIWM_TEST_TIMESCALEDB_URL names.
"""

import itertools
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol
from urllib.parse import quote, urlsplit

import asyncpg
from testcontainers.community.postgres import PostgresContainer

from app.embedded import embedded_postgres
from app.storage import schema
from app.storage.database import Database
from tests.timescale.wasm import WasmServer, wasm_server

GIVEN: Final = "AIWM_TEST_TIMESCALEDB_URL"
"""A server with TimescaleDB that tests may make databases on, as a superuser."""

PASSWORD: Final = "a-long-enough-password"
"""Of every login that a test makes."""

IMAGE: Final = "timescale/timescaledb:2.23.1-pg17"


class Server(Protocol):
    """A running database server."""

    pool_size: int

    def fresh(self, *, migrated: bool) -> AbstractAsyncContextManager[str]:
        """The URL of a database that nobody has touched."""
        ...


class Native:
    """A real server: databases are copied from a template that was migrated once."""

    pool_size = 4

    def __init__(self, url: str, *, licence: str | None = None) -> None:
        self._url = url
        self._licence = licence
        self._numbers = itertools.count(1)
        self._template = f"migrated_{os.getpid()}_{licence or 'default'}"
        self._has_template = False

    @asynccontextmanager
    async def fresh(self, *, migrated: bool) -> AsyncIterator[str]:
        """A copy of the template, or an empty database."""
        if migrated and not self._has_template:
            await self._make_template()
        # Of this process: a server that was given may serve several at once.
        name = f"test_{os.getpid()}_{next(self._numbers)}_{self._licence or 'default'}"
        await self._create(name, self._template if migrated else "template0")
        try:
            yield self._at(name)
        finally:
            await self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _make_template(self) -> None:
        await self._create(self._template, "template0")
        await migrate(self._at(self._template))
        # A database that somebody is in cannot be copied, and TimescaleDB's scheduler is in each that lets it in.
        await self._execute(f"ALTER DATABASE {self._template} ALLOW_CONNECTIONS false")
        await self._execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._template}'"
        )
        self._has_template = True

    async def _create(self, name: str, template: str) -> None:
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        if self._licence is not None:
            await self._execute(f"ALTER DATABASE {name} SET timescaledb.license = {self._licence}")

    def _at(self, name: str) -> str:
        return urlsplit(self._url)._replace(path=f"/{name}").geturl()

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class Wasm:
    """TimescaleDB in WebAssembly: one backend and one database, which goes back to where it was, migrated once."""

    pool_size = 1

    def __init__(self, server: WasmServer) -> None:
        self._server = server
        self._is_kept = False

    @asynccontextmanager
    async def fresh(self, *, migrated: bool) -> AsyncIterator[str]:
        """The one database, as it was when it was migrated, or empty but for the extension."""
        if migrated and self._is_kept:
            self._server.restore()
        else:
            self._server.clear()
        if migrated and not self._is_kept:
            await migrate(self._server.url)
            self._server.keep()
            self._is_kept = True
        yield self._server.url


@asynccontextmanager
async def as_login(database: Database, login: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection of a login that `analysts.make` made with PASSWORD."""
    parts = urlsplit(database.url)
    host = parts.netloc.rpartition("@")[2]
    url = parts._replace(netloc=f"{quote(login)}:{quote(PASSWORD)}@{host}").geturl()
    if "user=" in parts.query:
        raise AssertionError(database.url)
    connection = await asyncpg.connect(url, user=login)
    try:
        yield connection
    finally:
        await connection.close()


async def migrate(url: str) -> None:
    """Bring a database up to the newest revision."""
    database = Database(url, pool_size=1)
    try:
        await schema.upgrade(database)
    finally:
        await database.close()


@contextmanager
def _postgresql() -> Iterator[Server]:
    # In memory where the machine has such a folder: hundreds of databases come and go, each waiting for the disk.
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder, embedded_postgres(Path(folder)) as url:
        yield Native(url)


@contextmanager
def _timescale_wasm() -> Iterator[Server]:
    with wasm_server() as server:
        yield Wasm(server)


@contextmanager
def _timescale_image() -> Iterator[Server]:
    with PostgresContainer(IMAGE, username="aiwm", password="aiwm", dbname="aiwm", driver=None) as container:
        yield Native(container.get_connection_url())


@contextmanager
def _timescale_server() -> Iterator[Server]:
    yield Native(os.environ[GIVEN])


@contextmanager
def _timescale_apache() -> Iterator[Server]:
    yield Native(os.environ[GIVEN], licence="apache")


def docker_runs() -> bool:
    """Whether a Docker engine answers on this machine."""
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0


SERVERS: Final = {
    "postgresql": _postgresql,
    "timescaledb-wasm": _timescale_wasm,
    **(
        {"timescaledb-server": _timescale_server, "timescaledb-apache": _timescale_apache}
        if GIVEN in os.environ
        else {}
    ),
    **({"timescaledb-image": _timescale_image} if docker_runs() else {}),
}

WITH_TIMERS: Final = [name for name in SERVERS if name != "timescaledb-wasm"]
"""Servers that stop a statement at its time limit. WebAssembly has no timers: the one exception there is."""

WITH_ROLES: Final = WITH_TIMERS
"""Servers that know who is asking, and what was set for them: WebAssembly's one backend is its superuser's."""

WITH_ROOM: Final = WITH_TIMERS
"""Servers with room for more than one connection."""
