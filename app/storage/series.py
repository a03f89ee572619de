"""The statement for a series: one for all measures that a question asks of a source.

Names in it come from `tables.py` alone, values are parameters: `start_0`, `end_0` … for the segments, and
what the grid needs.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Double,
    Integer,
    Interval,
    Label,
    Numeric,
    Select,
    SmallInteger,
    Subquery,
    Table,
    any_,
    bindparam,
    case,
    cast,
    func,
    select,
    union_all,
)
from sqlalchemy.sql.elements import Grouping

from app.quantities import Field
from app.storage import measure_columns as of
from app.storage.measure_columns import Selected
from app.storage.measures import Measure, Value
from app.storage.sources import ROLLED, Source
from app.storage.statements import Statement, compiled

Filter = Callable[[Table], ColumnElement[Any]]


class Grid(Enum):
    """What one point sums up: nothing, a bucket of `width`, what lies between two of `edges`, or all there is."""

    SAMPLES = "samples"
    WIDTH = "width"
    EDGES = "edges"
    WHOLE = "whole"

    def bucket(self, time: ColumnElement[Any]) -> ColumnElement[Any]:
        """The time of the point that a moment belongs to; of all there is no moment's own."""
        match self:
            case Grid.SAMPLES:
                return time
            case Grid.WHOLE:
                return bindparam("start_0", type_=DateTime(timezone=True))
            case Grid.WIDTH:
                return func.time_bucket(bindparam("width", type_=Interval), time)
            case Grid.EDGES:
                # Days of a time zone are of several lengths, and where they begin is not the database's to know.
                edges = Grouping(bindparam("edges", type_=ARRAY(DateTime(timezone=True))))
                return edges[func.width_bucket(time, edges)]


class SeriesStatement(NamedTuple):
    """Gives the time (see `seconds`), whose it is where there are several, and from place `first` on columns for the measures.

    `converts` has the number of columns of each measure, and what makes values of them.
    """

    statement: Statement
    first: int
    converts: tuple[tuple[int, Callable[..., list[Value]]], ...]

    def converted(self, rows: Sequence[Any]) -> list[list[Value]]:
        """The values of each measure, in units, for each of these rows."""
        columns: list[list[Value]] = []
        first = self.first
        for width, convert in self.converts:
            columns.append(convert(*([row[place] for row in rows] for place in range(first, first + width))))
            first += width
        return columns


def series(select_: Select[Any], first: int, selected: Sequence[Selected]) -> SeriesStatement:
    """At most `rows` rows of a statement whose measures begin at place `first`."""
    converts = tuple((len(each.expressions), each.convert) for each in selected)
    return SeriesStatement(compiled(select_.limit(bindparam("rows"))), first, converts)


@lru_cache(maxsize=512)
def series_statement(
    source: Source, measures: tuple[Measure, ...], tables: tuple[Table, ...], grid: Grid, whole: Table | None = None
) -> SeriesStatement:
    """A node's points, from the segments of these tables. The rows of `whole`, one of them, are points as they are.

    Wants `node_key`; per GPU also `gpus`, the numbers to read, and `devices`, a device's place for each
    number. Ordered by device and time; `rows` is the most it gives.
    """
    if tables == (source.table,):
        return _from_samples(source, measures, grid)
    together = {place: table for place, table in enumerate(tables) if table is not whole}
    found = [
        *([_grouped(source, measures, together, grid)] if together else []),
        *(_rows(source, measures, table, place) for place, table in enumerate(tables) if table is whole),
    ]
    points = union_all(*(statement for statement, _ in found)).subquery("points")
    key = [points.c.time, *([points.c.device] if source.is_per_gpu else [])]
    rows = select(seconds(points.c.time), *list(points.c)[1:])
    return series(rows.order_by(*reversed(key)), len(key), found[0][1])


