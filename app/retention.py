"""How long each kind of row is kept, and what follows from it. No I/O.

A refresh over samples that were dropped erases what was rolled up from them, and a sample that comes in behind
all refreshes is never rolled up. So of the samples' life, from its young end to its old one:

    now … accepted … | max_sample_age … refreshed … | refreshed_for … dropped … | raw

The same holds of the hours that days are made of: a sample that is older than its day's hours may not come in.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

SAMPLE_AGE_MARGIN: Final = timedelta(days=2)
"""A day for the refresh of the latest samples, and one for chunks, which are dropped by the day."""

HOURS_MARGIN: Final = timedelta(days=3)
"""The same for hours, and the day that is made of them."""

FOREVER: Final = timedelta(days=3650)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
SHORTEST: Final = {"raw": 2 * DAY, "heartbeats": DAY, "five_minutes": DAY, "hour": 7 * DAY, "day": 7 * DAY}
"""Less would leave a rollup's refresh no two buckets of its source."""

TABLES: Final = {
    "raw": ("node_metrics", "gpu_metrics", "gpu_details"),
    "heartbeats": ("heartbeats", "gpu_heartbeats"),
    "five_minutes": ("node_metrics_5m", "gpu_metrics_5m", "gpu_metrics_5m_by_node"),
    "hour": ("node_metrics_1h", "gpu_metrics_1h", "gpu_metrics_1h_by_node"),
    "day": ("node_metrics_1d", "gpu_metrics_1d"),
}


class Retention(msgspec.Struct, frozen=True):
    """How long rows are kept: samples, heartbeats, and rollups by their width. None is for ever."""

    raw: timedelta | None = 30 * DAY
    heartbeats: timedelta | None = 14 * DAY
    five_minutes: timedelta | None = 180 * DAY
    hour: timedelta | None = 730 * DAY
    day: timedelta | None = None

    @property
    def max_sample_age(self) -> timedelta:
        """How old a sample may be to be taken in."""
        samples = self.raw and max(self.raw - SAMPLE_AGE_MARGIN, self.raw / 2)
        return _shorter(samples, self.hour and self.hour - HOURS_MARGIN) or FOREVER

    @property
    def refreshed_for(self) -> Mapping[str, timedelta | None]:
        """How far back each rollup is refreshed: over all that is accepted, and nothing that may be dropped.

        Rollups of a day and of a node's GPUs are made from finer ones, which must still be there.
        """
        samples = None if self.raw is None else (self.max_sample_age + self.raw) / 2
        five_minutes = _shorter(samples, self.five_minutes and self.five_minutes - DAY / 2)
        hour = _shorter(samples, self.hour and self.hour - DAY)
        return {
            "5m": five_minutes,
            "5m_by_node": _shorter(
                five_minutes and five_minutes + DAY / 4, self.five_minutes and self.five_minutes - DAY / 4
            ),
            "1h": hour,
            "1h_by_node": _shorter(hour and hour + DAY / 4, self.hour and self.hour - DAY / 2),
            "1d": _shorter(hour and hour + DAY, self.hour and self.hour - DAY, self.day and self.day - DAY),
        }

    @property
    def by_table(self) -> Mapping[str, timedelta | None]:
        """How long the rows of each table are kept."""
        return {table: getattr(self, field) for field, tables in TABLES.items() for table in tables}

    def since(self, dropped: Mapping[str, datetime], now: datetime) -> "Retention":
        """How much of it there can be: not what was dropped (before when, by table) while settings kept less.

        Grows day by day into what is set, so that nothing is computed anew from rows that are gone.
        """
        left: dict[str, timedelta] = {}
        for field, tables in TABLES.items():
            kept, before = (
                getattr(self, field),
                max((dropped[name] for name in tables if name in dropped), default=None),
            )
            # Clocks of several hosts differ, and dropping is noted by the hour.
            if before is not None and (kept is None or now - before + HOUR < kept):
                left[field] = max((now - before) // DAY * DAY, SHORTEST[field])
        return msgspec.structs.replace(self, **left)


def _shorter(*times: timedelta | None) -> timedelta | None:
    return min((time for time in times if time is not None), default=None)
