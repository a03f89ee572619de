"""What follows from how long rows are kept: how old a sample may be, and how far back rollups are refreshed."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.retention import SHORTEST, Retention
from tests.fakes import START

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
    assert (start := back["5m_by_node"]) is None or (back["5m"] is not None and start > back["5m"])
    for width, source in (
        ("5m", retention.raw),
        ("5m_by_node", retention.five_minutes),
        ("1h", retention.raw),
        ("1h_by_node", retention.hour),
        ("1d", retention.hour),
    ):
        assert source is None or ((start := back[width]) is not None and start < source)


@given(retention=RETENTIONS, before=st.timedeltas(2 * DAY, 5000 * DAY))
def test_what_was_dropped_does_not_come_back(retention: Retention, before: timedelta) -> None:
    """Whatever is kept from now on, nothing is accepted or refreshed from where samples are gone."""
    left = retention.since({"gpu_metrics": START - before}, START)
    assert left.raw is not None
    assert left.raw <= before + HOUR
    assert left.max_sample_age < before
    assert left.refreshed_for["1h"] is not None
    assert left.refreshed_for["1h"] < before
    assert retention.since({}, START) == retention


@given(retention=RETENTIONS)
def test_what_is_dropped_by_the_settings_themselves_shortens_nothing(retention: Retention) -> None:
    """Neither where dropping was noted an hour ago nor on a host whose clock is a little behind."""
    for noted in (timedelta(), HOUR, -timedelta(seconds=1)):
        dropped = {table: START - noted - kept for table, kept in retention.by_table.items() if kept is not None}
        assert retention.since(dropped, START) == retention