def _grouped(
    source: Source, measures: Sequence[Measure], tables: Mapping[int, Table], grid: Grid
) -> tuple[Select[Any], list[Selected]]:
    """Points of which each is of what several rows, of several tables, tell."""
    key_of = _numbered if source.is_per_gpu else lambda _: []
    found = partials(source, measures, tables, grid, key_of, _filters(source))
    key = [grid.bucket(found.c.moment).label("time"), *([found.c.device] if source.is_per_gpu else [])]
    selected = [of.of_partials(found.c, measure) for measure in measures]
    return select(*key, *labelled(selected)).group_by(*key), selected


def _rows(source: Source, measures: Sequence[Measure], table: Table, place: int) -> tuple[Select[Any], list[Selected]]:
    """Points that are rows of a rollup."""
    selected = [of.of_row(table, measure) for measure in measures]
    key = [table.c.time, *([_device(table)] if source.is_per_gpu else [])]
    rows = select(*key, *labelled(selected))
    return rows.where(*within(table, place), *(condition(table) for condition in _filters(source))), selected


@lru_cache(maxsize=64)
def growth_statement(source: Source, field: Field, tables: tuple[Table, ...], grid: Grid) -> Statement:
    """How much a counter grew: `time`, whose it is, `growth`, and the `seconds` in which it did, in order.

    Whose is a device's place, or the node's key. Wants what `series_statement` wants.

    Between two samples it grew by their difference; where it went down, the machine started anew, and it grew
    by what it had reached before and by what it has reached since. Segments begin earlier than what is asked
    for, from `start` on, so that the first sample has one before it.
    """
    steps = growth_steps(source, field, tables, _filters(source), _device if source.is_per_gpu else of_node)
    key = [grid.bucket(steps.c.moment), steps.c.whose]
    measured = [func.sum(steps.c.growth), func.sum(steps.c.seconds)]
    return compiled(
        select(seconds(key[0]), steps.c.whose, *measured)
        .where(steps.c.growth.is_not(None), steps.c.moment >= bindparam("start", type_=DateTime(timezone=True)))
        .group_by(*key)
        .order_by(*reversed(key))
        .limit(bindparam("rows"))
    )


def growth_steps(
    source: Source,
    field: Field,
    tables: tuple[Table, ...],
    filters: Sequence[Filter],
    whose: Callable[[Table], ColumnElement[Any]],
) -> Subquery:
    """From one sample of a counter to the next: `whose` it is, the later `moment`, `growth` and `seconds`."""
    parts = [of.Part(field.column, kind) for kind in ("last", "min", "max")]
    widths = {ROLLED[rollup.table]: rollup.width for rollup in source.rollups}
    found = [
        select(
            whose(table).label("whose"),
            table.c.time.label("moment"),
            _last_read_at(table, widths.get(table)).label("read_at"),
            *(
                (table.c[field.column] if table is source.table else table.c[part.name]).label(part.kind)
                for part in parts
            ),
        ).where(*within(table, place), *(condition(table) for condition in filters))
        for place, table in enumerate(tables)
    ]
    read = union_all(*found).subquery("read")
    before, earlier = (
        func.lag(column).over(partition_by=read.c.whose, order_by=read.c.moment)
        for column in (read.c.last, read.c.read_at)
    )
    took = read.c.read_at - earlier
    peak = case((read.c.max > read.c.last, func.greatest(read.c.max, before)), else_=before)
    # As decimals, since what a counter had reached and what it has reached since may be more than a bigint together.
    growth = case((read.c.min >= before, read.c.last - before), else_=cast(peak, Numeric) - before + read.c.last)
    return (
        select(read.c.whose, read.c.moment, growth.label("growth"), took.label("seconds"))
        .where(read.c.last.is_not(None))
        .subquery("steps")
    )


def _last_read_at(table: Table, width: timedelta | None) -> ColumnElement[Any]:
    """When a row's last value was read, in seconds: of a rollup's about, half of the distance between two samples before its end."""
    if width is None:
        return seconds(table.c.time)
    return seconds(table.c.time) + width.total_seconds() * (1 - 0.5 / cast(table.c.samples, Double))


