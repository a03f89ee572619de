"""The process around the service: its database, its port, its signals, and uvicorn.

The port is bound before anything else starts, so that a port in use is noticed first; the embedded
database, where there is one, outlives everything that uses it.
"""

import errno
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec
import uvicorn
from litestar import Litestar

from app import garbage
from app.asgi import service
from app.clock import Clock
from app.embedded import embedded_postgres, visited_postgres
from app.errors import StartupError, StorageUnavailable
from app.protocol.wire import MAX_FRAME_BYTES
from app.rest.headers import with_security_headers
from app.settings import Settings
from app.storage import schema
from app.storage.database import Database, masked
from app.strangers import Strangers
from app.ws.doors import REQUESTS, room
from app.ws.requests import counting
from app.ws.sockets import WebSocketProtocol
from app.ws.tls import tls_context

WAIT_REPORT_SECONDS: Final = 5.0
GOODBYE_SECONDS: Final = 5
SILENT_SECONDS: Final = 10
"""For how long a connection may be open without a request, at first and between two."""
BACKLOG: Final = 2048
_LISTEN_ADVICE: Final = {
    errno.EADDRINUSE: "Stop the program that uses it, or set AIWM_PORT.",
    errno.EADDRNOTAVAIL: "Set AIWM_HOST to an address of this machine, or to 0.0.0.0 for all of them.",
    errno.EACCES: "Set AIWM_PORT to one from 1024 up, which any user may have.",
}
KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Seconds of silence, seconds between probes, probes: so long until a machine that is gone gives back its socket."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_log = logging.getLogger(__name__)


@contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    """The database's address; an embedded one runs for as long as the block lasts."""
    if settings.database_url is not None:
        yield settings.database_url
    else:
        with embedded_postgres(settings.data_dir) as url:
            yield url


@contextmanager
def visited_url(settings: Settings) -> Iterator[str]:
    """The same for a command that ends soon, also while a service runs on the embedded database."""
    if settings.database_url is not None:
        yield settings.database_url
    else:
        with visited_postgres(settings.data_dir) as url:
            yield url


async def wait_for(database: Database, settings: Settings, clock: Clock) -> None:
    """Wait until the database answers, saying so. Raises StartupError after AIWM_DATABASE_WAIT_MS."""
    began, reported = clock.monotonic(), -WAIT_REPORT_SECONDS
    where = masked(settings.database_url) if settings.database_url else "the embedded database"
    while True:
        try:
            await database.ping()
        except StorageUnavailable as error:
            waited = clock.monotonic() - began
            reason = str(error.__cause__) or type(error.__cause__).__name__
            if waited * 1000 >= settings.database_wait_ms:
                raise StartupError(
                    f"The database at {where} did not answer within {settings.database_wait_ms / 1000:g} s ({reason}). "
                    "Start it, or correct AIWM_DATABASE_URL."
                ) from None
            if waited - reported >= WAIT_REPORT_SECONDS:
                reported = waited
                print(f"Waiting for the database at {where} ({reason}) …", file=sys.stderr, flush=True)
            await clock.sleep(0.5)
        else:
            return


async def prepare(settings: Settings, url: str, clock: Clock) -> None:
    """Wait for the database, and see to its schema. Raises StartupError."""
    database = Database(url, pool_size=1)
    try:
        await wait_for(database, settings, clock)
        await _ensure_schema(settings, database)
    finally:
        await database.close()


class Process(msgspec.Struct, frozen=True):
    """What one gateway process is: its number among those of this port, where it listens, and who stops it.

    `peers` is the folder where it meets the others.
    """

    number: int
    listener: socket.socket
    stop: "Stop"
    peers: Path | None = None


async def gateway(settings: Settings, url: str, process: Process, announce: Callable[[], None], clock: Clock) -> None:
    """Serve until the process is told to stop; `announce` is called once, when requests are answered."""
    database = Database(url)
    try:
        on_failure = process.stop.request
        async with service(
            settings, database, clock, number=process.number, peers=process.peers, on_failure=on_failure
        ) as app:
            server = http_server(app, settings, announce)
            process.stop.attach(server)
            garbage.spare_collection()
            await server.serve(sockets=[process.listener])
    finally:
        await database.close()


