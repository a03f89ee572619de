"""History out of the sample tables.

Rows are found by `node_key` and time alone, so that PostgreSQL reads the days that the range touches
and no others.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

import asyncpg
import msgspec
from sqlalchemy import Table, bindparam, func, select

from app.quantities import Field
from app.storage import relations, tables
from app.storage.database import NO_LIMIT, Database, time_limit
from app.storage.measures import Measure, Value
from app.storage.series import Grid, growth_statement, series_statement
from app.storage.sources import ROLLED, Segment, Source, stored
from app.storage.statements import Statement, compiled

GRACE_SECONDS: Final = 5.0
"""The server's time limit speaks first; ours, later by this, is for a server that no longer answers."""

FEW_ROWS: Final = 1000
"""So many are not worth a thread."""
T = TypeVar("T")

_nodes, _gpus = tables.nodes, tables.gpus
_NODE: Final = (
    select(_nodes.c.node_key, _nodes.c.name, _nodes.c.org_id, _gpus.c.gpu, _gpus.c.device_id, _gpus.c.model)
    .select_from(_nodes.outerjoin(_gpus, _gpus.c.node_key == _nodes.c.node_key))
    .where(_nodes.c.id == bindparam("id"), _nodes.c.deleted_at.is_(None))
    .order_by(_gpus.c.gpu)
)
_FIND: Final = compiled(_NODE)
_FIND_IN_ORG: Final = compiled(_NODE.where(_nodes.c.org_id == bindparam("org_id")))
# Plans for the range at hand: a generic one would lock every partition there is.
_SET_LIMITS: Final = compiled(
    select(
        func.set_config("statement_timeout", bindparam("timeout"), True),
        func.set_config("plan_cache_mode", "force_custom_plan", True),
        # Compiling would take longer than most of them run.
        func.set_config("jit", "off", True),
        # How many groups are chosen it can only guess: a loop would read the range anew for each of them.
        func.set_config("enable_nestloop", "off", True),
        # PostgreSQL 18 would skip through the key, a search for each GPU, where the index by time leads to a few blocks.
        func.set_config("enable_indexscan", "off", True),
        # They would take longer to start, and processors that ingest needs.
        func.set_config("max_parallel_workers_per_gather", "0", True),
        func.array_agg(relations.watermarks.c.rollup),
        func.array_agg(relations.watermarks.c.until),
    )
)


class Points(msgspec.Struct, frozen=True):
    """Where points stand: at the samples, at buckets of `width`, or between `edges` (of which the last only ends)."""

    width: timedelta | None = None
    edges: list[datetime] | None = None

    @property
    def grid(self) -> Grid:
        """As statements tell it."""
        if self.edges is not None:
            return Grid.EDGES
        return Grid.SAMPLES if self.width is None else Grid.WIDTH


class Device(NamedTuple):
    """A GPU, and where its models are to be told apart, the one it had."""

    device_id: str
    model: str | None = None


class KnownNode(msgspec.Struct, frozen=True):
    """A node, and the devices that ever were in it, by the numbers that their samples carry."""

    key: int
    id: str
    name: str
    org_id: str | None
    gpus: Mapping[int, Device]


class Block(msgspec.Struct, frozen=True):
    """Rows of one device (None: of the node) by columns: times in order, and values for each measure.

    A time is a bucket's start, or the sample's own. Values are in units; None is no value.
    """

    device: Device | None
    times: list[datetime]
    columns: list[list[Value]]


class Growth(msgspec.Struct, frozen=True):
    """How much a counter of one device (None: of the node) grew, and in how many seconds, at times in order."""

    device: Device | None
    times: list[datetime]
    growths: list[int]
    seconds: list[float]


@asynccontextmanager
async def reading(database: Database, timeout_ms: int | None) -> AsyncIterator["Reader"]:
    """A transaction to read in, each of its statements within `timeout_ms` milliseconds; None is without limit.

    Raises StorageUnavailable for a statement that takes longer.
    """
    with time_limit(timeout_ms):
        async with database.driver_transaction() as connection:
            reader = Reader(connection, timeout_ms)
            await reader.set_limits()
            yield reader


