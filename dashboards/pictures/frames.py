"""Rows as the data frames that Grafana's PostgreSQL data source makes of them."""

import math
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

TIMES: Final = {"timestamptz", "timestamp", "date"}
NUMBERS: Final = {"int2", "int4", "int8", "float4", "float8", "numeric"}


class Field(msgspec.Struct, omit_defaults=True):
    """A column: `type` is time (milliseconds since 1970), number, boolean or string."""

    name: str
    type: str
    values: list[Any]
    labels: dict[str, str] = {}


class Frame(msgspec.Struct, rename="camel"):
    """Columns of the same length."""

    ref_id: str
    fields: list[Field]


def frame(ref_id: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]], *, is_series: bool) -> Frame:
    """What a query returned, its columns by name and PostgreSQL's name of their type.

    Series have a column `time`, by which rows ascend; text becomes labels, each number a series for each set of them.
    """
    fields = [
        Field(name, _type(kind), [_value(row[place]) for row in rows]) for place, (name, kind) in enumerate(columns)
    ]
    if is_series and any(field.type in {"string", "boolean"} for field in fields):
        return Frame(ref_id, _wide(fields))
    return Frame(ref_id, fields)


def _wide(fields: list[Field]) -> list[Field]:
    time = next(field for field in fields if field.name == "time")
    labels = [field for field in fields if field.type in {"string", "boolean"}]
    values = [field for field in fields if field is not time and field not in labels]
    moments = sorted(set(time.values))
    place = {moment: number for number, moment in enumerate(moments)}
    series: dict[tuple[str, tuple[str, ...]], Field] = {}
    for row, moment in enumerate(time.values):
        label = tuple(str(field.values[row]) for field in labels)
        for value in values:
            name = value.name
            if (name, label) not in series:
                named = dict(zip((field.name for field in labels), label, strict=True))
                series[name, label] = Field(name, "number", [None] * len(moments), named)
            series[name, label].values[place[moment]] = value.values[row]
    found = [series[key] for key in sorted(series)]
    if len(fields) == 3:
        # As before Grafana 8: a single label `metric` is the series' name.
        found = [Field(it.labels["metric"], it.type, it.values) if [*it.labels] == ["metric"] else it for it in found]
    return [Field("time", "time", moments), *found]


def _type(kind: str) -> str:
    if kind in TIMES:
        return "time"
    if kind in NUMBERS:
        return "number"
    return "boolean" if kind == "bool" else "string"


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    if isinstance(value, Decimal | float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, int | str) else str(value)