def _from_samples(source: Source, measures: tuple[Measure, ...], grid: Grid) -> SeriesStatement:
    table = source.table
    moment = grid.bucket(table.c.time)
    key: list[ColumnElement[Any]] = [moment, *([_device(table)] if source.is_per_gpu else [])]
    of_table = of.of_sample if grid is Grid.SAMPLES else of.of_samples
    selected = [of_table(table, measure) for measure in measures]
    statement = select(seconds(moment), *key[1:], *labelled(selected))
    statement = statement.where(*within(table, 0), *(condition(table) for condition in _filters(source)))
    statement = statement if grid is Grid.SAMPLES else statement.group_by(*key)
    return series(statement.order_by(*reversed(key)), len(key), selected)


def seconds(time: ColumnElement[Any]) -> ColumnElement[Any]:
    """A moment as it leaves the database: seconds since 1970, which asyncpg reads much faster than a date."""
    return func.date_part("epoch", time)


def labelled(selected: list[Selected]) -> list[Label[Any]]:
    """All expressions, under names that don't meet."""
    expressions = [expression for each in selected for expression in each.expressions]
    return [expression.label(f"value_{place}") for place, expression in enumerate(expressions)]


def partials(
    source: Source,
    measures: Sequence[Measure],
    tables: Mapping[int, Table],
    grid: Grid,
    key: Callable[[Table], list[ColumnElement[Any]]],
    filters: Sequence[Filter],
) -> Subquery:
    """Each segment's partial results by `moment` and `key`: rows of a rollup, or samples grouped to be like them.

    `tables` has those of the segments by their places.

    Where many rows of a rollup make one point, each segment is added up by itself: there is less to put together.
    """
    by_column = {field.column: field for field in source.fields}
    needed = dict.fromkeys(part for measure in measures for part in of.parts(measure))
    adds_up = (grid is Grid.WHOLE or not key(source.table)) and all(part.adds_up for part in needed)
    found = []
    for place, table in tables.items():
        is_rollup = table is not source.table
        bucket, keys = grid.bucket(table.c.time), key(table)
        # What adds up needs no order within its bucket, and is spared a maximum for each row.
        moment = bucket if adds_up else table.c.time if is_rollup else func.max(table.c.time)
        found_parts = [
            (part, of.partial(table, by_column.get(part.column), part, is_rollup=is_rollup)) for part in needed
        ]
        columns = [
            (part.added_up(column) if adds_up and is_rollup else column).label(part.name)
            for part, column in found_parts
        ]
        rows = select(moment.label("moment"), *keys, *columns)
        rows = rows.where(*within(table, place), *(condition(table) for condition in filters))
        # Of the whole there is one bucket: PostgreSQL before 18 would compare it for each row.
        by = keys if grid is Grid.WHOLE else [*keys, bucket]
        found.append(rows.group_by(*by) if adds_up or not is_rollup else rows)
    return union_all(*found).subquery("partials")


def within(table: Table, place: int) -> list[ColumnElement[Any]]:
    """That a row lies in the segment of this place."""
    return [
        table.c.time >= bindparam(f"start_{place}", type_=DateTime(timezone=True)),
        table.c.time < bindparam(f"end_{place}", type_=DateTime(timezone=True)),
    ]


def of_node(table: Table) -> ColumnElement[Any]:
    """Whose a row is, where it is a node's own."""
    return table.c.node_key


def _of_node(table: Table) -> ColumnElement[Any]:
    return table.c.node_key == bindparam("node_key")


def _of_gpus(table: Table) -> ColumnElement[Any]:
    return table.c.gpu == any_(bindparam("gpus", type_=ARRAY(SmallInteger)))


def _filters(source: Source) -> list[Filter]:
    return [_of_node, _of_gpus] if source.is_per_gpu else [_of_node]


def _device(table: Table) -> Label[Any]:
    """A device whose model changed has several numbers; its series is one."""
    places = Grouping(bindparam("devices", type_=ARRAY(Integer)))
    return places[table.c.gpu].label("device")


def _numbered(table: Table) -> list[ColumnElement[Any]]:
    return [_device(table), table.c.gpu.label("number")]