class Reader:
    """Reads within one transaction; `reading` makes it and ends it."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", timeout_ms: int | None) -> None:
        self._connection = connection
        self._timeout_ms = timeout_ms or 0  # to PostgreSQL, 0 is no limit
        self._seconds = timeout_ms / 1000 + GRACE_SECONDS if timeout_ms else NO_LIMIT
        self.rolled: Mapping[str, datetime] = {}
        """Up to where each rollup may be read, by its name; one in which there is nothing yet is not there."""

    async def set_limits(self) -> None:
        """For this transaction: the time limit, and how statements are planned."""
        ((*_, rollups, until),) = await self.fetch(_SET_LIMITS, {"timeout": str(self._timeout_ms)})
        self.rolled = dict(zip(rollups or (), until or (), strict=True))

    async def find_node(self, node_id: str, org_id: str | None) -> KnownNode | None:
        """The node of this id, unless it was deleted; only of this org, where one is given."""
        rows = await self.fetch(_FIND if org_id is None else _FIND_IN_ORG, {"id": node_id, "org_id": org_id})
        if not rows:
            return None
        first = rows[0]
        gpus = {row["gpu"]: Device(row["device_id"], row["model"]) for row in rows if row["gpu"] is not None}
        return KnownNode(first["node_key"], node_id, first["name"], first["org_id"], gpus)

    async def read(
        self,
        source: Source,
        node: KnownNode,
        segments: Sequence[Segment],
        points: Points,
        measures: tuple[Measure, ...],
        rows: int,
    ) -> list[Block]:
        """What was measured: at most `rows` rows, in a block for each device that has any."""
        made = series_statement(source, measures, stored(segments), points.grid, _whole(source, node, points))
        found = await self.fetch(made.statement, bounds(segments, points) | _whose(node) | {"rows": rows})

        def blocks() -> list[Block]:
            moments = Moments()
            if not source.is_per_gpu:
                return [Block(None, moments.of(found), made.converted(found))] if found else []
            return [
                Block(device, moments.of(of_device), made.converted(of_device))
                for device, of_device in _by_device(node, found)
            ]

        return await beside(blocks, len(found))

    async def read_growth(
        self,
        source: Source,
        node: KnownNode,
        segments: Sequence[Segment],
        points: Points,
        field: Field,
        start: datetime,
        rows: int,
    ) -> list[Growth]:
        """How much a counter grew from `start` on: at most `rows` points."""
        statement = growth_statement(source, field, stored(segments), points.grid)
        values = bounds(segments, points) | _whose(node) | {"start": start, "rows": rows}
        found = await self.fetch(statement, values)
        if not source.is_per_gpu:
            return [_growth(None, found)] if found else []
        return [_growth(device, of_device) for device, of_device in _by_device(node, found)]

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> "list[asyncpg.Record]":
        """The rows of a statement, within the time limit."""
        return await self._connection.fetch(statement.sql, *statement.arguments(values), timeout=self._seconds)


async def beside(make: Callable[[], T], rows: int) -> T:
    """What is made of so many rows: of many, beside the event loop, which also answers heartbeats."""
    return await asyncio.to_thread(make) if rows > FEW_ROWS else make()


def _whole(source: Source, node: KnownNode, points: Points) -> Table | None:
    """The rollup whose rows are the points themselves; none where a device has several numbers, and so several rows."""
    if source.is_per_gpu and len(node.gpus) > len(set(node.gpus.values())):
        return None
    return next((ROLLED[rollup.table] for rollup in source.rollups if rollup.width == points.width), None)


def _whose(node: KnownNode) -> dict[str, Any]:
    """The parameters of statements that say whose rows are read."""
    devices = list(dict.fromkeys(node.gpus.values()))
    places = {gpu: devices.index(device) for gpu, device in node.gpus.items()}
    return {"node_key": node.key, "gpus": list(node.gpus), "devices": _by_number(places)}


def _by_device(node: KnownNode, rows: Sequence[Any]) -> Iterator[tuple[Device, list[Any]]]:
    """Each device's rows, which tell its place behind their time."""
    devices = list(dict.fromkeys(node.gpus.values()))
    return ((devices[place], list(of_device)) for place, of_device in groupby(rows, itemgetter(1)))


def _growth(device: Device | None, rows: Sequence[Any]) -> Growth:
    return Growth(device, Moments().of(rows), [int(row[2]) for row in rows], [float(row[3]) for row in rows])


class Moments(dict[float, datetime]):
    """Moments by their seconds since 1970: of many series each is made once."""

    def __missing__(self, seconds: float) -> datetime:
        """One that is new."""
        moment = self[seconds] = datetime.fromtimestamp(seconds, UTC)
        return moment

    def of(self, rows: Sequence[Any]) -> list[datetime]:
        """The times of rows, which stand first in them."""
        return [self[row[0]] for row in rows]


def bounds(segments: Sequence[Segment], points: Points) -> dict[str, Any]:
    """The parameters of statements that say where segments and points begin and end."""
    found: dict[str, Any] = msgspec.structs.asdict(points)
    for place, segment in enumerate(segments):
        found |= {f"start_{place}": segment.start, f"end_{place}": segment.end}
    return found


def _by_number(places: Mapping[int, int]) -> list[int | None]:
    """An array in which SQL looks a GPU's number up; arrays there count from 1."""
    return [places.get(number) for number in range(1, max(places, default=0) + 1)]
