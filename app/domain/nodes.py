"""Nodes as people manage them: create, read, change, delete, and the tokens their workers connect with."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import Clock, timestamp, to_milliseconds
from app.domain.allowance import Allowance
from app.domain.auth import Tokens
from app.domain.node_ids import object_ids
from app.domain.node_list import NodePage, NodeQuery, read_page
from app.domain.status import check_by_hand
from app.errors import AiwmError, InvalidRequest, InvalidToken, NodeInactive, NodeNotFound
from app.install.script import Download, install_script
from app.model import Caller, EventKind, Node, NodeChanges, NodeRole, Owner
from app.quantities import camel
from app.storage import nodes as storage
from app.storage.database import Database
from app.storage.events import Happening, acts_from, change, end_periods, record
from app.storage.nodes import NewNode

_STATUS_FIELDS: Final = {"status", "status_reason"}


class Connections(Protocol):
    """The workers that are connected, whichever process holds them."""

    async def revoke(self, node_id: str, error: AiwmError, *, below_generation: int | None = None) -> None:
        """Close the node's open socket with this error's close code.

        With `below_generation` only a socket that was opened with a token of an older generation.
        """
        ...

    async def tell_others(self, connection: AsyncConnection, node_key: int) -> None:
        """Within the transaction that changes what `revoke` is about: let another process that holds the node know."""
        ...


class NodeDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A node to be created; `metadata` is JSON text, `org_id` is for admins."""

    name: str
    role: tuple[NodeRole, ...]
    is_local: bool = False
    vpn_ip: str | None = None
    metadata: str | None = None
    org_id: str | None = None


class MadeToken(msgspec.Struct, frozen=True):
    """A node token and the script that installs it; both are shown once."""

    token: str
    expires_at: datetime
    install_script: str


