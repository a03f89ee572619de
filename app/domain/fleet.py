"""The fleet now: its summary, and the present state of every node and GPU. What was is `domain/history`'s."""

from datetime import datetime, timedelta
from typing import Final

import msgspec

from app.clock import Clock
from app.errors import InvalidRequest
from app.model import Caller, NodeStatus
from app.storage import fleet as storage
from app.storage.database import Database
from app.storage.fleet import GpuModel, GpusNow, PresentGpu, PresentNode, StaleNode

MAX_STALE: Final = 100


class FleetSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes that a caller may see, counted; every status has a count.

    `stale` are the longest silent of the `stale_count` registered nodes, not in maintenance, that were not
    heard for longer than the heartbeat timeout.
    """

    time: datetime
    by_status: dict[NodeStatus, int]
    connected: int
    models: list[GpuModel]
    now: GpusNow
    stale_count: int
    stale: list[StaleNode]


class PresentFleet(msgspec.Struct, frozen=True):
    """Each node and each GPU that a caller may see."""

    nodes: list[PresentNode]
    gpus: list[PresentGpu]


class Fleet:
    """The fleet service. Holds no state of its own; each question is one transaction.

    Only an admin may ask for an org other than the own: InvalidRequest for everyone else. Raises StorageUnavailable
    for a query that takes too long.
    """

    def __init__(
        self, database: Database, clock: Clock, *, heartbeat_timeout: timedelta, query_timeout_ms: int
    ) -> None:
        self._database = database
        self._clock = clock
        self._heartbeat_timeout = heartbeat_timeout
        self._query_timeout_ms = query_timeout_ms

    async def summary(self, caller: Caller, asked_org: str | None) -> FleetSummary:
        """The nodes of the caller's org in numbers; for an admin of the org asked for, or of all."""
        org_id = org_asked(caller, asked_org)
        now = self._clock.now()
        async with self._database.limited_transaction(self._query_timeout_ms) as connection:
            counts = await storage.count_by_status(connection, org_id)
            models, gpus_now = await storage.sum_up_gpus(connection, org_id)
            silent_before = now - self._heartbeat_timeout
            stale_count, stale = await storage.stale_nodes(connection, org_id, silent_before, MAX_STALE)
        return FleetSummary(
            time=now,
            by_status=dict.fromkeys(NodeStatus, 0) | {count.status: count.nodes for count in counts},
            connected=sum(count.connected for count in counts),
            models=models,
            now=gpus_now,
            stale_count=stale_count,
            stale=stale,
        )

    async def present(self, caller: Caller, asked_org: str | None) -> PresentFleet:
        """The same nodes, and their GPUs, one by one."""
        org_id = org_asked(caller, asked_org)
        silent_before = self._clock.now() - self._heartbeat_timeout
        async with self._database.limited_transaction(self._query_timeout_ms) as connection:
            return PresentFleet(
                await storage.present_nodes(connection, org_id, silent_before),
                await storage.present_gpus(connection, org_id, silent_before),
            )


def org_asked(caller: Caller, asked: str | None) -> str | None:
    """The org whose nodes are meant; None for all. Raises InvalidRequest for another org than the caller's own."""
    if caller.is_admin:
        return asked
    own = caller.owner.org_id
    if asked is not None and asked != own:
        raise InvalidRequest.of("orgId", "only an admin may ask for another org's nodes")
    return own
