"""A worker's token renewed on its own connection, so that nobody has to come by before it expires.

The new token lives as long as the old one did and is of its generation: who revokes one revokes both.
"""

from typing import Final

from app.clock import Clock, timestamp
from app.domain.auth import IssuedToken, Tokens
from app.domain.registry import Member
from app.errors import StorageUnavailable, TokenRenewalRefused
from app.model import EventKind
from app.storage import nodes
from app.storage.database import Database
from app.storage.events import Happening, acts_from, record

LAST_PART: Final = 3
"""A token is renewed in the last third of its life."""


class Renewal:
    """Holds no state of its own; each renewal is one transaction."""

    def __init__(self, database: Database, tokens: Tokens, clock: Clock, *, is_allowed: bool) -> None:
        self._database = database
        self._tokens = tokens
        self._clock = clock
        self._is_allowed = is_allowed

    async def renew(self, member: Member, address: str | None) -> IssuedToken:
        """A new token for a connected node; its connection now lives as long as this one. Raises TokenRenewalRefused.

        `address` is where the worker's connection comes from, for the record.
        """
        if not self._is_allowed:
            raise TokenRenewalRefused
        now, life = self._clock.now(), member.expires_at - member.issued_at
        begin = member.expires_at - life / LAST_PART
        if now < begin:
            raise TokenRenewalRefused(f"It is too early: this token can be renewed from {timestamp(begin)} on")
        if now >= member.expires_at:
            raise TokenRenewalRefused("This token has expired: make a new one at the portal")
        issued = self._tokens.issue_node(member.node_id, member.generation, int(life.total_seconds()))
        happening = Happening(EventKind.TOKEN_RENEWED, None, {"expiresAt": timestamp(issued.expires_at)})
        try:
            async with self._database.transaction() as connection:
                key, generation = member.node_key, member.generation
                if not await nodes.renew_token(connection, key, generation, now, issued.expires_at):
                    raise TokenRenewalRefused("This token was revoked: use the node's newest one")
                await acts_from(connection, address)
                await record(connection, key, now, happening)
        except StorageUnavailable as error:
            raise TokenRenewalRefused("The database cannot be reached at the moment: ask again shortly") from error
        member.issued_at, member.expires_at = issued.issued_at, issued.expires_at
        return issued
