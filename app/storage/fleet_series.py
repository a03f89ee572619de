"""Statements for series over a fleet: groups of nodes or GPUs, deleted nodes in their time included.

Samples and rollups are read as for one node (see `series.py`), then joined with whom they belong to. A
group's average is over all of its samples; its sum adds up the averages of its series, so that watts stay
watts.

A group's key is a number for a node (`node_key`) and for a GPU (see `gpu_key`), else its name; 0 for all.
"""

from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    Integer,
    Select,
    Subquery,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    distinct,
    func,
    literal,
    select,
)

from app.quantities import Field
from app.storage import measure_columns as of
from app.storage import tables
from app.storage.measure_columns import Selected
from app.storage.measures import Aggregate, Measure
from app.storage.series import (
    Filter,
    Grid,
    SeriesStatement,
    growth_steps,
    labelled,
    of_node,
    partials,
    seconds,
    series,
    within,
)
from app.storage.sources import GPUS_OF_NODES, ROLLED, Source
from app.storage.statements import Statement, compiled

_nodes, _gpus = tables.nodes, tables.gpus
NO_NAME: Final = "unknown"
"""The group of GPUs whose model nobody told, and of nodes without an org."""
GPUS_A_NODE: Final = 2**16
TOTALS_ALIKE: Final = 64
"""Totals that differ by less than the 64th part are taken for the larger: that is a third of a bucket of their shares at most."""
_ADDED_UP: Final = [(ROLLED[rollup.table],) for rollup in GPUS_OF_NODES]


class GroupBy(StrEnum):
    """Of whom a series is: a node (a node is in each of its roles), a GPU, a kind of them, or all."""

    NODE = "node"
    GPU = "gpu"
    GPU_MODEL = "gpuModel"
    ROLE = "role"
    ORG = "org"
    NONE = "none"

    @property
    def needs_gpus(self) -> bool:
        """Whether only GPUs have it."""
        return self in (GroupBy.GPU, GroupBy.GPU_MODEL)

    @property
    def has_numbers(self) -> bool:
        """Whether its keys are of nodes or GPUs."""
        return self in (GroupBy.NODE, GroupBy.GPU)


class Scope(NamedTuple):
    """Whose rows are read: by what they are grouped, of one org or of all, of chosen groups or of all.

    `by_node`: whether rows are found by `node_keys`; else all of the time are read, and what is not asked for dropped.
    """

    group_by: GroupBy
    of_org: bool
    is_chosen: bool = False
    by_node: bool = False


class Order(NamedTuple):
    """Which groups come first: the greatest by a measure, or the least."""

    place: int
    descending: bool


@lru_cache(maxsize=256)
def fleet_statement(
    source: Source,
    measures: tuple[Measure, ...],
    used: tuple[Table, ...],
    grid: Grid,
    scope: Scope,
    order: Order | None,
) -> SeriesStatement:
    """Gives the time, the group's key, and columns for the measures; no sums among them.

    By group and time, or by `order`; `rows` is the most it gives. Wants `org_id`, `keys` and `node_keys`, as the
    scope has it.
    """
    if used == (source.table,):
        found = _samples(source.table, scope)
        return _grouped(found, [of.of_samples(found, measure) for measure in measures], grid, scope, order)
    key_of = _series_key if scope.group_by.needs_gpus else _node_key if _tells_groups(scope) else _no_key
    found = partials(source, measures, dict(enumerate(used)), grid, key_of, _filters(scope))
    return _grouped(found, [of.of_partials(found.c, measure) for measure in measures], grid, scope, order)


