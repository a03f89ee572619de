"""History of a fleet out of the sample tables: blocks of groups, by their keys, and the keys' names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import msgspec
from sqlalchemy import ARRAY, Integer, any_, bindparam, select

from app.quantities import Field
from app.storage import tables
from app.storage.fleet_series import (
    GPUS_A_NODE,
    GroupBy,
    Order,
    Scope,
    fleet_growth_statement,
    fleet_statement,
    group_count_statement,
    share_statement,
    sum_statement,
)
from app.storage.history import Moments, Points, Reader, beside, bounds
from app.storage.measures import Aggregate, Measure, Value
from app.storage.series import Grid, SeriesStatement
from app.storage.sources import Segment, Source, stored
from app.storage.statements import compiled

Key = int | str

_NODES: Final = compiled(
    select(tables.nodes.c.node_key, tables.nodes.c.id, tables.nodes.c.name, tables.nodes.c.org_id).where(
        tables.nodes.c.node_key == any_(bindparam("node_keys", type_=ARRAY(Integer)))
    )
)
_OF_ORG: Final = compiled(
    select(tables.nodes.c.node_key).where(tables.nodes.c.org_id == bindparam("org_id")).limit(bindparam("rows"))
)
_DEVICES: Final = compiled(
    select(tables.gpus.c.node_key, tables.gpus.c.gpu, tables.gpus.c.device_id, tables.gpus.c.model).where(
        tables.gpus.c.node_key == any_(bindparam("node_keys", type_=ARRAY(Integer)))
    )
)


NAMED_NODES: Final = 1000
"""Rows of more nodes are not looked for one node after the other."""


class Groups(msgspec.Struct, frozen=True):
    """Whose history: how it is grouped, of which org (None: of all), and of which groups (None: of all).

    `nodes` are the keys of those that have rows of it; None where there are too many to name them.
    """

    group_by: GroupBy
    org_id: str | None
    keys: list[Key] | None = None
    nodes: list[int] | None = None

    @property
    def scope(self) -> Scope:
        """As statements tell it."""
        return Scope(self.group_by, self.org_id is not None, self.keys is not None, self.nodes is not None)

    @property
    def values(self) -> dict[str, Any]:
        """The parameters of statements."""
        return {"org_id": self.org_id, "keys": self.keys, "node_keys": self.nodes}

    def chosen(self, keys: list[Key]) -> "Groups":
        """Only the groups of these keys."""
        nodes = self.node_keys(keys) if self.group_by.has_numbers else self.nodes
        return msgspec.structs.replace(self, keys=keys, nodes=nodes)

    def node_keys(self, keys: Sequence[Key]) -> list[int]:
        """The nodes that keys are of, where they are of nodes or GPUs."""
        divisor = GPUS_A_NODE if self.group_by is GroupBy.GPU else 1
        return sorted({key // divisor for key in keys if isinstance(key, int)})


async def groups_of(reader: Reader, group_by: GroupBy, org_id: str | None) -> Groups:
    """The groups of an org's nodes (None: of all), which are named where they are few."""
    if org_id is None:
        return Groups(group_by, org_id)
    found = [row[0] for row in await reader.fetch(_OF_ORG, {"org_id": org_id, "rows": NAMED_NODES + 1})]
    return Groups(group_by, org_id, nodes=found if len(found) <= NAMED_NODES else None)


async def count_groups(reader: Reader, group_by: GroupBy, org_id: str | None) -> int:
    """How many groups there may be of an org's nodes (None: of all)."""
    if group_by is GroupBy.NONE:
        return 1
    groups = Groups(group_by, org_id)
    ((count,),) = await reader.fetch(group_count_statement(groups.scope), groups.values)
    return int(count)


class GroupBlock(msgspec.Struct, frozen=True):
    """A group's rows by columns: times in order, and values in units for each measure."""

    key: Key
    times: list[datetime]
    columns: list[list[Value]]


class Name(msgspec.Struct, frozen=True):
    """What a series is of: a node, its device, or what the members of a group share; nothing of it for all."""

    node_id: str | None = None
    device_id: str | None = None
    group: str | None = None
    node_name: str | None = None
    org_id: str | None = None
    gpu_model: str | None = None


def kinds(measures: Iterable[Measure]) -> list[tuple[Measure, ...]]:
    """Measures by what they are read by: most together, sums, and percentiles of shares by their total."""
    found: dict[tuple[bool, str | None], list[Measure]] = {}
    for measure in measures:
        found.setdefault((measure.aggregate is Aggregate.SUM, measure.total), []).append(measure)
    return [tuple(each) for each in found.values()]


