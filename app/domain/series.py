"""What history answers with: series, and what they are of."""

from datetime import datetime

import msgspec

from app.domain.fills import Fill
from app.domain.ranges import Interval, TimeRange
from app.storage.fleet_history import Name
from app.storage.measures import Measure, Value

__all__ = ["Name", "Series", "SeriesFound"]


class Series(msgspec.Struct, frozen=True):
    """One measure over time; `values` in units beside `times`, None where there is none.

    With a fill there is a value for every bucket, where there is none None for null. Series of one device or
    group may share their `times`.
    """

    of: Name
    measure: Measure
    times: list[datetime]
    values: list[Value]


class SeriesFound(msgspec.Struct, frozen=True):
    """An answer; `interval` is the one that was picked, `source` the coarsest table that served it."""

    time_range: TimeRange
    interval: Interval
    source: str
    fill: Fill
    series: list[Series]
