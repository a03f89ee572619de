"""The statement for a series of samples: one for all fields and aggregates that a question asks for.

Names in it come from `tables.py` alone, values are parameters. Values come back as whole numbers of
steps, and each statement brings along how its columns become units.
"""

from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Integer,
    Interval,
    Label,
    Select,
    SmallInteger,
    Table,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal,
    null,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.sql.elements import Grouping

from app.quantities import GPU_HEARTBEAT_FIELDS, GPU_METRIC_FIELDS, HEARTBEAT_FIELDS, NODE_METRIC_FIELDS, Field
from app.storage import tables

Value = float | int | str | None
Convert = Callable[[list[Any]], list[Value]]

AVERAGE_STEPS: Final = 10_000
"""Averages have four decimals, more than any quantity's own resolution."""


class Aggregate(StrEnum):
    """What becomes of a bucket's values; missing ones count for nothing."""

    AVG = "avg"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    COUNT = "count"
    LAST = "last"


class Source(NamedTuple):
    """A table that answers, with its fields."""

    table: Table
    fields: tuple[Field, ...]

    @property
    def name(self) -> str:
        """The table's name, as plain text: SQLAlchemy's own kind of string can't be encoded."""
        return str(self.table.name)

    @property
    def is_per_gpu(self) -> bool:
        """Whether it has a row for each GPU."""
        return "gpu" in self.table.c


NODE_METRICS: Final = Source(tables.node_metrics, NODE_METRIC_FIELDS)
GPU_METRICS: Final = Source(tables.gpu_metrics, GPU_METRIC_FIELDS)
HEARTBEATS: Final = Source(tables.heartbeats, HEARTBEAT_FIELDS)
GPU_HEARTBEATS: Final = Source(tables.gpu_heartbeats, GPU_HEARTBEAT_FIELDS)


class Measure(NamedTuple):
    """A field with one of its aggregates: a column of an answer."""

    field: Field
    aggregate: Aggregate


class Statement(NamedTuple):
    """A statement as asyncpg takes it: its text, its parameters in order, and those that never change."""

    sql: str
    names: tuple[str, ...]
    constants: dict[str, Any]


class SeriesStatement(NamedTuple):
    """Gives the time, a column for each measure, and behind them the device's place where there are devices."""

    statement: Statement
    converts: tuple[Convert, ...]


def compiled(select_: Select[Any]) -> Statement:
    """A statement for asyncpg itself."""
    text = select_.compile(dialect=_DIALECT)
    constants = {name: value for name, value in text.params.items() if value is not None}
    return Statement(str(text), tuple(text.positiontup or ()), constants)


_DIALECT: Final = dialect()  # type: ignore[no-untyped-call]


@lru_cache(maxsize=512)
def series_statement(source: Source, measures: tuple[Measure, ...], *, is_raw: bool) -> SeriesStatement:
    """The samples of a node between `start` and `end`, as they are or in buckets of `width`.

    Per GPU it also wants `gpus`, the numbers to read, and `devices`, a device's place for each number.
    Ordered by device and time; `rows` is the most it gives.
    """
    table = source.table
    time = table.c.time if is_raw else func.time_bucket(bindparam("width", type_=Interval), table.c.time)
    key: list[Label[Any]] = [time.label("moment")]
    conditions = [
        table.c.node_key == bindparam("node_key"),
        table.c.time >= bindparam("start"),
        table.c.time < bindparam("end"),
    ]
    if source.is_per_gpu:
        # A device whose model changed has several numbers; its series is one.
        places = Grouping(bindparam("devices", type_=ARRAY(Integer)))
        key.append(places[table.c.gpu].label("device"))
        conditions.append(table.c.gpu == any_(bindparam("gpus", type_=ARRAY(SmallInteger))))
    of = _of_sample if is_raw else _of_bucket
    columns = [of(table, table.c[measure.field.column], measure) for measure in measures]
    values = [expression.label(f"value_{place}") for place, (expression, _) in enumerate(columns)]
    statement = select(key[0], *values, *key[1:]).where(*conditions).order_by(*reversed(key)).limit(bindparam("rows"))
    statement = statement if is_raw else statement.group_by(*key)
    return SeriesStatement(compiled(statement), tuple(convert for _, convert in columns))


def _of_sample(_: Table, column: Column[Any], measure: Measure) -> tuple[ColumnElement[Any], Convert]:
    """Of one sample every aggregate is the value itself; its count is 1."""
    if measure.aggregate is Aggregate.COUNT:
        return case((column.is_not(None), literal(1)), else_=null()), _as_is
    return column, _divided(_steps(measure.field))


def _of_bucket(table: Table, column: Column[Any], measure: Measure) -> tuple[ColumnElement[Any], Convert]:
    steps = _steps(measure.field)
    match measure.aggregate:
        case Aggregate.COUNT:
            return func.nullif(func.count(column), 0), _as_is
        case Aggregate.LAST:
            # TimescaleDB's last() is not there on PostgreSQL alone.
            newest_first = aggregate_order_by(column, table.c.time.desc())
            present = func.array_agg(newest_first, type_=ARRAY(column.type)).filter(column.is_not(None))
            return present[1], _divided(steps)
        case Aggregate.AVG:
            average = func.round(func.avg(column) * (AVERAGE_STEPS // steps))
            if _average_fits_bigint(measure.field):
                return cast(average, BigInteger), _divided(AVERAGE_STEPS)
            return average, _divided_decimal(AVERAGE_STEPS)
        case Aggregate.SUM:
            is_numeric = isinstance(column.type, BigInteger)  # whose sum would not fit into itself
            return func.sum(column), _divided_decimal(steps) if is_numeric else _divided(steps)
        case Aggregate.MIN | Aggregate.MAX as extreme:
            return getattr(func, extreme.value)(column), _divided(steps)


def _steps(field: Field) -> int:
    return 1 if field.quantity is None else field.quantity.steps_per_unit


def _average_fits_bigint(field: Field) -> bool:
    """Else it comes as numeric, which takes asyncpg several times as long."""
    return field.quantity is not None and field.quantity.high * AVERAGE_STEPS < 2**63


def _as_is(column: list[Any]) -> list[Value]:
    return column


def _divided(steps: int) -> Convert:
    if steps == 1:
        return _as_is
    # One division of whole numbers gives the float nearest to the decimal: 45.2, never 45.199999999.
    return lambda column: [None if value is None else value / steps for value in column]


def _divided_decimal(steps: int) -> Convert:
    if steps == 1:
        return lambda column: [None if value is None else int(value) for value in column]
    return lambda column: [None if value is None else int(value) / steps for value in column]
