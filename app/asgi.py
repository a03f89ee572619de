"""The composition root: settings become a database, services, and one ASGI application.

Everything that runs is opened and closed by one stack, in the order in which it is needed: database →
gateway's seat → goodbyes → news → ingest → GPU events → liveness → maintenance. It belongs to the process, not to ASGI's lifespan, which
a second Ctrl-C would skip.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from litestar import Litestar, Router, WebSocket, websocket
from litestar.config.cors import CORSConfig
from litestar.di import Provide

from app import VERSION
from app.clock import Clock
from app.domain.allowance import Allowance
from app.domain.auth import Tokens
from app.domain.events import Events
from app.domain.fleet import Fleet
from app.domain.fleet_history import FleetHistory
from app.domain.gpu_events import GpuEvents
from app.domain.history import History
from app.domain.ingest import Ingest
from app.domain.liveness import Liveness
from app.domain.maintenance import Maintenance
from app.domain.news import News
from app.domain.nodes import Nodes
from app.domain.peers import Health, Peers
from app.domain.provider import Callers
from app.domain.provider_keys import ProviderKeys
from app.domain.registry import Registry
from app.domain.renewal import Renewal
from app.errors import StorageUnavailable
from app.install import daemon_file
from app.install.daemon_file import DaemonFile
from app.install.script import Download
from app.meters import MEMBERS, POOL, Meters, Values
from app.protocol.messages import EXTENSIONS
from app.protocol.replies import ControllerInfo
from app.protocol.session import Controller
from app.protocol.wire import TOKEN_RENEWAL
from app.rest.errors import EXCEPTION_HANDLERS
from app.rest.methods import answer_options
from app.rest.openapi import openapi_config
from app.rest.routes import rest_handlers
from app.retention import Retention
from app.settings import Settings
from app.storage import dropped, gateways
from app.storage.database import Database
from app.storage.engines.choice import installed_engine
from app.trust import Trust
from app.ws.doors import Doors, room
from app.ws.endpoint import Gateway, converse

CONTROLLER_ID: Final = "controller-main"

_log = logging.getLogger(__name__)


@asynccontextmanager
async def service(
    settings: Settings,
    database: Database,
    clock: Clock,
    *,
    on_failure: Callable[[], None],
    number: int = 0,
    peers: Path | None = None,
) -> AsyncIterator[Litestar]:
    """The running service over a migrated database; everything it started has ended when this ends.

    `number` tells this gateway from others that listen on the same port, and `peers` is the folder where they meet.

    `on_failure` is called where a part of it ends that should go on for ever: the process had better stop.
    """
    engine = await installed_engine(database)
    async with AsyncExitStack() as stack:
        seat = settings.seat(number)
        gateway_id = await stack.enter_async_context(_seated(seat, database, clock))
        meters, health = Meters(), Health(clock)
        registry = Registry(database, gateway_id, seat, clock)
        meters.gauges += [health.read, lambda: _gauges(database, registry)]
        await stack.enter_async_context(_background("health", health.run(), on_failure))
        stack.push_async_callback(_last_goodbyes, registry)
        await stack.enter_async_context(_background("registry", registry.run(), on_failure))
        heard = News(database, gateway_id, clock, members=registry.members, act=registry.act)
        await stack.enter_async_context(_background("listener", heard.run(), on_failure))
        ingest = Ingest(
            database,
            engine,
            clock,
            meters,
            capacity_bytes=settings.ingest_buffer_bytes,
            flush_seconds=settings.flush_seconds,
        )
        flusher = await stack.enter_async_context(_background("ingest", ingest.run(), on_failure))
        stack.push_async_callback(ingest.drain, flusher)
        gpu_events = GpuEvents(database, clock)
        await stack.enter_async_context(_background("GPU events", gpu_events.run(), on_failure))
        liveness = Liveness(
            database,
            gateway_id,
            clock,
            timeout=timedelta(milliseconds=settings.heartbeat_timeout_ms),
            oldest_wait=ingest.oldest_wait,
            each_sweep=registry.hang_up_expired,
            retake_seat=registry.retake_seat,
        )
        await stack.enter_async_context(_background("liveness", liveness.run(), on_failure))
        maintenance = Maintenance(database, engine, settings.retention, clock)
        await stack.enter_async_context(_background("maintenance", maintenance.run(), on_failure))
        tokens = Tokens(settings.jwt_secret, clock, settings.trust)
        callers = await stack.enter_async_context(_callers(tokens, settings.trust, clock, on_failure))
        doors = Doors(meters, room())
        # What was dropped while settings kept less is neither there to be read nor to be rolled up with what comes late.
        left = msgspec.structs.replace(settings, retention=await _left(settings.retention, database, clock))
        gateway = Gateway(
            controller=_controller(left),
            clock=clock,
            registry=registry,
            ingest=ingest,
            gpu_events=gpu_events,
            renewal=Renewal(database, tokens, clock, is_allowed=settings.token_renewal),
            verify=tokens.verify_node,
            meters=meters,
            doors=doors,
        )
        others = Peers(meters, peers, number)
        await stack.enter_async_context(others.listening())
        daemon = await asyncio.to_thread(daemon_file.read)
        if daemon is None:
            _log.warning("There is no daemon for GPU machines to give: `make daemon` makes it.")
        yield application(left, database, clock, tokens, callers, gateway, others, daemon)


@asynccontextmanager
async def _callers(
    tokens: Tokens, trust: Trust, clock: Clock, on_failure: Callable[[], None]
) -> AsyncIterator[Callers]:
    """Who may call; the keys of an identity provider, where there is one, are kept for as long as this lasts."""
    if trust.jwks_url is None:
        yield Callers(tokens, trust, None, clock)
        return
    async with httpx.AsyncClient(follow_redirects=False) as client:
        keys = ProviderKeys(trust.jwks_url, client, clock)
        async with _background("provider keys", keys.run(), on_failure):
            yield Callers(tokens, trust, keys, clock)


async def _left(retention: Retention, database: Database, clock: Clock) -> Retention:
    async with database.driver_transaction() as connection:
        return retention.since(await dropped.read(connection), clock.now())


def _gauges(database: Database, registry: Registry) -> Values:
    in_use = database.in_use
    return {
        MEMBERS.key(): len(registry.members()),
        POOL.key(state="in_use"): in_use,
        POOL.key(state="free"): database.pool_size - in_use,
    }


def application(
    settings: Settings,
    database: Database,
    clock: Clock,
    tokens: Tokens,
    callers: Callers,
    gateway: Gateway,
    peers: Peers,
    daemon: DaemonFile | None,
) -> Litestar:
    """REST and WebSocket under the base path, with the services that their handlers ask for by name.

    Requests take at most half of the pool, a probe one more: however many come, and however long they take, the rest of
    the pool stores samples, admits nodes and keeps their status.
    """
    asked, probed = database.portion(-(-database.pool_size // 2)), database.portion(1)

    @websocket("/ws/node")
    async def node_socket(socket: WebSocket[Any, Any, Any]) -> None:
        await converse(socket, gateway)

    nodes = Nodes(
        database=asked,
        tokens=tokens,
        clock=clock,
        connections=gateway.registry,
        websocket_url=settings.websocket_url,
        download=Download(f"{settings.url}/install/{daemon_file.NAME}", daemon.sha256 if daemon else ""),
        allowance=Allowance(settings.creations_per_minute, clock),
    )
    fleet = Fleet(
        asked,
        clock,
        heartbeat_timeout=timedelta(milliseconds=settings.heartbeat_timeout_ms),
        query_timeout_ms=settings.query_timeout_ms,
    )
    history = History(asked, clock, query_timeout_ms=settings.query_timeout_ms, kept=settings.retention.by_table)
    fleet_history = FleetHistory(
        asked, clock, query_timeout_ms=settings.query_timeout_ms, kept=settings.retention.by_table
    )
    events = Events(asked, clock, query_timeout_ms=settings.query_timeout_ms)
    return Litestar(
        route_handlers=[Router(path=settings.base_path or "/", route_handlers=[*rest_handlers(callers), node_socket])],
        dependencies={
            "nodes": Provide(lambda: nodes, sync_to_thread=False),
            "fleet": Provide(lambda: fleet, sync_to_thread=False),
            "history": Provide(lambda: history, sync_to_thread=False),
            "fleet_history": Provide(lambda: fleet_history, sync_to_thread=False),
            "events": Provide(lambda: events, sync_to_thread=False),
            "peers": Provide(lambda: peers, sync_to_thread=False),
            "callers": Provide(lambda: callers, sync_to_thread=False),
            "database": Provide(lambda: probed, sync_to_thread=False),
            "daemon": Provide(lambda: daemon, sync_to_thread=False),
        },
        before_request=answer_options,
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=openapi_config(version=VERSION, base_path=settings.base_path),
        cors_config=CORSConfig(allow_origins=list(settings.cors_origins)) if settings.cors_origins else None,
        logging_config=None,
    )


def _controller(settings: Settings) -> Controller:
    info = ControllerInfo(
        controller_id=CONTROLLER_ID,
        heartbeat_interval=settings.heartbeat_interval_ms,
        metrics_interval=settings.metrics_interval_ms,
        timezone="UTC",
        max_sample_age_ms=settings.retention.max_sample_age // timedelta(milliseconds=1),
        extensions=tuple(each for each in EXTENSIONS if each != TOKEN_RENEWAL or settings.token_renewal),
    )
    return Controller(info=info, server_version=VERSION, max_age=settings.retention.max_sample_age)


@asynccontextmanager
async def _seated(seat: str, database: Database, clock: Clock) -> AsyncIterator[int]:
    """This process's place among the gateways, left again in the end."""
    async with database.transaction() as connection:
        gateway_id = await gateways.open_gateway(connection, seat, clock.now())
    try:
        yield gateway_id
    finally:
        try:
            async with database.transaction() as connection:
                await gateways.close_gateway(connection, gateway_id, clock.now())
        except StorageUnavailable:
            _log.warning("The database is away: this gateway's connections are cleared by the next one that starts.")


async def _last_goodbyes(registry: Registry) -> None:
    try:
        await registry.record_departures()
    except StorageUnavailable:
        _log.warning("The database is away: the last goodbyes were not recorded, the heartbeat timeout will.")


@asynccontextmanager
async def _background(
    name: str, coroutine: Coroutine[Any, Any, None], on_failure: Callable[[], None]
) -> AsyncIterator["asyncio.Task[None]"]:
    """A task of the service's, cancelled and awaited in the end."""

    def report(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.critical("The service stops, because a part of it (%s) has failed.", name, exc_info=task.exception())
            on_failure()

    task = asyncio.create_task(coroutine, name=name)
    task.add_done_callback(report)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
