"""How fast a caller may create: nodes, and tokens of nodes, so many a minute each. Admins as fast as they like."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from math import ceil
from typing import Final
from weakref import WeakValueDictionary

from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import Clock, to_milliseconds
from app.errors import TooManyRequests
from app.model import Caller
from app.storage import allowances
from app.storage.allowances import Creation

_REMEMBERED: Final = 1000


class Allowance:
    """So many a minute, and as many at once; 0 for no limit. Over all gateways: the database counts."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._refused: dict[Creation, datetime] = {}
        self._turns: WeakValueDictionary[Creation, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, caller: Caller, kind: str) -> AsyncIterator[None]:
        """Before the database is asked for anything: one creation of a caller after another. Raises TooManyRequests.

        They would wait for each other in the database as well, each with one of the few connections that requests may have.
        Who was told when to come again is not heard before.
        """
        if caller.is_admin or not self._per_minute:
            yield
            return
        creation = _creation(caller, kind)
        turn = self._turns.setdefault(creation, asyncio.Lock())
        async with turn:
            until, now = self._refused.get(creation), to_milliseconds(self._clock.now())
            if until is not None and now < until:
                raise self._refusal(kind, until - now)
            yield

    async def take(self, connection: AsyncConnection, caller: Caller, kind: str, now: datetime) -> None:
        """Within the transaction that creates, so that what is not created does not count. Raises TooManyRequests.

        `kind` is what is created, in plural: a word for the caller, and the allowance's own.
        """
        if caller.is_admin or not self._per_minute:
            return
        creation = _creation(caller, kind)
        wait = await allowances.take(connection, creation, self._per_minute, now)
        if wait:
            if len(self._refused) >= _REMEMBERED:
                self._refused = {}
            self._refused[creation] = now + wait
            raise self._refusal(kind, wait)

    def _refusal(self, kind: str, wait: timedelta) -> TooManyRequests:
        seconds = ceil(wait.total_seconds())
        sentence = f"Too many {kind} at a time: {self._per_minute} a minute are allowed; try again in {seconds} s"
        return TooManyRequests(sentence, retry_after=seconds)


def _creation(caller: Caller, kind: str) -> Creation:
    return Creation(caller.owner.org_id or "", caller.subject, kind)
