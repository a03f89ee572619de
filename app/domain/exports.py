"""History as a table: the columns of the SQL views, rows piece by piece, without limits of number or time.

A row is a sample of `interval=raw`, else a bucket: its `time`, whose it is, `samples`, and a column for each
measure (`utilization_avg`), raw ones under the field's own name. Rows come in the order of time.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from app.domain.fills import Fill
from app.domain.series import Name, Series
from app.errors import InvalidRequest
from app.quantities import COUNT, Quantity
from app.storage.measures import SAMPLES, Aggregate, Measure

Keys = Mapping[str, str]
"""The columns that say whose a row is, and what of a series' name they show."""

OF_NODE: Final = {name: name for name in ("node_id", "node_name", "org_id")}
OF_GPU: Final = OF_NODE | {name: name for name in ("device_id", "gpu_model")}
_INTEGERS: Final = (Aggregate.MIN, Aggregate.MAX, Aggregate.LAST, Aggregate.INCREASE)

Rows = dict[str, list[Any]]
"""Values by column, each column as long as the others."""


TIME: Final = datetime


class Column(msgspec.Struct, frozen=True):
    """A column: of times (UTC, ms), texts, whole numbers (int), or numbers (float)."""

    name: str
    type: type


class Export(msgspec.Struct, frozen=True):
    """A table under way: its columns, and its rows in pieces."""

    name: str
    columns: tuple[Column, ...]
    pieces: AsyncIterator[Rows]


def exported(
    name: str,
    keys: Keys,
    measures: Sequence[Measure],
    found: AsyncIterator[list[Series]],
    *,
    is_raw: bool,
) -> Export:
    """The table of some series: a column for each key that names them and for each measure."""
    named = {measure: _name(measure, is_raw=is_raw) for measure in measures}
    columns = (
        Column("time", TIME),
        *(Column(key, str) for key in keys),
        *(Column(column, _type(measure, is_raw=is_raw)) for measure, column in named.items()),
    )
    return Export(name, columns, _pieces(found, keys, named))


def counted(measures: Iterable[Measure], *, is_raw: bool) -> tuple[Measure, ...]:
    """The measures that a table has: of samples each field once, of buckets also how many samples they have."""
    if is_raw:
        return tuple(dict.fromkeys(Measure(measure.field, Aggregate.LAST) for measure in measures))
    return (Measure(SAMPLES, Aggregate.COUNT), *measures)


def check_fill(fill: Fill) -> None:
    """Raise InvalidRequest for a fill: a table has rows for what was measured."""
    if fill is not Fill.NONE:
        raise InvalidRequest.of("fill", "goes with format=json: a table has rows only for what was measured")


async def _pieces(found: AsyncIterator[list[Series]], keys: Keys, named: Mapping[Measure, str]) -> AsyncIterator[Rows]:
    async for series in found:
        rows: Rows = {"time": [], **{key: [] for key in keys}, **{column: [] for column in named.values()}}
        by_name: dict[Name, list[Series]] = {}
        for each in series:
            by_name.setdefault(each.of, []).append(each)
        for of, sharing in by_name.items():
            _add(rows, of, sharing, keys, named)
        yield rows


def _add(rows: Rows, of: Name, series: list[Series], keys: Keys, named: Mapping[Measure, str]) -> None:
    """The rows of one node, device or group."""
    times = series[0].times
    columns = {named[each.measure]: each.values for each in series}
    if any(each.times is not times for each in series):
        times = sorted({time for each in series for time in each.times})
        values = {named[each.measure]: dict(zip(each.times, each.values, strict=True)) for each in series}
        columns = {column: [known.get(time) for time in times] for column, known in values.items()}
    nothing = [None] * len(times)
    rows["time"] += times
    for key, attribute in keys.items():
        rows[key] += [getattr(of, attribute)] * len(times)
    for column in named.values():
        rows[column] += columns.get(column, nothing)


def _name(measure: Measure, *, is_raw: bool) -> str:
    if measure.field is SAMPLES:
        return SAMPLES.name
    return measure.field.column if is_raw else f"{measure.field.column}_{measure.aggregate}"


def _type(measure: Measure, *, is_raw: bool) -> type:
    quantity = measure.field.quantity
    if measure.aggregate is Aggregate.COUNT:
        return int
    if quantity is None:
        return str
    return int if _is_whole(quantity) and (is_raw or measure.aggregate in _INTEGERS) else float


def _is_whole(quantity: Quantity) -> bool:
    return quantity.steps_per_unit == COUNT.steps_per_unit
