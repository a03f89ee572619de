"""What follows from how long rows are kept: how old a sample may be, and how far back rollups are refreshed."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.retention import SHORTEST, Retention

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def kept(field: str) -> st.SearchStrategy[timedelta | None]:
    return st.none() | st.timedeltas(SHORTEST[field], 4000 * DAY)


RETENTIONS = st.builds(Retention, **{field: kept(field) for field in SHORTEST})


@given(retention=RETENTIONS)
def test_a_late_sample_finds_all_that_its_buckets_are_made_of(retention: Retention) -> None:
    """The samples of its hour and the hours of its day: computed anew from less, the bucket would lose the rest."""
    oldest = retention.max_sample_age
    assert retention.raw is None or oldest + HOUR < retention.raw
    assert retention.hour is None or oldest + DAY < retention.hour


@given(retention=RETENTIONS)
def test_refreshes_reach_over_all_that_is_accepted_and_over_nothing_that_is_dropped(retention: Retention) -> None:
    """What came late is rolled up, and what was rolled up is not computed anew from nothing."""
    oldest, back = retention.max_sample_age, retention.refreshed_for
    for width in ("1h", "1h_by_node"):
        assert (start := back[width]) is None or start > oldest + 2 * HOUR
    assert (start := back["1d"]) is None or start > min(oldest + DAY, (retention.day or oldest + 2 * DAY) - 2 * DAY)
    for width, source in (
        ("5m", retention.raw),
        ("1h", retention.raw),
        ("1h_by_node", retention.hour),
        ("1d", retention.hour),
    ):
        assert source is None or ((start := back[width]) is not None and start < source)
