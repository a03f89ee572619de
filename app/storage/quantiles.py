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
    if below == place or below + 1 < until[bucket]:
        found = _at(place, bucket, counts, until, scale, unit, least, greatest)
    else:
        found = _at(below, bucket, counts, until, scale, unit, least, greatest)
        following = _at(below + 1, bisect_right(until, below + 1), counts, until, scale, unit, least, greatest)
        found += (following - found) * (place - below)
    return least if found < least else min(found, greatest)


def of_one_total(hists: Sequence[Sequence[int]], totals: Sequence[float], scale: Scale) -> tuple[Sequence[int], float]:
    """Histograms of shares of several totals as one of the greatest, as `history.merge` puts them together.

    The middle of a bucket goes where it lies in those of the greatest total: what is told of them is wrong by one and a half
    of its buckets at most.
    """
    greatest = max(totals)
    merged = [0] * (scale.buckets + 2)
    for counts, total in zip(hists, totals, strict=True):
        for bucket, count in enumerate(counts):
            if count:
                middle = (min(bucket, scale.buckets) - 0.5) * total / greatest
                merged[bucket if bucket == 0 or total == greatest else int(middle) + 1] += count
    return merged, greatest


def _at(
    rank: float,
    bucket: int,
    counts: Sequence[int],
    until: Sequence[int],
    scale: Scale,
    unit: float,
    least: float,
    greatest: float,
) -> float:
    """About the value that has so many below it: those of a bucket are taken to lie evenly in it."""
    low, high, buckets = scale
    width = (high - low) * unit / buckets
    low = low * unit + (bucket - 1) * width
    high = low + width
    # A million of these are made for one answer: `min` and `max` would take half as long again.
    if high > greatest or bucket == len(until) - 1:
        high = greatest
    if low < least or bucket == 0:
        low = least
    count = counts[bucket]
    return low + (high - low) * (rank - until[bucket] + count + 0.5) / count
