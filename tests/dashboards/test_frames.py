"""Rows become the frames that Grafana's data source would make of them."""

from datetime import UTC, datetime
from decimal import Decimal

from dashboards.pictures.frames import Field, frame

NOON, ONE = (datetime(2026, 11, 25, hour, tzinfo=UTC) for hour in (12, 13))
TIMES = [1_795_608_000_000, 1_795_611_600_000]


def test_a_table_keeps_its_columns() -> None:
    """Every column is a field, whatever its type."""
    made = frame("A", [("Node", "text"), ("GPUs", "int8"), ("Hot", "bool")], [("a", 8, True)], is_series=False)
    assert made.fields == [
        Field("Node", "string", ["a"]),
        Field("GPUs", "number", [8]),
        Field("Hot", "boolean", [True]),
    ]


def test_numbers_without_text_are_a_series_each() -> None:
    """A time and two numbers are two series without labels, numeric as floats and NaN as nothing."""
    columns = [("time", "timestamptz"), ("avg", "numeric"), ("max", "float8")]
    made = frame("A", columns, [(NOON, Decimal("1.5"), float("nan")), (ONE, Decimal(2), 3.0)], is_series=True)
    assert [field.values for field in made.fields] == [TIMES, [1.5, 2.0], [None, 3.0]]


def test_text_parts_rows_into_series_that_share_their_times() -> None:
    """Each set of labels is a series; where it has no row, it has no value."""
    columns = [("time", "timestamptz"), ("node", "text"), ("gpu", "text"), ("avg", "float8")]
    rows = [(NOON, "a", "0", 1.0), (NOON, "b", "0", 2.0), (ONE, "b", "0", 3.0)]
    assert frame("A", columns, rows, is_series=True).fields == [
        Field("time", "time", TIMES),
        Field("avg", "number", [1.0, None], {"node": "a", "gpu": "0"}),
        Field("avg", "number", [2.0, 3.0], {"node": "b", "gpu": "0"}),
    ]


def test_a_single_label_called_metric_names_the_series() -> None:
    """As it did before Grafana 8: of three columns, the text becomes the name."""
    columns = [("time", "timestamptz"), ("metric", "text"), ("value", "float8")]
    made = frame("A", columns, [(NOON, "Online", 21.0)], is_series=True)
    assert made.fields[1] == Field("Online", "number", [21.0])
