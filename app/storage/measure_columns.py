"""What becomes of a field's values: one column of an answer for each measure.

A measure is computed from samples, or from partial results: the rows of rollups, and samples that were
grouped to be like them. Values in tables are whole numbers of steps; each measure brings along how its
columns become units.
"""

from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    Integer,
    Label,
    Table,
    case,
    cast,
    func,
    literal,
    null,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by, array
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from app.quantities import Field, Scale
from app.storage.measures import PERCENTILES, SAMPLES, Aggregate, Measure, Value
from app.storage.quantiles import of_one_total, quantile

Columns = ReadOnlyColumnCollection[str, Any]

AVERAGE_STEPS: Final = 10_000
"""Averages and percentiles have four decimals, more than any quantity's own resolution."""


class Selected(NamedTuple):
    """The expressions that a measure needs, and what turns their columns into values in units."""

    expressions: tuple[ColumnElement[Any], ...]
    convert: Callable[..., list[Value]]


class Part(NamedTuple):
    """A column of a partial result: of a column of the samples its count, sum, min, max, last or hist."""

    column: str
    kind: str

    @property
    def name(self) -> str:
        """As rollups call it."""
        return f"{self.column}_{self.kind}"

    @property
    def adds_up(self) -> bool:
        """Whether those of several rows are told by one function."""
        return self.kind in _ADDED_UP

    def added_up(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """That of several rows. Raises KeyError where it does not add up."""
        return _ADDED_UP[self.kind](column)


_ADDED_UP: Final[dict[str, Callable[..., ColumnElement[Any]]]] = {
    "count": func.sum,
    "sum": func.sum,
    "min": func.min,
    "max": func.max,
}
_KINDS: Final = {
    Aggregate.AVG: ("count", "sum"),
    Aggregate.MIN: ("min",),
    Aggregate.MAX: ("max",),
    Aggregate.SUM: ("sum",),
    Aggregate.COUNT: ("count",),
    Aggregate.LAST: ("last",),
    **dict.fromkeys(PERCENTILES, ("hist", "min", "max")),
}


def parts(measure: Measure) -> Iterator[Part]:
    """The partial results that a measure is made of."""
    yield from _own_parts(measure)
    if measure.aggregate.share is not None and measure.field.total:
        yield Part(measure.field.total, "max")


def _own_parts(measure: Measure) -> Iterator[Part]:
    for kind in _KINDS[measure.aggregate]:
        yield Part(measure.field.column, kind)


def of_sample(table: Table, measure: Measure) -> Selected:
    """Of one sample every aggregate is the value itself; its count is 1."""
    column = table.c[measure.field.column]
    if measure.aggregate is Aggregate.COUNT:
        return Selected((case((column.is_not(None), literal(1)), else_=null()),), _as_is)
    return Selected((column,), _divided(_steps(measure.field)))


def of_samples(samples: FromClause, measure: Measure) -> Selected:
    """Of the samples of a bucket, percentiles to the resolution of the samples."""
    column, field = samples.c[measure.field.column], measure.field
    match measure.aggregate:
        case Aggregate.COUNT:
            return Selected((func.nullif(func.count(column), 0),), _as_is)
        case Aggregate.LAST:
            return Selected((_last(column, samples.c.time.desc()),), _divided(_steps(field)))
        case Aggregate.AVG:
            return _mean(func.sum(column), func.count(column), field)
        case Aggregate.SUM:
            return _sum(func.sum(column), field, is_decimal=isinstance(column.type, BigInteger))
        case Aggregate.MIN | Aggregate.MAX as extreme:
            return Selected((getattr(func, extreme.value)(column),), _divided(_steps(field)))
        case percentile:
            return Selected((func.percentile_cont(percentile.share).within_group(column),), _rounded(_steps(field)))


def of_partials(partials: Columns, measure: Measure) -> Selected:
    """The same of a bucket's partial results; they are in the order of their `moment`."""
    return _told(measure, lambda part: _merged(partials, measure.field, part))


def of_row(rollup: Table, measure: Measure) -> Selected:
    """The same of a bucket that is a row of a rollup: there is nothing to put together."""
    return _told(measure, lambda part: partial(rollup, measure.field, part, is_rollup=True))


def _told(measure: Measure, part_of: Callable[[Part], ColumnElement[Any]]) -> Selected:
    """A measure by the parts that it is made of, each of a whole bucket."""
    field, by_kind = measure.field, {part.kind: part_of(part) for part in _own_parts(measure)}
    match measure.aggregate:
        case Aggregate.COUNT:
            return Selected((cast(func.nullif(by_kind["count"], 0), BigInteger),), _as_is)
        case Aggregate.AVG:
            return _mean(by_kind["sum"], by_kind["count"], field)
        case Aggregate.SUM:
            return _sum(by_kind["sum"], field, is_decimal=True)
        case Aggregate.MIN | Aggregate.MAX | Aggregate.LAST as one:
            return Selected((by_kind[one.value],), _divided(_steps(field)))
        case _:
            total = part_of(Part(field.total, "max")) if field.total else literal(_steps(field))
            return _percentile(measure, by_kind["hist"], by_kind["min"], by_kind["max"], total)


def _merged(partials: Columns, field: Field, part: Part) -> ColumnElement[Any]:
    """A part of a bucket from its partial results."""
    column = partials[part.name]
    match part.kind:
        case "last":
            # A device that became another model within a bucket has two numbers in it, the later one is higher.
            order = [partials["moment"].desc(), *([partials["number"].desc()] if "number" in partials else [])]
            return _last(column, *order)
        case "hist" if field.scale is not None:
            # Added up element by element.
            counts: array[Any] = array(
                [func.sum(column[place]) for place in range(1, field.scale.buckets + 3)], type_=BigInteger
            )
            return case((func.count(column) > 0, cast(counts, ARRAY(BigInteger))), else_=null())
        case _:
            return part.added_up(column)


def partial(table: Table, field: Field | None, part: Part, *, is_rollup: bool) -> ColumnElement[Any]:
    """A partial result of a table: as a rollup has it, or of grouped samples. `field` is the part's own."""
    if is_rollup:
        return table.c[SAMPLES.name if part.column == SAMPLES.column else part.name]
    column = table.c[part.column]
    match part.kind:
        case "last":
            return _last(column, table.c.time.desc())
        case "hist" if field is not None and field.scale is not None:
            scale, steps = field.scale, 1 if field.total else _steps(field)
            share = column / cast(func.nullif(table.c[field.total], 0), Double) if field.total else column
            counted = cast(share, Double), cast(scale.low * steps, Double), cast(scale.high * steps, Double)
            hist = func.histogram(*counted, cast(scale.buckets, Integer), type_=ARRAY(Integer))
            return hist.filter(share.is_not(None))  # TimescaleDB's counts a NULL as 0
        case kind:
            return getattr(func, kind)(column)  # type: ignore[no-any-return]


def _last(column: ColumnElement[Any], *newest_first_by: ColumnElement[Any]) -> ColumnElement[Any]:
    # TimescaleDB's last() is not there on PostgreSQL alone.
    newest_first = aggregate_order_by(column, *newest_first_by)
    present = func.array_agg(newest_first, type_=ARRAY(column.type)).filter(column.is_not(None))
    return present[1]


def _mean(total: ColumnElement[Any], count: ColumnElement[Any], field: Field) -> Selected:
    """A total of steps by how many values it is of; NULL of none."""
    quantity, divisor = field.quantity, func.nullif(count, 0)
    if quantity is None or quantity.high * AVERAGE_STEPS > _EXACT / _SAMPLES:
        return average(total / divisor, field)
    # PostgreSQL's own averages are decimals, which take several times as long. Here doubles hold every whole number.
    mean = cast(total, Double) * (AVERAGE_STEPS // _steps(field)) / divisor
    half = func.sign(mean) / 2 if quantity.low < 0 else 0.5
    return Selected((func.trunc(mean + half) / AVERAGE_STEPS,), list)


_EXACT: Final = 2**53
"""Up to here a double holds every whole number."""
_SAMPLES: Final = 10**5
"""More samples than a group of them usually has; with more of the greatest values the last decimal is not sure."""


def average(steps: ColumnElement[Any], field: Field) -> Selected:
    """An average that was computed in steps."""
    rounded = func.round(steps * (AVERAGE_STEPS // _steps(field)))
    if field.quantity is not None and field.quantity.high * AVERAGE_STEPS < 2**63:
        return Selected((cast(rounded, BigInteger),), _divided(AVERAGE_STEPS))
    return Selected((rounded,), _divided_decimal(AVERAGE_STEPS))  # takes asyncpg several times as long


def _sum(total: ColumnElement[Any], field: Field, *, is_decimal: bool) -> Selected:
    return Selected((total,), (_divided_decimal if is_decimal else _divided)(_steps(field)))


_ARRAY_HEAD: Final = ">20x"
"""Before the items of an array with one dimension: dimensions, whether there are NULLs, type, length, lower bound."""
_ARRAY_ITEMS: Final = ("4xi", "4xq")
"""Each behind its length in bytes: integers of a rollup, or bigints, which several of them add up to."""


def _percentile(
    measure: Measure,
    hist: ColumnElement[Any],
    least: ColumnElement[Any],
    greatest: ColumnElement[Any],
    total: ColumnElement[Any],
) -> Selected:
    """What a histogram says is read here, not in the database."""
    field, scale, share = _counted(measure)
    counts_of, steps = _counts(scale), _steps(field)

    def convert(hists: list[Any], least: list[Any], greatest: list[Any], units: list[Any]) -> list[Value]:
        values: list[Value] = []
        for sent, low, high, unit in zip(hists, least, greatest, units, strict=True):
            value = None if sent is None else quantile(counts_of(sent), scale, unit, share, low, high)
            # Of sizes without a total only the extremes are known.
            value = high if value is None else value
            values.append(None if value is None else round(value / steps, 4))
        return values

    # In one piece, as PostgreSQL sends an array: asyncpg would make a list of each, number by number.
    return Selected((func.array_send(hist), least, greatest, total), convert)


def apart(partials: Columns, measures: Sequence[Measure]) -> list[Label[Any]]:
    """What percentiles of shares are told from, of rows that all have one total."""
    fields = dict.fromkeys(measure.field for measure in measures)
    parts = [(field, Part(field.column, kind)) for field in fields for kind in _KINDS[PERCENTILES[0]]]
    return [_merged(partials, field, part).label(part.name) for field, part in parts]


def of_totals(apart: Columns, measure: Measure) -> Selected:
    """A percentile of shares by rows of which each has a `total` of its own."""
    field, scale, share = _counted(measure)
    counts_of, steps = _counts(scale), _steps(field)
    hist, least, greatest = (apart[Part(field.column, kind).name] for kind in _KINDS[measure.aggregate])
    is_counted = hist.is_not(None)

    def convert(hists: list[Any], totals: list[Any], least: list[Any], greatest: list[Any]) -> list[Value]:
        values: list[Value] = []
        for sent, units, low, high in zip(hists, totals, least, greatest, strict=True):
            value = high
            if sent is not None:
                counts, unit = of_one_total(list(map(counts_of, sent)), units, scale)
                value = quantile(counts, scale, unit, share, low, high)
            values.append(None if value is None else round(value / steps, 4))
        return values

    by_total = (func.array_agg(column).filter(is_counted) for column in (func.array_send(hist), apart["total"]))
    return Selected((*by_total, func.min(least), func.max(greatest)), convert)


def _counted(measure: Measure) -> tuple[Field, Scale, float]:
    """A percentile's field, what its histogram counts, and the share that lies below it."""
    field, share = measure.field, measure.aggregate.share
    if field.scale is None or share is None:
        raise ValueError(f"{field.name} has no histogram")
    return field, field.scale, share


def _counts(scale: Scale) -> Callable[[bytes], tuple[int, ...]]:
    """What reads a histogram as PostgreSQL sends it."""
    arrays = [Struct(_ARRAY_HEAD + item * (scale.buckets + 2)) for item in _ARRAY_ITEMS]
    unpack = {array.size: array.unpack for array in arrays}
    return lambda sent: unpack[len(sent)](sent)


def _steps(field: Field) -> int:
    return 1 if field.quantity is None else field.quantity.steps_per_unit


def _as_is(column: list[Any]) -> list[Value]:
    return column


def _divided(steps: int) -> Callable[[Sequence[Any]], list[Value]]:
    if steps == 1:
        return list
    # One division of whole numbers gives the float nearest to the decimal: 45.2, never 45.199999999.
    return lambda column: [None if value is None else value / steps for value in column]


def _divided_decimal(steps: int) -> Callable[[Sequence[Any]], list[Value]]:
    if steps == 1:
        return lambda column: [None if value is None else int(value) for value in column]
    return lambda column: [None if value is None else int(value) / steps for value in column]


def _rounded(steps: int) -> Callable[[Sequence[Any]], list[Value]]:
    return lambda column: [None if value is None else round(value / steps, 4) for value in column]