class Nodes:
    """The node service. Holds no state of its own; each call is one transaction."""

    def __init__(
        self,
        *,
        database: Database,
        tokens: Tokens,
        clock: Clock,
        connections: Connections,
        websocket_url: str,
        download: Download,
        allowance: Allowance,
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._clock = clock
        self._connections = connections
        self._download = download
        self._allowance = allowance
        self._websocket_url = websocket_url
        self._new_id = object_ids()

    async def create(self, caller: Caller, draft: NodeDraft) -> Node:
        """A new node, pending, owned by the caller's org; an admin may name another. Raises TooManyRequests."""
        now = self._now()
        new = NewNode(
            id=self._new_id(now),
            name=draft.name,
            role=draft.role,
            is_local=draft.is_local,
            vpn_ip=draft.vpn_ip,
            metadata=draft.metadata,
            owner=_owner(caller, draft.org_id),
            created_by=caller.subject,
            created_at=now,
        )
        async with self._allowance.turn(caller, "nodes"), self._deed_of(caller) as connection:
            await self._allowance.take(connection, caller, "nodes", self._now())
            await storage.create(connection, new)
            node = _there(await storage.find(connection, new.id, None))
            detail = {"name": node.name, "role": node.role}
            await record(connection, node.key, now, Happening(EventKind.CREATED, caller.subject, detail))
            return node

    async def list(self, caller: Caller, query: NodeQuery) -> NodePage:
        """One page of the nodes that the caller may see. Raises InvalidRequest for a foreign org or cursor."""
        asked = query.only.org_id
        if not caller.is_admin:
            if asked is not None and asked != caller.owner.org_id:
                raise InvalidRequest.of("orgId", "only an admin may list another org's nodes")
            only = msgspec.structs.replace(query.only, org_id=caller.owner.org_id)
            query = msgspec.structs.replace(query, only=only)
        async with self._database.driver_transaction() as connection:
            return await read_page(connection, query)

    async def get(self, caller: Caller, node_id: str) -> Node:
        """One node. Raises NodeNotFound, for another org's node too."""
        async with self._database.transaction() as connection:
            return _there(await storage.find(connection, node_id, _org(caller)))

    async def update(self, caller: Caller, node_id: str, edit: Callable[[Node], NodeChanges]) -> Node:
        """Change a node; `edit` is shown the present one and says what to change, or raises.

        What already is so is no change: without any, nothing is written. Raises NodeNotFound, and
        InvalidRequest for a status that can't be set by hand.
        """
        async with self._deed_of(caller) as connection:
            node = _there(await storage.find_locked(connection, node_id, _org(caller)))
            if not await self._apply(connection, node, edit(node), caller.subject):
                return node
            return _there(await storage.find(connection, node_id, None))

    async def delete(self, caller: Caller, node_id: str) -> None:
        """Delete a node softly: its history stays, its tokens and its socket don't. Raises NodeNotFound."""
        async with self._deed_of(caller) as connection:
            node = _there(await storage.find_locked(connection, node_id, _org(caller)))
            now = self._now()
            await storage.change(connection, node.key, caller.subject, now, {"deleted_at": now})
            await end_periods(connection, node.key, now)
            await self._connections.tell_others(connection, node.key)
            await record(connection, node.key, now, Happening(EventKind.DELETED, caller.subject, {}))
        await self._connections.revoke(node_id, NodeNotFound("Node was deleted"))

    async def make_token(self, caller: Caller, node_id: str, expires_in: int, *, revoke_previous: bool) -> MadeToken:
        """A token for the node's worker; it enables a node whose tokens were revoked.

        Raises NodeNotFound or TooManyRequests.
        """
        async with self._allowance.turn(caller, "tokens"), self._deed_of(caller) as connection:
            await self._allowance.take(connection, caller, "tokens", self._now())
            node = _there(await storage.find_locked(connection, node_id, _org(caller)))
            generation = node.token_generation + revoke_previous
            issued = self._tokens.issue_node(node.id, generation, expires_in)
            now = self._now()
            values: dict[str, Any] = {
                "disabled": False,
                "token_generation": generation,
                "token_generated_at": now,
                "token_expires_at": issued.expires_at,
            }
            await storage.change(connection, node.key, caller.subject, now, values)
            made = Happening(EventKind.TOKEN_MADE, caller.subject, {"expiresAt": timestamp(issued.expires_at)})
            revoked_too = [Happening(EventKind.TOKENS_REVOKED, caller.subject, {})] if revoke_previous else []
            await record(connection, node.key, now, *revoked_too, made)
            if revoke_previous:
                await self._connections.tell_others(connection, node.key)
        if revoke_previous:
            revoked = InvalidToken("The token was revoked: a newer one has replaced it")
            await self._connections.revoke(node_id, revoked, below_generation=generation)
        script = install_script(
            node_id=node.id,
            name=node.name,
            token=issued.token,
            endpoint=self._websocket_url,
            download=self._download,
            now=now,
        )
        return MadeToken(issued.token, issued.expires_at, script)

    async def revoke_tokens(self, caller: Caller, node_id: str) -> None:
        """Revoke all tokens of a node and disable it until a new one is made. Raises NodeNotFound."""
        async with self._deed_of(caller) as connection:
            node = _there(await storage.find_locked(connection, node_id, _org(caller)))
            generation = node.token_generation + 1
            values = {
                "disabled": True,
                "token_generation": generation,
                "token_generated_at": None,
                "token_expires_at": None,
            }
            now = self._now()
            await storage.change(connection, node.key, caller.subject, now, values)
            await record(connection, node.key, now, Happening(EventKind.TOKENS_REVOKED, caller.subject, {}))
            await self._connections.tell_others(connection, node.key)
        # Not the socket of a token that somebody has made since.
        await self._connections.revoke(node_id, NodeInactive(), below_generation=generation)

    @asynccontextmanager
    async def _deed_of(self, caller: Caller) -> AsyncIterator[AsyncConnection]:
        """A transaction in which a caller changes something; what is written down of it says from where."""
        async with self._database.transaction() as connection:
            await acts_from(connection, caller.address)
            yield connection

    async def _apply(self, connection: AsyncConnection, node: Node, wanted: NodeChanges, by: str) -> bool:
        """Write what differs; whether anything did."""
        now = self._now()
        changes = _differences(node, wanted)
        if not changes:
            return False
        if "status" in changes:
            check_by_hand(node.status, changes["status"], is_registered=node.registered_at is not None)
            await storage.set_status(connection, node.key, changes["status"], wanted.status_reason or None, by, now)
        elif "status_reason" in changes:
            await storage.set_status_reason(connection, node.key, changes["status_reason"])
        columns = {name: value for name, value in changes.items() if name not in _STATUS_FIELDS}
        await storage.change(connection, node.key, by, now, columns)
        # A change of status has an event of its own, with the reason.
        told = {name: _told(node, name, value) for name, value in changes.items() if name in columns}
        if "status" not in changes and "status_reason" in changes:
            told["status_reason"] = _told(node, "status_reason", changes["status_reason"])
        if told:
            detail = {"changed": {camel(name): value for name, value in told.items()}}
            await record(connection, node.key, now, Happening(EventKind.CHANGED, by, detail))
        return True

    def _now(self) -> datetime:
        """Cut to milliseconds, as times are shown: what a caller sends back compares equal."""
        return to_milliseconds(self._clock.now())


def _differences(node: Node, wanted: NodeChanges) -> dict[str, Any]:
    """The changes that change something."""
    changes = {
        name: value
        for name in wanted.__struct_fields__
        if (value := getattr(wanted, name)) is not msgspec.UNSET and value != getattr(node, name)
    }
    # JSON text that is spaced or ordered otherwise is no change.
    if "metadata" in changes and _decoded(changes["metadata"]) == _decoded(node.metadata):
        del changes["metadata"]
    return changes


def _told(node: Node, name: str, value: Any) -> dict[str, Any]:
    """A changed field as the event has it. Metadata may be long and may be secret: that it changed is enough."""
    return {} if name == "metadata" else change(getattr(node, name), value)


def _decoded(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def _owner(caller: Caller, org_id: str | None) -> Owner:
    own = caller.owner
    if org_id is None or org_id == own.org_id:
        if own.org_id is None:
            raise InvalidRequest.of("orgId", "is required: your token names no org")
        return own
    if not caller.is_admin:
        raise InvalidRequest.of("orgId", "only an admin may create a node for another org")
    return Owner(org_id=org_id)  # the caller's group, agent and app are of another org


def _org(caller: Caller) -> str | None:
    """The org whose nodes the caller may see; None for all."""
    return None if caller.is_admin else caller.owner.org_id


def _there(node: Node | None) -> Node:
    if node is None:
        raise NodeNotFound
    return node
