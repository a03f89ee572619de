"""What each storage engine keeps in its own way, under names that all have: rollups, and up to where they reach.

TimescaleDB has continuous aggregates, the others tables and views. They are no part of what Alembic compares.
"""

from datetime import timedelta
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    Double,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
)

from app.quantities import GPU_METRIC_FIELDS, NODE_METRIC_FIELDS, Field
from app.storage.tables import TYPES, gpu_metrics, node_metrics

metadata: Final = MetaData()

watermarks: Final = Table(
    # Up to where each rollup has been rolled up, a bucket's end; no row where nothing has been yet.
    "watermarks",
    metadata,
    Column("rollup", Text),
    Column("until", DateTime(timezone=True)),
)
ROLLUP_WIDTHS: Final = {"5m": timedelta(minutes=5), "1h": timedelta(hours=1), "1d": timedelta(days=1)}
"""In the order in which they are made: those of a day from those of its hours."""


def _rollup(source: Table, width: str, fields: tuple[Field, ...]) -> Table:
    """A row a bucket (of a GPU): `time` is its start; values in the steps of the raw table.

    A histogram has an element for each bucket of its field's scale, one before them and one behind.
    """
    columns: list[Column[Any]] = []
    for field in fields:
        type_ = TYPES[field.quantity]
        columns += [
            Column(f"{field.column}_count", Integer),
            Column(f"{field.column}_sum", Numeric if type_ is BigInteger else BigInteger),
            *(Column(f"{field.column}_{part}", type_) for part in ("min", "max", "last")),
        ]
        if field.scale is not None and ROLLUP_WIDTHS[width] >= timedelta(hours=1):
            columns.append(Column(f"{field.column}_hist", ARRAY(Integer)))
    return _buckets(f"{source.name}_{width}", columns, per_gpu="gpu" in source.c)


def _by_node(width: str) -> Table:
    """A row a bucket of a node's GPUs together; `…_avg_sum` adds up their averages."""
    columns = [
        column
        for field in GPU_METRIC_FIELDS
        for column in (
            Column(f"{field.column}_count", Integer),
            Column(f"{field.column}_sum", BigInteger),
            *(Column(f"{field.column}_{part}", TYPES[field.quantity]) for part in ("min", "max")),
            Column(f"{field.column}_avg_sum", Double),
        )
    ]
    return _buckets(f"gpu_metrics_{width}_by_node", columns)


def _buckets(name: str, columns: list[Column[Any]], *, per_gpu: bool = False) -> Table:
    return Table(
        name,
        metadata,
        Column("node_key", Integer, primary_key=True),
        *([Column("gpu", SmallInteger, primary_key=True)] if per_gpu else []),
        Column("time", DateTime(timezone=True), primary_key=True),
        Column("samples", Integer),
        *columns,
    )


node_rollups: Final = {width: _rollup(node_metrics, width, NODE_METRIC_FIELDS) for width in ROLLUP_WIDTHS}
gpu_rollups: Final = {width: _rollup(gpu_metrics, width, GPU_METRIC_FIELDS) for width in ROLLUP_WIDTHS}
gpu_rollups_by_node: Final = {width: _by_node(width) for width in ("5m", "1h")}
"""Finest first."""
