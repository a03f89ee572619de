"""How far a worker's clock is off, told from delays that only add."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.skew import Skew, warning
from tests.fakes import START


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_the_smallest_of_ten_minutes_counts() -> None:
    """A slow frame says nothing about the clock; what is older is forgotten."""
    skew = Skew()
    assert skew.heard(after(-0.5), after(0)) == 500
    assert skew.heard(after(29.9), after(30)) == 100
    assert skew.heard(after(50), after(60)) == 100
    assert skew.heard(after(500), after(580)) == 100
    assert skew.heard(after(634), after(641)) == 7000


def test_what_is_sent_again_is_not_taken_for_a_slow_clock() -> None:
    """After an outage the first frames are old; a live one comes within the minute."""
    skew = Skew()
    assert skew.heard(after(-3600), after(0)) is None
    assert skew.heard(after(-3570), after(1)) is None
    assert skew.heard(after(29.9), after(30)) == 100
    assert skew.heard(after(-3540), after(31)) == 100


def test_a_slow_clock_is_believed_after_a_minute_and_a_fast_one_at_once() -> None:
    """No delay makes a frame come before it was sent."""
    slow = Skew()
    assert [slow.heard(after(at - 45), after(at)) for at in (0, 30, 60)] == [None, None, 45_000]
    assert Skew().heard(after(45), after(0)) == -45_000


@given(offset=st.floats(-1e5, 1e5), delays=st.lists(st.floats(0, 600), min_size=3, max_size=40))
def test_it_is_never_less_than_the_truth_nor_more_than_the_quickest_frame_s(offset: float, delays: list[float]) -> None:
    """Delays only add."""
    skew, found = Skew(), None
    for number, delay in enumerate(delays):
        found = skew.heard(after(number * 10 - offset - delay), after(number * 10))
    if found is not None:
        assert offset * 1000 - 1 <= found <= (offset + min(delays)) * 1000 + 1


@pytest.mark.parametrize(
    ("skew_ms", "said"),
    [
        (None, ()),
        (30_000, ()),
        (-30_000, ()),
        (45_400, ("The clock is 45 s behind the server's: set it",)),
        (-31_000, ("The clock is 31 s ahead of the server's: set it",)),
    ],
)
def test_a_clock_that_is_off_is_told(skew_ms: int | None, said: tuple[str, ...]) -> None:
    """Beyond half a minute."""
    assert warning(skew_ms) == said