def _statement(measures: Sequence[Measure]) -> Callable[..., SeriesStatement]:
    if measures[0].aggregate is Aggregate.SUM:
        return sum_statement
    return fleet_statement if measures[0].total is None else share_statement


async def read_groups(
    reader: Reader,
    source: Source,
    groups: Groups,
    segments: Sequence[Segment],
    points: Points,
    measures: tuple[Measure, ...],
    rows: int,
) -> list[GroupBlock]:
    """Blocks in the order of their keys: at most `rows` rows in all. All measures are of one kind (see `kinds`)."""
    made = _statement(measures)(source, measures, stored(segments), points.grid, groups.scope, None)
    found = await reader.fetch(made.statement, bounds(segments, points) | groups.values | {"rows": rows})

    def blocks() -> list[GroupBlock]:
        moments = Moments()
        return [
            GroupBlock(key, moments.of(of_key), made.converted(of_key))
            for key, of_key in ((key, list(each)) for key, each in groupby(found, itemgetter(1)))
        ]

    return await beside(blocks, len(found))


async def read_grown_groups(
    reader: Reader,
    source: Source,
    groups: Groups,
    segments: Sequence[Segment],
    points: Points,
    field: Field,
    start: datetime,
    rows: int,
) -> list[GroupBlock]:
    """The same for a counter: how much it grew from `start` on, and its rate a second."""
    used = stored(segments)
    statement = fleet_growth_statement(source, field, used, points.grid, groups.scope)
    values = bounds(segments, points) | groups.values | {"start": start, "rows": rows}
    found = await reader.fetch(statement, values)
    moments = Moments()
    return [
        GroupBlock(
            key,
            moments.of(of_key),
            [[int(row[2]) for row in of_key], [None if row[3] is None else round(row[3], 4) for row in of_key]],
        )
        for key, of_key in ((key, list(each)) for key, each in groupby(found, itemgetter(1)))
    ]


async def rank_groups(
    reader: Reader,
    source: Source,
    groups: Groups,
    segments: Sequence[Segment],
    measure: Measure,
    top: int,
    *,
    descending: bool,
) -> list[Key]:
    """The keys of the first `top` groups by a measure over all segments; who has no value is not among them."""
    # What percentiles are is told from histograms here, so that the database cannot order by them.
    in_database = measure.aggregate.share is None
    order = Order(0, descending) if in_database else None
    made = _statement((measure,))(source, (measure,), stored(segments), Grid.WHOLE, groups.scope, order)
    rows = top if in_database else MOST_RANKED
    found = await reader.fetch(made.statement, bounds(segments, Points()) | groups.values | {"rows": rows})
    values: list[Any] = made.converted(found)[0]
    ranked = [(value, row[1]) for value, row in zip(values, found, strict=True) if value is not None]
    if not in_database:
        ranked.sort(key=itemgetter(0), reverse=descending)
    return [key for _, key in ranked[:top]]


async def rank_grown_groups(
    reader: Reader,
    source: Source,
    groups: Groups,
    segments: Sequence[Segment],
    measure: Measure,
    start: datetime,
    top: int,
    *,
    descending: bool,
) -> list[Key]:
    """The same by the growth of a counter from `start` on, or by its rate."""
    order = Order(_GROWN.index(measure.aggregate), descending)
    statement = fleet_growth_statement(source, measure.field, stored(segments), Grid.WHOLE, groups.scope, order)
    values = bounds(segments, Points()) | groups.values | {"start": start, "rows": top}
    return [row[1] for row in await reader.fetch(statement, values)]


_GROWN: Final = (Aggregate.INCREASE, Aggregate.RATE)
"""In the order in which statements tell them."""

MOST_RANKED: Final = 100_000


async def names(reader: Reader, groups: Groups, keys: Sequence[Key]) -> Mapping[Key, Name]:
    """Who the groups of these keys are."""
    if groups.group_by is GroupBy.NONE:
        return dict.fromkeys(keys, Name())
    if not groups.group_by.has_numbers:
        return {key: Name(group=str(key)) for key in keys}
    node_keys = groups.node_keys(keys)
    nodes = {row[0]: row[1:] for row in await reader.fetch(_NODES, {"node_keys": node_keys})}
    if groups.group_by is GroupBy.NODE:
        return {key: Name(id_, node_name=name, org_id=org_id) for key, (id_, name, org_id) in nodes.items()}
    found: dict[Key, Name] = {}
    for node_key, gpu, device_id, model in await reader.fetch(_DEVICES, {"node_keys": node_keys}):
        id_, name, org_id = nodes[node_key]
        found[node_key * GPUS_A_NODE + gpu] = Name(id_, device_id, None, name, org_id, model)
    return found
