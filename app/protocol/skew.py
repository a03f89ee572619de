"""How far a worker's clock is off: the smallest receive-minus-send time of its last ten minutes.

A frame takes time to come, and one that is sent again may be hours old: delay only adds, so that the smallest
is nearest to the truth. What looks like a slow clock is believed only after a minute in which nothing newer came.
"""

from array import array
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Final

LIMIT: Final = timedelta(seconds=30)
"""Beyond this a clock is wrong enough to be told."""

_LIMIT_MS: Final = LIMIT // timedelta(milliseconds=1)
_MINUTES: Final = 10
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class Skew:
    """Of one connection. Keeps the smallest time of each of the last ten minutes."""

    __slots__ = ("_ends", "_first", "_least", "_minute", "_smallest")

    def __init__(self) -> None:
        self._least = array("d", [inf]) * _MINUTES
        self._smallest = inf
        self._minute = 0
        self._ends = _LONG_AGO
        self._first: datetime | None = None

    def heard(self, sent: datetime, received: datetime) -> int | None:
        """By how many milliseconds the worker's clock is behind ours (negative: ahead); None while that is not known.

        `sent` is the frame's own time, of the worker's clock; `received` never goes back.
        """
        if received >= self._ends:
            self._turn_to(received)
        late = (received - sent) / _MILLISECOND
        place = self._minute % _MINUTES
        if late < self._least[place]:
            self._least[place] = late
            self._smallest = min(self._smallest, late)
        if self._first is None:
            self._first = received
        least = round(self._smallest)
        is_sure = least <= _LIMIT_MS or received - self._first >= timedelta(minutes=1)
        return least if is_sure else None

    def _turn_to(self, now: datetime) -> None:
        """Forget what is ten minutes old."""
        minute = int(now.timestamp()) // 60
        for passed in range(max(self._minute, minute - _MINUTES) + 1, minute + 1):
            self._least[passed % _MINUTES] = inf
        self._smallest = min(self._least)
        self._minute = minute
        self._ends = datetime.fromtimestamp((minute + 1) * 60, UTC)


def warning(skew_ms: int | None) -> tuple[str, ...]:
    """A sentence for the worker, where its clock is too far off."""
    if skew_ms is None or abs(skew_ms) <= _LIMIT_MS:
        return ()
    side = "behind" if skew_ms > 0 else "ahead of"
    return (f"The clock is {abs(skew_ms) / 1000:.0f} s {side} the server's: set it",)
