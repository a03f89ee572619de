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
    total = until[-1]
    if not total:
        return None
    place = share * (total - 1)
    below = int(place)
    width = (scale.high - scale.low) * unit / scale.buckets

    def value(rank: int) -> float:
        """About the value that has so many below it: those of a bucket are taken to lie evenly in it."""
        bucket = bisect_right(until, rank)
        low = scale.low * unit + (bucket - 1) * width
        low, high = max(low, least) if bucket else least, low + width
        high = min(high, greatest) if bucket < len(until) - 1 else greatest
        return low + (high - low) * (rank - until[bucket] + counts[bucket] + 0.5) / counts[bucket]

    found = value(below)
    rest = place - below
    return found + (value(below + 1) - found) * rest if rest else found
