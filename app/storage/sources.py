"""The tables that history is read from: raw samples, and what rolls them up."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Table

from app.quantities import (
    GPU_DETAIL_FIELDS,
    GPU_HEARTBEAT_FIELDS,
    GPU_METRIC_FIELDS,
    HEARTBEAT_FIELDS,
    NODE_METRIC_FIELDS,
    Field,
)
from app.storage import relations, tables


class Rollup(NamedTuple):
    """A table of buckets of one width; from an hour up with histograms."""

    table: Table
    width: timedelta

    @property
    def has_histograms(self) -> bool:
        """Whether percentiles can be read from it."""
        return self.width >= timedelta(hours=1)


class Source(NamedTuple):
    """A table of samples that answers, with its fields and its rollups, finest first."""

    table: Table
    fields: tuple[Field, ...]
    rollups: tuple[Rollup, ...] = ()

    @property
    def name(self) -> str:
        """The table's name, as plain text: SQLAlchemy's own kind of string can't be encoded."""
        return str(self.table.name)

    @property
    def is_per_gpu(self) -> bool:
        """Whether it has a row for each GPU."""
        return "gpu" in self.table.c


class Segment(NamedTuple):
    """What one table answers: samples from `start`, inclusive, to `end`, exclusive.

    Of a rollup both are the bounds of buckets.
    """

    table: Table
    start: datetime
    end: datetime


def stored(segments: Sequence[Segment]) -> tuple[Table, ...]:
    """The tables to read: of rollups what is stored, without the samples behind it, which planning would heed."""
    return tuple(ROLLED.get(segment.table, segment.table) for segment in segments)


def coarsest(segments: Sequence[Segment]) -> str:
    """The name of the table that serves the most at once: the samples themselves, or the widest rollup."""
    return str(max((segment.table for segment in segments), key=lambda table: _WIDTHS.get(table, timedelta())).name)


def _rollups(made: dict[str, Table]) -> tuple[Rollup, ...]:
    return tuple(Rollup(table, relations.ROLLUP_WIDTHS[name]) for name, table in made.items())


NODE_METRICS: Final = Source(tables.node_metrics, NODE_METRIC_FIELDS, _rollups(relations.node_rollups))
GPU_METRICS: Final = Source(tables.gpu_metrics, GPU_METRIC_FIELDS, _rollups(relations.gpu_rollups))
GPUS_OF_NODES: Final = _rollups(relations.gpu_rollups_by_node)
"""Those of a node's GPUs together, for who need not tell them apart; without last values and histograms."""
GPU_DETAILS: Final = Source(tables.gpu_details, GPU_DETAIL_FIELDS)
HEARTBEATS: Final = Source(tables.heartbeats, HEARTBEAT_FIELDS)
GPU_HEARTBEATS: Final = Source(tables.gpu_heartbeats, GPU_HEARTBEAT_FIELDS)

_WIDTHS: Final = {
    rollup.table: rollup.width for rollup in (*NODE_METRICS.rollups, *GPU_METRICS.rollups, *GPUS_OF_NODES)
}
ROLLED: Final = {table: table.to_metadata(relations.metadata, name=f"{table.name}_rolled") for table in _WIDTHS}
"""Rollups without what was not rolled up yet; `watermarks` says up to where they may be read."""
