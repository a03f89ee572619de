"""The statement for a series: one for all measures that a question asks of a source.

Names in it come from `tables.py` alone, values are parameters: `start_0`, `end_0` … for the segments, and
what the grid needs.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Integer,
    Interval,
    Label,
    Select,
    SmallInteger,
    Table,
    any_,
    bindparam,
    case,
    func,
    select,
    union_all,
)
from sqlalchemy.sql.elements import Grouping

from app.quantities import Field
from app.storage import measures as of
from app.storage.measures import Measure, Selected, Value
from app.storage.sources import Source
from app.storage.statements import Statement, compiled


class Grid(Enum):
    """What one point sums up: nothing, a bucket of `width`, or what lies between two of `edges`."""

    SAMPLES = "samples"
    WIDTH = "width"
    EDGES = "edges"

    def bucket(self, time: ColumnElement[Any]) -> ColumnElement[Any]:
        """The time of the point that a moment belongs to."""
        match self:
            case Grid.SAMPLES:
                return time
            case Grid.WIDTH:
                return func.time_bucket(bindparam("width", type_=Interval), time)
            case Grid.EDGES:
                # Days of a time zone are of several lengths, and where they begin is not the database's to know.
                edges = Grouping(bindparam("edges", type_=ARRAY(DateTime(timezone=True))))
                return edges[func.width_bucket(time, edges)]


class SeriesStatement(NamedTuple):
    """Gives the time, the device's place where there are devices, and behind them columns for the measures.

    `converts` has the number of columns of each measure, and what makes values of them.
    """

    statement: Statement
    converts: tuple[tuple[int, Callable[..., list[Value]]], ...]


@lru_cache(maxsize=512)
def series_statement(
    source: Source, measures: tuple[Measure, ...], tables: tuple[Table, ...], grid: Grid
) -> SeriesStatement:
    """A node's points, from the segments of these tables.

    Wants `node_key`; per GPU also `gpus`, the numbers to read, and `devices`, a device's place for each
    number. Ordered by device and time; `rows` is the most it gives.
    """
    if tables == (source.table,):
        return _from_samples(source, measures, grid)
    partials = _partials(source, _needed(source, measures), tables, grid).subquery("partials")
    moment = grid.bucket(partials.c.moment).label("time")
    key = [moment, *([partials.c.device] if source.is_per_gpu else [])]
    selected = [of.of_partials(partials.c, measure) for measure in measures]
    return _statement(select(*key, *_labelled(selected)).group_by(*key), key, selected)


@lru_cache(maxsize=64)
def growth_statement(source: Source, field: Field, tables: tuple[Table, ...], grid: Grid) -> Statement:
    """How much a counter of a node grew: `time`, `growth`, and the `seconds` in which it did, in order.

    Between two samples it grew by their difference; where it went down, the machine started anew, and it grew
    by what it had reached before and by what it has reached since. Segments begin earlier than what is asked
    for, from `start` on, so that the first sample has one before it.
    """
    parts = [of.Part(field.column, kind) for kind in ("last", "min", "max")]
    found = [
        select(
            table.c.time.label("moment"),
            *(
                (table.c[field.column] if table is source.table else table.c[part.name]).label(part.kind)
                for part in parts
            ),
        ).where(*_within(source, table, place))
        for place, table in enumerate(tables)
    ]
    read = union_all(*found).subquery("read")
    before = func.lag(read.c.last).over(order_by=read.c.moment)
    seconds = func.extract("epoch", read.c.moment - func.lag(read.c.moment).over(order_by=read.c.moment))
    peak = case((read.c.max > read.c.last, func.greatest(read.c.max, before)), else_=before)
    growth = case((read.c.min >= before, read.c.last - before), else_=peak - before + read.c.last)
    steps = (
        select(read.c.moment, growth.label("growth"), seconds.label("seconds"))
        .where(read.c.last.is_not(None))
        .subquery("steps")
    )
    time = grid.bucket(steps.c.moment).label("time")
    measured = [func.sum(steps.c.growth), func.sum(steps.c.seconds)]
    return compiled(
        select(time, *measured)
        .where(steps.c.growth.is_not(None), steps.c.moment >= bindparam("start", type_=DateTime(timezone=True)))
        .group_by(time)
        .order_by(time)
        .limit(bindparam("rows"))
    )


def _from_samples(source: Source, measures: tuple[Measure, ...], grid: Grid) -> SeriesStatement:
    table = source.table
    key: list[Label[Any]] = [grid.bucket(table.c.time).label("moment")]
    if source.is_per_gpu:
        key.append(_device(table))
    of_table = of.of_sample if grid is Grid.SAMPLES else of.of_samples
    selected = [of_table(table, measure) for measure in measures]
    statement = select(*key, *_labelled(selected)).where(*_within(source, table, 0))
    return _statement(statement if grid is Grid.SAMPLES else statement.group_by(*key), key, selected)


def _statement(select_: Select[Any], key: Sequence[Any], selected: list[Selected]) -> SeriesStatement:
    limited = select_.order_by(*reversed(key)).limit(bindparam("rows"))
    converts = tuple((len(each.expressions), each.convert) for each in selected)
    return SeriesStatement(compiled(limited), converts)


def _labelled(selected: list[Selected]) -> list[Label[Any]]:
    expressions = [expression for each in selected for expression in each.expressions]
    return [expression.label(f"value_{place}") for place, expression in enumerate(expressions)]


def _needed(source: Source, measures: tuple[Measure, ...]) -> dict[of.Part, Field | None]:
    """The parts of all measures, each with its field."""
    by_column = {field.column: field for field in source.fields}
    return {part: by_column.get(part.column) for measure in measures for part in of.parts(measure)}


def _partials(source: Source, needed: dict[of.Part, Field | None], tables: tuple[Table, ...], grid: Grid) -> Any:
    """Each segment's rows: those of a rollup, and samples that are grouped to be like them."""
    return union_all(*(_partial_rows(source, needed, table, grid, place) for place, table in enumerate(tables)))


def _partial_rows(
    source: Source, needed: dict[of.Part, Field | None], table: Table, grid: Grid, place: int
) -> Select[Any]:
    is_rollup = table is not source.table
    key = [_device(table), table.c.gpu.label("number")] if source.is_per_gpu else []
    moment = (table.c.time if is_rollup else func.max(table.c.time)).label("moment")
    columns = [of.partial(table, field, part, is_rollup=is_rollup).label(part.name) for part, field in needed.items()]
    rows = select(moment, *key, *columns).where(*_within(source, table, place))
    return rows if is_rollup else rows.group_by(*key, grid.bucket(table.c.time))


def _within(source: Source, table: Table, place: int) -> list[ColumnElement[Any]]:
    conditions = [
        table.c.node_key == bindparam("node_key"),
        table.c.time >= bindparam(f"start_{place}", type_=DateTime(timezone=True)),
        table.c.time < bindparam(f"end_{place}", type_=DateTime(timezone=True)),
    ]
    if source.is_per_gpu:
        conditions.append(table.c.gpu == any_(bindparam("gpus", type_=ARRAY(SmallInteger))))
    return conditions


def _device(table: Table) -> Label[Any]:
    """A device whose model changed has several numbers; its series is one."""
    places = Grouping(bindparam("devices", type_=ARRAY(Integer)))
    return places[table.c.gpu].label("device")
