"""Who is connected to this process: admission, takeover, revocation, goodbyes, and the numbers of GPUs.

The database decides who owns a node (the connection with the highest epoch); this registry holds the
ends of the wires, so that a loser can be hung up on.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final, Protocol

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import Clock
from app.domain.auth import NodeClaims
from app.domain.batches import Batches
from app.domain.pace import Pace
from app.errors import (
    AiwmError,
    InvalidToken,
    NodeInactive,
    NodeNotFound,
    SampleRefused,
    StorageUnavailable,
    TokenExpired,
)
from app.model import GpuDevice, Hardware, Sample
from app.protocol.session import Close, CloseCode
from app.storage import connections, gateways, gpus, news
from app.storage.connections import Admission, Claim, Departure
from app.storage.database import Database
from app.storage.events import acts_from
from app.storage.gpus import MOST_NUMBERS, KnownGpu
from app.storage.news import Standing
from app.storage.returns import Registration, register_returning

_log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0
BATCH: Final = 200
"""As many connections as one transaction admits, or registers."""
TOO_MANY_DEVICES: Final = (
    f"more than the {MOST_NUMBERS:,} GPUs that a node may have had: a GPU keeps its deviceId. "
    "Mend the worker, then create the node anew"
)
NEVER: Final = datetime.max.replace(tzinfo=UTC)
TAKEN_OVER: Final = Close(CloseCode.TAKEN_OVER, "A newer connection of this node took over")


class Link(Protocol):
    """The socket's end of a connection."""

    def hang_up(self, close: Close) -> None:
        """Close the socket soon; returns at once, and is harmless the second time."""
        ...


class Member(msgspec.Struct, gc=False):
    """One connected node. Owned by the endpoint that joined it, which also makes it leave."""

    node_id: str
    node_key: int
    epoch: int
    generation: int
    issued_at: datetime
    expires_at: datetime
    link: Link
    is_registered: bool
    gpus: dict[str, KnownGpu]


