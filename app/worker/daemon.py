"""The daemon: connect, converse, wait, again; and sample all the while."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from app.worker.backoff import Patience
from app.worker.config import Config
from app.worker.conversation import Surroundings, converse
from app.worker.handshake import Controller, Refused, Rival, Trouble, dial
from app.worker.measuring import Measuring
from app.worker.recorder import Recorder
from app.worker.sampler import Sampler
from app.worker.store import DISK_SECONDS, Store
from app.worker.systemd import Systemd
from app.worker.tasks import first_of
from app.worker.threads import Thread
from app.worker.tokens import NoToken, Tokens

CLOSE_SECONDS: Final = 1.0
_PEACE_SECONDS: Final = 3600.0
"""A connection that stood so long had no rival."""
_log = logging.getLogger(__name__)


async def run(
    config: Config, sampler: Sampler, stop: asyncio.Event, systemd: Systemd, patience: Patience | None = None
) -> None:
    """Be this node's daemon until `stop` is set. What was recorded is on disk when it returns."""
    patience = patience or Patience()
    disk = Thread("disk")
    measuring = Measuring(sampler, patience.measuring)
    store = await Store.open(config.state_dir / "spool.sqlite", config.spool_bytes, disk)
    tokens = Tokens(config.token_file, config.state_dir / "token", config.token)
    around = Surroundings(config.node_id, measuring, store, tokens, disk, patience.silence)
    recorder = Recorder(config.node_id, measuring, store)
    connector = _Connector(config.url, around, recorder, systemd, patience)
    _log.info("The daemon of node %s starts; %d samples are spooled.", config.node_id, store.count)
    systemd.ready()
    try:
        await first_of(stop.wait(), recorder.run(), connector.run(), systemd.keep_alive())
    finally:
        systemd.stopping()
        measuring.end()
        spooled = store.count
        await store.close(CLOSE_SECONDS)
        _log.info("The daemon stops; %d samples are spooled.", spooled)


class _Connector:
    """Keeps one connection to the controller, as far as the controller lets it."""

    def __init__(
        self, url: str, around: Surroundings, recorder: Recorder, systemd: Systemd, patience: Patience
    ) -> None:
        self._url = url
        self._around = around
        self._recorder = recorder
        self._systemd = systemd
        self._patience = patience
        self._token: str | None = None

    async def run(self) -> None:
        """Connect again and again, until cancelled."""
        while True:
            try:
                await self._connect()
            except (Refused, NoToken) as refusal:  # noqa: PERF203 - a connection is no hot loop
                await self._wait_for_somebody(refusal)
            except Rival:
                seconds = self._patience.rival.next()
                _log.error(
                    "Another daemon has the identity of node %s and took its connection over: stop one of the two, "
                    "or give each machine a node of its own. %s",
                    self._around.node_id,
                    self._again_in(seconds),
                )
                await asyncio.sleep(seconds)
            except (Trouble, asyncio.TimeoutError) as trouble:
                # On top, not instead: a fleet that is told the same moment must not come at the same moment.
                seconds = self._patience.trouble.next() + (trouble.not_before if isinstance(trouble, Trouble) else 0)
                _log.warning("Not connected: %s. %s", trouble or "the disk does not answer", self._again_in(seconds))
                await asyncio.sleep(seconds)

    async def _connect(self) -> None:
        """One connection, to its end."""
        self._token = None
        self._token = await self._current_token()
        socket = await dial(self._url, self._token)
        began = time.monotonic()
        try:
            await converse(socket, self._around, self._stands)
        finally:
            if time.monotonic() - began > _PEACE_SECONDS:
                self._patience.rival.reset()
            await socket.close()

    def _stands(self, controller: Controller) -> None:
        self._patience.trouble.reset()
        self._recorder.follow(metrics_ms=controller.metrics_ms, events_ms=controller.heartbeat_ms)
        # The installation script waits for a status that begins so.
        sentence = f"Connected to {self._url}; {self._around.store.count} samples are spooled."
        _log.info(sentence)
        self._systemd.status(sentence)

    async def _wait_for_somebody(self, refusal: Exception) -> None:
        """A refusal does not pass by itself: try seldom, or as soon as there is another token."""
        seconds = self._patience.refused.next()
        _log.error(
            "The controller does not take node %s: %s. Make a new token for it in the portal and run the "
            "installation script that comes with it. %s",
            self._around.node_id,
            refusal,
            self._again_in(seconds),
        )
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._patience.look_for_token))
            try:
                if await self._current_token() != self._token:
                    return
            except (NoToken, asyncio.TimeoutError):
                continue

    async def _current_token(self) -> str:
        return await self._around.disk.call(self._around.tokens.current, seconds=DISK_SECONDS)

    def _again_in(self, seconds: float) -> str:
        sentence = f"{self._around.store.count} samples are spooled; trying again in {_duration(seconds)}."
        self._systemd.status(f"Not connected. {sentence}")
        return sentence


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
