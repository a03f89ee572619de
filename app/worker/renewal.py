"""A new token in the last third of the old one's life."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable
from typing import Any, Callable, Final

from app.protocol import wire
from app.worker.handshake import ANSWER_SECONDS, failure
from app.worker.schedule import now_ms
from app.worker.store import DISK_SECONDS
from app.worker.threads import Thread
from app.worker.tokens import Claims, NoToken, Tokens, claims

_LONGEST_NAP_SECONDS: Final = 600.0
_log = logging.getLogger(__name__)


class Renewal:
    """Asks for it on a live connection of a controller that knows how, and keeps what it is given."""

    def __init__(self, tokens: Tokens, disk: Thread, say: Callable[[str], Awaitable[None]]) -> None:
        self._tokens = tokens
        self._disk = disk
        self._say = say
        self._answer: asyncio.Future[dict[str, Any]] | None = None

    async def run(self) -> None:
        """Renew whenever it is time, until cancelled."""
        while True:
            token = await self._current()
            due, life = token.renewable_at, token.life
            if due is None:
                await asyncio.sleep(_LONGEST_NAP_SECONDS)
                continue
            # A fleet that was installed in one minute does not renew in one second.
            await self._sleep_until(due + random.uniform(0, life / 30))
            if not await self._renew():
                await asyncio.sleep(min(86_400.0, max(5.0, life / 20)))

    def answered(self, message: dict[str, Any]) -> None:
        """TOKEN_RENEWED, or the ERROR in its place."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(message)

    async def _current(self) -> Claims:
        try:
            return claims(await self._disk.call(self._tokens.current, seconds=DISK_SECONDS))
        except NoToken:
            return Claims()

    async def _sleep_until(self, seconds: float) -> None:
        """Until a moment of the wall clock, which may be set meanwhile."""
        while (wait := seconds - now_ms() / 1000) > 0:  # noqa: ASYNC110 - time is all that is waited for
            await asyncio.sleep(min(wait, _LONGEST_NAP_SECONDS))

    async def _renew(self) -> bool:
        self._answer = asyncio.get_running_loop().create_future()
        await self._say(wire.token_renew(wire.new_message_id(), now_ms()))
        try:
            message = await asyncio.wait_for(self._answer, ANSWER_SECONDS)
        except asyncio.TimeoutError:
            _log.warning("The controller did not answer when asked for a new token; it is asked again later.")
            return False
        data = message.get("data")
        token = data.get("token") if isinstance(data, dict) else None
        if not isinstance(token, str) or not token:
            _log.warning("The token was not renewed (%s: %s); it is tried again later.", *failure(message))
            return False
        try:
            await self._disk.call(self._tokens.renew, token, seconds=DISK_SECONDS)
        except (OSError, asyncio.TimeoutError) as error:
            _log.error("The renewed token cannot be kept on disk (%s); the old one is good until it expires.", error)
            return False
        _log.info("The token is renewed; it is good until %s.", data.get("expiresAt") if data else "")
        return True