class Registry:
    """Owned by the composition root, which runs `run` (goodbyes) as a task."""

    def __init__(self, database: Database, gateway_id: int, seat: str, clock: Clock) -> None:
        self._database = database
        self._seat = seat
        self._gateway_id = gateway_id
        self._clock = clock
        self._members: dict[str, Member] = {}
        self._next_expiry = NEVER
        self._pace = Pace(clock)
        self._waiting: dict[str, Link] = {}
        self._admissions = Batches(self._claim, attrgetter("node_id"), most=BATCH)
        self._registrations = Batches(self._register, attrgetter("node_key"), most=BATCH)
        self._departures: dict[tuple[int, int], Departure] = {}
        self._departed = asyncio.Event()

    async def join(self, claims: NodeClaims, link: Link) -> Member | None:
        """Admit a connection; an older one of the same node is hung up on.

        A node that comes too often waits first. None where meanwhile a newer connection of it came, and this one was hung
        up on. Raises NodeNotFound, NodeInactive, InvalidToken (revoked), TokenExpired, StorageUnavailable.
        """
        if not await self._wait(claims.node_id, link):
            return None
        if claims.expires_at <= self._clock.now():
            raise TokenExpired
        claim = await self._admissions.ask(Admission(claims.node_id, claims.generation))
        if claim is None:
            raise NodeNotFound("Node ID not found in database")
        if claim.disabled:
            raise NodeInactive
        if claim.epoch is None:
            raise InvalidToken("This token was revoked; use the node's newest one")
        member = Member(
            node_id=claims.node_id,
            node_key=claim.node_key,
            epoch=claim.epoch,
            generation=claims.generation,
            issued_at=claims.issued_at,
            expires_at=claims.expires_at,
            link=link,
            is_registered=claim.is_registered,
            gpus=claim.gpus,
        )
        self._enter(member)
        return member

    async def _wait(self, node_id: str, link: Link) -> bool:
        """Until the node may come in; False where a newer connection waits in this one's place."""
        if (former := self._waiting.pop(node_id, None)) is not None:
            former.hang_up(TAKEN_OVER)
        while (seconds := self._pace.step(node_id)) > 0:
            self._waiting[node_id] = link
            try:
                await self._clock.sleep(seconds)
            finally:
                is_newest = self._waiting.get(node_id) is link
                if is_newest:
                    del self._waiting[node_id]
            if not is_newest:
                return False
        return True

    def _enter(self, member: Member) -> None:
        """Two connections may have claimed the node at once: the higher epoch stays, whoever comes here first."""
        present = self._members.get(member.node_id)
        if present is not None and present.epoch > member.epoch:
            member.link.hang_up(TAKEN_OVER)
            return
        self._members[member.node_id] = member
        self._next_expiry = min(self._next_expiry, member.expires_at)
        if present is not None:
            present.link.hang_up(TAKEN_OVER)

    def leave(self, member: Member, *, by_worker: bool) -> None:
        """A connection ended, at the worker's end or at ours. It is recorded as soon as the database takes it."""
        if self._members.get(member.node_id) is member:
            del self._members[member.node_id]
        departure = Departure(member.node_key, member.epoch, by_worker)
        self._departures[member.node_key, member.epoch] = departure
        self._departed.set()

    async def register(self, member: Member, hardware: Hardware, address: str | None) -> datetime:
        """Store a node's hardware, waiting out a database that is away. Returns when it was registered."""
        while True:
            try:
                asked = Registration(member.node_key, member.epoch, hardware, address)
                gpus, now = await self._registrations.ask(asked)
            except StorageUnavailable:
                await self._clock.sleep(RETRY_SECONDS)
            else:
                # None: a newer connection owns the node by now, and this one is about to be hung up on.
                if gpus is not None:
                    member.gpus, member.is_registered = gpus, True
                return now

    async def _claim(self, admissions: list[Admission]) -> list[Claim | None]:
        async with self._database.transaction() as connection:
            claims = await connections.claim(connection, admissions, self._gateway_id, self._clock.now())
            taken = [
                (admission.node_id, claim.former)
                for admission, claim in zip(admissions, claims, strict=True)
                if claim is not None and claim.epoch is not None and claim.former not in (None, self._gateway_id)
            ]
            await news.tell(connection, taken)
        return claims

    async def _register(self, registrations: list[Registration]) -> list[tuple[dict[str, KnownGpu] | None, datetime]]:
        """The GPUs of each node as its samples will number them, None where a newer connection owns it by now."""
        now = self._clock.now()
        async with self._database.transaction() as connection:
            found: dict[int, dict[str, KnownGpu] | None] = dict(
                await register_returning(connection, registrations, now)
            )
            for each in registrations:
                if each.node_key not in found:
                    await acts_from(connection, each.address)
                    found[each.node_key] = await connections.register(
                        connection, each.node_key, each.epoch, each.hardware, now
                    )
        return [(found[each.node_key], now) for each in registrations]

    async def number_gpus(self, member: Member, sample: Sample) -> tuple[int, ...]:
        """The numbers of a sample's GPUs, in its order; a GPU that was never seen gets one first. Raises SampleRefused."""
        numbers = known_numbers(member, sample)
        while numbers is None:
            devices = [GpuDevice(reading.device_id, reading.model) for reading in sample.gpus]
            try:
                async with self._database.transaction() as connection:
                    member.gpus = await gpus.number_gpus(connection, member.node_key, devices, self._clock.now())
            except StorageUnavailable:
                await self._clock.sleep(RETRY_SECONDS)
            else:
                if known_numbers(member, sample) is None:
                    raise SampleRefused(f"The sample is of {TOO_MANY_DEVICES}")
            numbers = known_numbers(member, sample)
        return numbers

    async def revoke(self, node_id: str, error: AiwmError, *, below_generation: int | None = None) -> None:
        """Hang up on a node with the error's close code; if asked, only where its token is of an older generation."""
        member = self._members.get(node_id)
        if member is not None and (below_generation is None or member.generation < below_generation):
            member.link.hang_up(Close.because_of(error))

    async def tell_others(self, connection: AsyncConnection, node_key: int) -> None:
        """Within the transaction that changes a node's standing: tell the gateway that holds it, if it is another."""
        await news.tell_holder(connection, node_key, self._gateway_id)

    def members(self) -> Collection[str]:
        """The ids of all nodes that are connected here."""
        return self._members.keys()

    def act(self, standings: Sequence[Standing]) -> None:
        """Hang up on those that may not stay: deleted, taken over elsewhere, or with a token that was revoked."""
        for standing in standings:
            member = self._members.get(standing.node_id)
            if member is not None and (close := _verdict(member, standing)) is not None:
                member.link.hang_up(close)

    def hang_up_expired(self) -> None:
        """End every connection whose token has expired: a socket does not outlive its token."""
        now = self._clock.now()
        if now < self._next_expiry:
            return  # all members are many, and this is asked each second
        for member in self._members.values():
            if member.expires_at <= now:
                member.link.hang_up(Close.because_of(TokenExpired()))
        left = (member.expires_at for member in self._members.values() if member.expires_at > now)
        self._next_expiry = min(left, default=NEVER)

    async def retake_seat(self) -> None:
        """This gateway was taken for dead, and its nodes for nobody's: it takes back its seat, and those that are here."""
        members = list(self._members.values())
        now = self._clock.now()
        async with self._database.transaction() as connection:
            if not await gateways.retake_seat(connection, self._gateway_id, self._seat, now):
                _log.warning("Another gateway has the seat %s: is there a second one of that name?", self._seat)
                return
            held = [(member.node_key, member.epoch) for member in members]
            await connections.reclaim(connection, held, self._gateway_id, now)
        _log.warning("This gateway was taken for dead; its %d connections are its own again.", len(members))
        for member in members:
            if self._members.get(member.node_id) is not member:
                # It left meanwhile, and its goodbye may have come first.
                self._departures.setdefault(
                    (member.node_key, member.epoch), Departure(member.node_key, member.epoch, by_worker=False)
                )
                self._departed.set()

    async def run(self) -> None:
        """Work off admissions, registrations and goodbyes, many at once."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._admissions.run(), name="admissions")
            tasks.create_task(self._registrations.run(), name="registrations")
            tasks.create_task(self._record_goodbyes(), name="goodbyes")

    async def _record_goodbyes(self) -> None:
        """Keep them while the database is away."""
        while True:
            await self._departed.wait()
            try:
                await self.record_departures()
            except Exception as error:  # noqa: BLE001 – a deadlock, a read-only standby: it is tried again
                if not isinstance(error, StorageUnavailable):
                    _log.exception("Goodbyes could not be recorded; it is tried again.")
                await self._clock.sleep(RETRY_SECONDS)

    async def record_departures(self) -> None:
        """Write down who is gone. Raises StorageUnavailable, and then nothing is forgotten."""
        departures = dict(self._departures)
        self._departed.clear()
        if not departures:
            return
        try:
            async with self._database.transaction() as connection:
                await connections.depart(connection, list(departures.values()), self._clock.now())
        except BaseException:
            self._departed.set()
            raise
        for key in departures:
            del self._departures[key]


def _verdict(member: Member, standing: Standing) -> Close | None:
    if standing.is_deleted:
        return Close.because_of(NodeNotFound("Node was deleted"))
    if standing.epoch > member.epoch:
        return TAKEN_OVER
    if member.generation < standing.token_generation:
        return Close.because_of(NodeInactive() if standing.disabled else InvalidToken("The token was revoked"))
    return None


def known_numbers(member: Member, sample: Sample) -> tuple[int, ...] | None:
    """The numbers of a sample's GPUs, in its order; None where one of them has none yet, or is of another model now."""
    numbers = []
    for reading in sample.gpus:
        known = member.gpus.get(reading.device_id)
        if known is None or reading.model not in (None, known.model):
            return None
        numbers.append(known.gpu)
    return tuple(numbers)