@lru_cache(maxsize=64)
def sum_statement(
    source: Source,
    measures: tuple[Measure, ...],
    used: tuple[Table, ...],
    grid: Grid,
    scope: Scope,
    order: Order | None,
) -> SeriesStatement:
    """The same for sums: of the averages of a group's series.

    Of nodes' GPUs together (one of `GPUS_OF_NODES`, alone) the averages are added up already.
    """
    if used in _ADDED_UP:
        (table,) = used
        rows = select(table.c.time.label("moment"), *table.c).where(*within(table, 0), *_conditions(scope, table))
        found = rows.subquery("added")
        added = [of.average(func.sum(found.c[f"{field.column}_avg_sum"]), field) for field, _ in measures]
        return _grouped(found, added, grid, scope, order)
    averages = tuple(Measure(measure.field, Aggregate.AVG) for measure in measures)
    found = partials(source, averages, dict(enumerate(used)), grid, _series_key, _filters(scope))
    key = [found.c[name] for name in ("node_key", "gpu") if name in found.c]
    averaged = (
        select(
            grid.bucket(found.c.moment).label("moment"),
            *key,
            *(
                (
                    func.sum(found.c[f"{field.column}_sum"])
                    / func.nullif(func.sum(found.c[f"{field.column}_count"]), 0)
                ).label(field.column)
                for field, _ in measures
            ),
        )
        .group_by(grid.bucket(found.c.moment), *key)
        .subquery("averaged")
    )
    selected = [of.average(func.sum(averaged.c[field.column]), field) for field, _ in measures]
    return _grouped(averaged, selected, grid, scope, order)


@lru_cache(maxsize=64)
def share_statement(
    source: Source,
    measures: tuple[Measure, ...],
    used: tuple[Table, ...],
    grid: Grid,
    scope: Scope,
    order: Order | None,
) -> SeriesStatement:
    """The same for percentiles of shares, all of one total: what was counted of unlike totals is told apart.

    12 of 24 GB and 40 of 80 GB are in the same bucket, and are not the same. `order` tells nothing: percentiles are no columns.
    """
    if used == (source.table,):
        return fleet_statement(source, measures, used, grid, scope, order)
    found = partials(source, measures, dict(enumerate(used)), grid, _series_key, _filters(scope))
    joined, key = _with_groups(found, scope)
    total = found.c[f"{measures[0].total}_max"]
    by = [grid.bucket(found.c.moment).label("moment"), key.label("key")]
    # Machines of one kind have totals that differ by some megabytes: a histogram for each would be as many as there are machines.
    alike = func.floor(func.ln(cast(func.nullif(total, 0), Double)) * TOTALS_ALIKE)
    rows = select(*by, func.max(total).label("total"), *of.apart(found.c, measures)).select_from(joined)
    rows = rows.where(*_chosen(key, scope)).group_by(*by, alike)
    apart = rows.subquery("apart")
    selected = [of.of_totals(apart.c, measure) for measure in measures]
    whose = [apart.c.moment, apart.c.key]
    statement = select(seconds(whose[0]), whose[1], *labelled(selected)).group_by(*whose).order_by(*reversed(whose))
    return series(statement, 2, selected)


@lru_cache(maxsize=64)
def fleet_growth_statement(
    source: Source, field: Field, used: tuple[Table, ...], grid: Grid, scope: Scope, order: Order | None = None
) -> Statement:
    """How much a counter grew over a group: `time`, key, growth, and the nodes' rates added up, a second."""
    steps = growth_steps(source, field, used, _filters(scope), of_node)
    growth, seconds = func.sum(steps.c.growth), func.sum(steps.c.seconds)
    time = grid.bucket(steps.c.moment)
    grown = (
        select(
            time.label("moment"),
            steps.c.whose.label("node_key"),
            growth.label("growth"),
            (cast(growth, Double) / func.nullif(cast(seconds, Double), 0)).label("rate"),
        )
        .where(steps.c.growth.is_not(None), steps.c.moment >= bindparam("start", type_=steps.c.moment.type))
        .group_by(time, steps.c.whose)
        .subquery("grown")
    )
    selected = [Selected((func.sum(grown.c[name]),), list) for name in ("growth", "rate")]
    return _grouped(grown, selected, Grid.SAMPLES, scope, order).statement


@lru_cache(maxsize=16)
def group_count_statement(scope: Scope) -> Statement:
    """How many groups there may be, whether they have measured anything or not."""
    members = _with_key(scope.group_by)
    if scope.of_org:
        members = members.where(_nodes.c.org_id == bindparam("org_id"))
    found = members.subquery("members")
    return compiled(select(func.count(distinct(found.c.key if "key" in found.c else found.c.node_key))))


def gpu_key(node_key: int, gpu: int) -> int:
    """The key of a GPU, as SQL makes it."""
    return node_key * GPUS_A_NODE + gpu


