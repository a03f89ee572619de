"""Percentiles out of histograms, held against the values that were counted."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.quantities import SHARE, Scale
from app.storage.quantiles import of_one_total, quantile


def counted(values: Sequence[float], total: float, scale: Scale) -> list[int]:
    """As PostgreSQL counts shares of a total: an element for each bucket, one before and one behind."""
    counts = [0] * (scale.buckets + 2)
    for value in values:
        share = value / total
        counts[0 if share < 0 else min(int(share * scale.buckets), scale.buckets) + 1] += 1
    return counts


def exact(values: Sequence[float], share: float) -> float:
    """As percentile_cont does: on the line between the two values around it."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = ((*pairwise(ordered), (ordered[-1], ordered[-1])))[int(place)]
    return low + (high - low) * (place - int(place))


MEASURED = st.dictionaries(
    st.sampled_from([16_000, 24_000, 80_000, 81_559, 192_000]),
    st.lists(st.floats(0, 1), min_size=1, max_size=40),
    min_size=1,
)


@given(MEASURED, st.sampled_from([0, 0.5, 0.95, 0.99, 1]))
def test_shares_of_unlike_totals_are_put_together(shares: dict[int, list[float]], share: float) -> None:
    """Off by one and a half buckets of the greatest total at most, and by one where there is but one total."""
    values = {total: [each * total for each in of_total] for total, of_total in shares.items()}
    every = [value for of_total in values.values() for value in of_total]
    hists = [counted(of_total, total, SHARE) for total, of_total in values.items()]
    counts, greatest = of_one_total(hists, list(values), SHARE)
    assert sum(counts) == len(every)
    assert greatest == max(values)
    found = quantile(counts, SHARE, greatest, share, min(every), max(every))
    assert found is not None
    buckets = 1 if len(values) == 1 else 1.5
    assert abs(found - exact(every, share)) <= buckets * greatest / SHARE.buckets + 1e-6
