"""The one engine and the one pool: SQLAlchemy on asyncpg. Opened by the composition root, closed by it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from typing import Final, Self
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy import URL, AdaptedConnection, event, func, select, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app.errors import StorageUnavailable
from app.storage.tables import SEARCH_PATH

CONNECT_SECONDS: Final = 5.0
COMMAND_SECONDS: Final = 20.0
POOL_SECONDS: Final = 5.0
NO_LIMIT: Final = 365 * 86_400.0
"""A statement's timeout in seconds where it may take as long as it takes: to asyncpg, None is COMMAND_SECONDS."""

# Not an advisory lock, which every login of the database may hold. Like one it ends with its connection: a backend is known
# by its number and its start. Where another user's start is not shown, the number alone counts.
_BEGIN_JOB: Final = """
    INSERT INTO jobs AS j (job, pid, backend_start)
    VALUES ($1, pg_backend_pid(), (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()))
    ON CONFLICT (job) DO UPDATE SET pid = excluded.pid, backend_start = excluded.backend_start
    WHERE NOT EXISTS (
        SELECT FROM pg_stat_activity a
        WHERE a.pid = j.pid AND a.pid <> excluded.pid AND coalesce(a.backend_start, j.backend_start) = j.backend_start)
    RETURNING true
"""
_END_JOB: Final = "UPDATE jobs SET pid = NULL, backend_start = NULL WHERE job = $1 AND pid = pg_backend_pid()"

_AWAY: Final = (
    OSError,  # refused, reset, no such socket
    TimeoutError,  # a server that is stopped answers nothing
    InterfaceError,
    OperationalError,
    PoolTimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,  # starting up, shutting down
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)


class Database:
    """A pool of connections whose search path starts with our private schema.

    Every trouble that waiting can cure leaves here as StorageUnavailable; anything else is a defect
    and keeps its own type.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = url
        self.pool_size = pool_size
        self._room = asyncio.Semaphore(pool_size)  # of the whole, which the pool itself keeps to: a portion has less
        self._engine = create_async_engine(
            URL.create("postgresql+asyncpg"),  # the address itself is asyncpg's to read: it knows sslmode and host
            async_creator=self._connect,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_SECONDS,
        )
        event.listen(self._engine.sync_engine, "checkout", _fit_for_use)

    def portion(self, connections: int) -> Self:
        """The same pool for somebody who takes at most so many of its connections, and leaves the others to others."""
        portion = copy(self)
        portion._room = asyncio.Semaphore(connections)  # noqa: SLF001 – its own, as yet
        return portion

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection of the pool. Raises StorageUnavailable where none is free for POOL_SECONDS."""
        with _unavailable():
            async with asyncio.timeout(POOL_SECONDS):
                await self._room.acquire()
            try:
                async with self._engine.connect() as connection, _discarded_if_given_up(connection):
                    yield connection
            finally:
                self._room.release()

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        try:
            connection = await asyncpg.connect(self.url, timeout=CONNECT_SECONDS, command_timeout=COMMAND_SECONDS)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, OverflowError) as error:
            # A wrong password, a missing database, a port that is no number: whoever runs it can mend it, until then it is away.
            raise ConnectionError(str(error)) from error
        await connection.execute(f"SET search_path = {SEARCH_PATH}; SET timezone = 'UTC'")
        return connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction that commits at the end, or rolls back on any error.

        Raises StorageUnavailable where the database is away, slow beyond its limit, or has no room.
        """
        async with self._connection() as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def limited_transaction(self, timeout_ms: int) -> AsyncIterator[AsyncConnection]:
        """The same to read in, each statement within `timeout_ms` milliseconds. Raises StorageUnavailable beyond."""
        with time_limit(timeout_ms):
            async with self.transaction() as connection:
                limit = func.set_config("statement_timeout", str(timeout_ms), True)
                await connection.execute(select(limit))
                yield connection

    @asynccontextmanager
    async def driver(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A connection as asyncpg's own, on which each statement is a transaction. Raises StorageUnavailable."""
        async with self._connection() as connection:
            yield (await connection.get_raw_connection()).driver_connection  # type: ignore[misc]

    @asynccontextmanager
    async def driver_transaction(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """`transaction` on asyncpg's own connection, for what SQLAlchemy has no words for: COPY, and arrays at speed."""
        async with self.driver() as driver, driver.transaction():
            yield driver

    @asynccontextmanager
    async def alone(self, job: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record] | None"]:
        """A connection outside of any transaction, for what only one process may do at a time.

        None where another process is at this job.
        """
        async with self.driver() as driver:
            if not await driver.fetchval(_BEGIN_JOB, job):
                yield None
                return
            try:
                yield driver
            finally:
                if not driver.is_closed():
                    await driver.execute(_END_JOB, job)

    @asynccontextmanager
    async def own_connection(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A connection beside the pool, for what lasts: it is nobody else's, and in no transaction."""
        with _unavailable():
            try:
                connection = await self._connect()
            except OSError as error:
                raise StorageUnavailable from error
            try:
                yield connection
            finally:
                connection.terminate()

    @property
    def in_use(self) -> int:
        """How many connections of the pool somebody has at the moment."""
        return int(self._engine.pool.checkedout())  # type: ignore[attr-defined]

    async def ping(self, seconds: float = 2.0) -> None:
        """Ask the database for a sign of life. Raises StorageUnavailable."""
        with _unavailable():
            async with asyncio.timeout(seconds), self._connection() as connection:
                await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


@asynccontextmanager
async def _discarded_if_given_up(connection: AsyncConnection) -> AsyncIterator[None]:
    """What the server makes of a statement that nobody waits for any more is not known.

    A BEGIN among them is carried out late, and whoever had the connection next would commit nothing, and not notice.
    """
    try:
        yield
    except (TimeoutError, asyncio.CancelledError):
        await connection.invalidate()
        raise


def _fit_for_use(connection: AdaptedConnection, *_: object) -> None:
    """One that the server has closed, or that somebody left in a transaction, is known: the pool makes another."""
    driver = connection.driver_connection
    if driver.is_closed() or driver.is_in_transaction():
        raise DisconnectionError


@contextmanager
def time_limit(timeout_ms: int | None) -> Iterator[None]:
    """Where statements are cancelled by the database after so long. Raises StorageUnavailable for one that was."""
    try:
        yield
    except (asyncpg.QueryCanceledError, DBAPIError) as error:
        if isinstance(error, DBAPIError) and not isinstance(_cause(error), asyncpg.QueryCanceledError):
            raise
        raise StorageUnavailable(
            f"The query was stopped at its time limit of {timeout_ms} ms: "
            "ask for a shorter range or for less at once, or try again"
        ) from error


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except _AWAY as error:
        raise StorageUnavailable from error
    except DBAPIError as error:
        if error.connection_invalidated or isinstance(_cause(error), _AWAY):
            raise StorageUnavailable from error
        raise


def _cause(error: DBAPIError) -> BaseException | None:
    """Asyncpg's own error under SQLAlchemy's translation of it."""
    return error.orig.__cause__ if error.orig else None


def masked(url: str) -> str:
    """The URL as it may be shown: without its password and its parameters."""
    parts = urlsplit(url)
    login, _, address = parts.netloc.rpartition("@")
    user = login.partition(":")[0]
    return f"{parts.scheme}://{user}{'@' if user else ''}{address}{parts.path}"
