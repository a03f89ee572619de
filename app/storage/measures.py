"""What an answer is made of: fields, each with what becomes of its values."""

from enum import StrEnum
from typing import Final, NamedTuple

from app.quantities import COUNT, Field

Value = float | int | str | None


class Aggregate(StrEnum):
    """What becomes of a bucket's values; missing ones count for nothing."""

    AVG = "avg"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    COUNT = "count"
    LAST = "last"
    P50 = "p50"
    P95 = "p95"
    P99 = "p99"
    RATE = "rate"
    INCREASE = "increase"

    @property
    def share(self) -> float | None:
        """Of a percentile: the share of values below it."""
        return int(self[1:]) / 100 if self in PERCENTILES else None

    @property
    def is_of_counter(self) -> bool:
        """Whether it tells how much a counter grew."""
        return self in (Aggregate.RATE, Aggregate.INCREASE)


PERCENTILES: Final = (Aggregate.P50, Aggregate.P95, Aggregate.P99)


SAMPLES: Final = Field("samples", "node_key", COUNT)
"""Every sample has this: its count is how many samples there are."""


class Measure(NamedTuple):
    """A field with one of its aggregates: a column of an answer."""

    field: Field
    aggregate: Aggregate

    @property
    def total(self) -> str | None:
        """Of a percentile whose histogram counts shares: the column of the total that they are shares of."""
        return self.field.total if self.aggregate.share is not None else None