def http_server(app: Litestar, settings: Settings, announce: Callable[[], None]) -> uvicorn.Server:
    """The HTTP server as this service needs it: uvicorn's leanest WebSocket implementation, and nothing it would do on its own."""
    config = uvicorn.Config(
        with_security_headers(app, settings.url),
        interface="asgi3",
        http=counting(Strangers(settings.strangers_per_address, settings.trusted_proxies)),
        limit_concurrency=room() + REQUESTS,
        timeout_keep_alive=SILENT_SECONDS,
        ws=WebSocketProtocol,
        ws_max_size=MAX_FRAME_BYTES,
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # with reading paused its pongs would not be read, and good sockets closed
        ws_ping_timeout=None,
        timeout_graceful_shutdown=GOODBYE_SECONDS,
        lifespan="off",
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        access_log=False,
        server_header=False,
        log_config=None,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        ssl_context_factory=tls_context if settings.tls_cert else None,
    )
    return _Server(config, announce)


async def _ensure_schema(settings: Settings, database: Database) -> None:
    """An empty database, or our own, is migrated; anybody else's older one is for `aiwm db upgrade` to change."""
    current = await schema.current(database)
    if settings.embedded or current is None:
        await schema.upgrade(database)
    elif current != schema.head():
        raise StartupError(
            f"The database's schema is at revision {current}, this program needs {schema.head()}: "
            "run `aiwm db upgrade` first."
        )


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: it would raise the signal again before the buffer is drained."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()


class Stop:
    """A wish to stop, from a signal or from within. The first is polite, further ones cut the goodbyes short."""

    def __init__(self) -> None:
        self.wishes = 0
        self._server: uvicorn.Server | None = None

    def attach(self, server: uvicorn.Server) -> None:
        """From now on it is this server that stops."""
        self._server = server
        self._pass_on()

    def request(self) -> None:
        """Stop; asked again, stop sooner."""
        self.wishes += 1
        self._pass_on()

    def on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        """A signal is a wish to stop."""
        self.request()

    def _pass_on(self) -> None:
        if self._server is not None and self.wishes:
            self._server.should_exit = True
            self._server.force_exit = self.wishes > 1


@contextmanager
def wishes_to_stop(*numbers: signal.Signals) -> Iterator[Stop]:
    """Signals are wishes until the last frame is stored: none of them interrupts the draining of the buffer."""
    stop = Stop()
    before = {number: signal.signal(number, stop.on_signal) for number in numbers or _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_tls(settings: Settings) -> None:
    """Try the certificate before anything is started. Raises StartupError where it or its key is of no use."""
    if settings.tls_cert is None:
        return
    try:
        # With a password of ours OpenSSL refuses a key that needs one, instead of asking the terminal for it.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except OSError as error:  # SSLError is one
        raise StartupError(
            f"AIWM_TLS_CERT ({settings.tls_cert}) and AIWM_TLS_KEY ({settings.tls_key}) are of no use: "
            f"{error.strerror or error}. They must be PEM files: a certificate chain, and its key without a password."
        ) from None


@contextmanager
def taken(settings: Settings) -> Iterator[socket.socket]:
    """The listening address, taken. Raises StartupError where somebody else has it."""
    with _bound(settings) as listener:
        yield listener


@contextmanager
def reserved(settings: Settings) -> Iterator[None]:
    """The address held for gateways that share it. Raises StartupError where somebody else has it."""
    with _bound(settings):
        pass  # nobody has it: with SO_REUSEPORT one would not notice
    with _bound(settings, is_shared=True):
        yield


@contextmanager
def shared(settings: Settings) -> Iterator[socket.socket]:
    """The same address, listening, one of several."""
    with _bound(settings, is_shared=True) as listener:
        listener.listen(BACKLOG)
        yield listener


@contextmanager
def _bound(settings: Settings, *, is_shared: bool = False) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartupError(f"AIWM_HOST ({settings.host}) is not an address of this machine: {error}.") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. The kernel's probes are answered by the other kernel, however long nobody reads.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEP_ALIVE.items():
            if hasattr(socket, option):
                listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind(address)
            if not is_shared:
                # Listening at once takes the port from everybody; who connects early waits until the service is ready.
                listener.listen(BACKLOG)
        except OSError as error:
            raise StartupError(
                f"The service cannot listen on {settings.host} port {settings.port}: {error.strerror}. "
                + _LISTEN_ADVICE.get(error.errno or 0, "Set AIWM_HOST and AIWM_PORT to an address that is free.")
            ) from None
        listener.setblocking(False)
        yield listener