def _grouped(
    found: Subquery, selected: list[Selected], grid: Grid, scope: Scope, order: Order | None
) -> SeriesStatement:
    joined, key = _with_groups(found, scope)
    time = grid.bucket(found.c.moment)
    by = [time, *([] if scope.group_by is GroupBy.NONE else [key])]
    columns = labelled(selected)
    statement = select(seconds(time), key.label("key"), *columns).select_from(joined).group_by(*by)
    statement = statement.where(*_chosen(key, scope))
    if order is None:
        statement = statement.order_by(*reversed(by))
    else:
        value = columns[order.place].element
        statement = statement.order_by((value.desc() if order.descending else value.asc()).nulls_last(), key)
    return series(statement, 2, selected)


def _with_groups(found: Subquery, scope: Scope) -> tuple[FromClause, ColumnElement[Any]]:
    """What was found, joined with whom it belongs to, and the key of its group."""
    key: ColumnElement[Any] = found.c.node_key if scope.group_by is GroupBy.NODE else literal(0)
    members = _members(scope)
    if members is None:
        return found, key
    condition = members.c.node_key == found.c.node_key
    if "gpu" in members.c:
        condition &= members.c.gpu == found.c.gpu
    return found.join(members, condition), members.c.key if "key" in members.c else key


def _chosen(key: ColumnElement[Any], scope: Scope) -> list[ColumnElement[Any]]:
    """That a group is one of those chosen."""
    type_ = ARRAY(BigInteger) if scope.group_by.has_numbers else ARRAY(Text)
    return [key == any_(bindparam("keys", type_=type_))] if scope.is_chosen else []


def _samples(table: Table, scope: Scope) -> Subquery:
    rows = select(*table.c, table.c.time.label("moment")).where(*within(table, 0), *_conditions(scope, table))
    return rows.subquery("samples")


def _conditions(scope: Scope, table: Table) -> list[ColumnElement[Any]]:
    return [condition(table) for condition in _filters(scope)]


def _tells_groups(scope: Scope) -> bool:
    """Whether it matters which node a row is of."""
    return scope.group_by is GroupBy.NODE or _members(scope) is not None


def _no_key(_: Table) -> list[ColumnElement[Any]]:
    return []


def _node_key(table: Table) -> list[ColumnElement[Any]]:
    return [table.c.node_key]


def _series_key(table: Table) -> list[ColumnElement[Any]]:
    return [table.c[name] for name in ("node_key", "gpu") if name in table.c]


def _filters(scope: Scope) -> list[Filter]:
    return [_of_named_nodes] if scope.by_node else []


def _of_named_nodes(table: Table) -> ColumnElement[Any]:
    return table.c.node_key == any_(bindparam("node_keys", type_=ARRAY(Integer)))


def _members(scope: Scope) -> Subquery | None:
    """Whose rows count, and in which group they do; None where all do and the rows tell their group."""
    is_narrowed = scope.of_org and not scope.by_node
    if scope.group_by in (GroupBy.NONE, GroupBy.NODE) and not is_narrowed:
        return None
    members = _with_key(scope.group_by)
    if scope.by_node:
        # How many there are the planner sees in the array; of an org it may only guess, and loop over all rows for each.
        members = members.where(_of_named_nodes(_nodes))
    elif scope.of_org:
        members = members.where(_nodes.c.org_id == bindparam("org_id"))
    return members.subquery("members")


def _with_key(group_by: GroupBy) -> Select[Any]:
    match group_by:
        case GroupBy.GPU:
            # A device whose model changed has several numbers; the first is its key.
            first = func.min(_gpus.c.gpu).over(partition_by=(_gpus.c.node_key, _gpus.c.device_id))
            key = cast(_gpus.c.node_key, BigInteger) * GPUS_A_NODE + first
            return select(_gpus.c.node_key, _gpus.c.gpu, key.label("key")).join(_nodes)
        case GroupBy.GPU_MODEL:
            key = func.coalesce(_gpus.c.model, NO_NAME)
            return select(_gpus.c.node_key, _gpus.c.gpu, key.label("key")).join(_nodes)
        case GroupBy.ROLE:
            return select(_nodes.c.node_key, func.unnest(_nodes.c.role).label("key"))
        case GroupBy.ORG:
            return select(_nodes.c.node_key, func.coalesce(_nodes.c.org_id, NO_NAME).label("key"))
        case _:
            return select(_nodes.c.node_key)
