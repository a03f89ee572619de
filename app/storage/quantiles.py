"""Percentiles out of histograms."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from app.quantities import Scale


def quantile(
    counts: Sequence[int], scale: Scale, unit: float, share: float, least: float, greatest: float
) -> float | None:
    """The value below which `share` (0 to 1) of the counted ones lie, wrong by one bucket at most.

    `counts` has an element for each bucket of `scale`, one before and one behind; `unit` is the size of the
    scale's unit in that of the answer, `least` and `greatest` are the extremes of what was counted. Between two
    values it is interpolated, as percentile_cont does. None where nothing was counted.
    """
    until = list(accumulate(counts))
    last = until[-1] - 1
    if last < 0:
        return None
    place = share * last
    below = int(place)
    bucket = bisect_right(until, below)
    width = (scale.high - scale.low) * unit / scale.buckets

    def at(rank: float, bucket: int) -> float:
        """About the value that has so many below it: those of a bucket are taken to lie evenly in it."""
        low = scale.low * unit + (bucket - 1) * width
        high = low + width
        # A million of these are made for one answer: `min` and `max` would take half as long again.
        if high > greatest or bucket == len(until) - 1:
            high = greatest
        if low < least or bucket == 0:
            low = least
        return low + (high - low) * (rank - until[bucket] + counts[bucket] + 0.5) / counts[bucket]

    if below == place or below + 1 < until[bucket]:
        found = at(place, bucket)
    else:
        found = at(below, bucket)
        found += (at(below + 1, bisect_right(until, below + 1)) - found) * (place - below)
    return least if found < least else min(found, greatest)
