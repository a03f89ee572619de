"""What other gateways did to nodes that are connected here: taken over, revoked, deleted.

A notification names the node; what is true of it is read from the database. The same is read of all nodes here
after each time in which nothing could be heard, and again and again where nothing can be.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Final

from app.clock import Clock
from app.errors import StorageUnavailable
from app.storage import news
from app.storage.database import Database
from app.storage.news import Standing

POLL_SECONDS: Final = 5.0
"""Where there is no connection to listen on."""
PING_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 1.0
NODES_A_QUERY: Final = 5000

_log = logging.getLogger(__name__)


class News:
    """Owned by the composition root, which runs `run` as a task."""

    def __init__(
        self,
        database: Database,
        gateway_id: int,
        clock: Clock,
        *,
        members: Callable[[], Collection[str]],
        act: Callable[[Sequence[Standing]], None],
    ) -> None:
        """`members` tells which nodes are connected here; `act` is told how those stand of which there is news."""
        self._database = database
        self._gateway_id = gateway_id
        self._clock = clock
        self._members = members
        self._act = act
        self._heard: set[str] = set()
        self._has_heard = asyncio.Event()

    async def run(self) -> None:
        """Listen for ever. Where the line breaks, or there is room for one connection only, ask again and again."""
        while True:
            pause = RETRY_SECONDS
            try:
                if self._database.pool_size > 1:
                    await self._listen()
                else:
                    await self._look(self._members())
                    pause = POLL_SECONDS
            except StorageUnavailable:
                _log.debug("News of other gateways cannot be heard; it is tried again.")
            except Exception:  # noqa: BLE001 – revocations must be heard of again, whatever failed
                _log.exception("News of other gateways cannot be heard; it is tried again.")
            await self._clock.sleep(pause)

    async def _listen(self) -> None:
        async with news.listening(self._database, self._gateway_id, self._hear) as ping:
            await self._look(self._members())  # what was said while nobody listened
            working = asyncio.create_task(self._work_off(), name="news")
            try:
                while True:
                    await self._clock.sleep(PING_SECONDS)
                    await ping()
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)

    def _hear(self, node_id: str) -> None:
        self._heard.add(node_id)
        self._has_heard.set()

    async def _work_off(self) -> None:
        while True:
            await self._has_heard.wait()
            self._has_heard.clear()
            heard, self._heard = self._heard, set()
            try:
                await self._look(heard)
            except Exception as error:  # noqa: BLE001 – what was heard is kept until it is looked at
                if not isinstance(error, StorageUnavailable):
                    _log.exception("News of other gateways could not be looked at; it is tried again.")
                self._heard |= heard
                self._has_heard.set()
                await self._clock.sleep(RETRY_SECONDS)

    async def _look(self, node_ids: Collection[str]) -> None:
        for some in _portions(list(node_ids)):
            async with self._database.transaction() as connection:
                found = await news.standings(connection, some)
            self._act(found)


def _portions(node_ids: list[str]) -> list[list[str]]:
    return [node_ids[start : start + NODES_A_QUERY] for start in range(0, len(node_ids), NODES_A_QUERY)]
