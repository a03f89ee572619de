"""How fast a caller may create: nodes, and tokens of nodes, so many a minute each. Admins as fast as they like."""

from datetime import datetime
from math import ceil

from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import TooManyRequests
from app.model import Caller
from app.storage import allowances
from app.storage.allowances import Creation


class Allowance:
    """So many a minute, and as many at once; 0 for no limit. Over all gateways: the database counts."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute

    async def take(self, connection: AsyncConnection, caller: Caller, kind: str, now: datetime) -> None:
        """Within the transaction that creates, so that what is not created does not count. Raises TooManyRequests.

        `kind` is what is created, in plural: a word for the caller, and the allowance's own.
        """
        if caller.is_admin or not self._per_minute:
            return
        creation = Creation(caller.owner.org_id or "", caller.subject, kind)
        wait = await allowances.take(connection, creation, self._per_minute, now)
        if wait:
            seconds = ceil(wait.total_seconds())
            raise TooManyRequests(
                f"Too many {kind} at a time: {self._per_minute} a minute are allowed; try again in {seconds} s",
                retry_after=seconds,
            )
