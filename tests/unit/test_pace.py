"""How often a node may come in."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain import pace
from app.domain.pace import AT_ONCE, EVERY_SECONDS, Pace
from tests.fakes import FakeClock


def test_some_at_once_and_then_one_after_the_other() -> None:
    """Each node by itself; who waits as long as it is told may come in then."""
    clock = FakeClock()
    pacing = Pace(clock)
    assert [pacing.step("a") for _ in range(AT_ONCE)] == [0] * AT_ONCE
    assert pacing.step("a") == EVERY_SECONDS
    assert pacing.step("b") == 0
    clock.advance(EVERY_SECONDS - 1)
    assert pacing.step("a") == 1
    clock.advance(1)
    assert [pacing.step("a"), pacing.step("a")] == [0, EVERY_SECONDS]
    clock.advance(AT_ONCE * EVERY_SECONDS)
    assert [pacing.step("a") for _ in range(AT_ONCE + 1)] == [0] * AT_ONCE + [EVERY_SECONDS]


@given(st.lists(st.floats(0, 20), max_size=200))
def test_nobody_comes_in_more_often_nor_waits_longer(gaps: list[float]) -> None:
    """However it comes, in any stretch of time; and nobody waits for longer than one step."""
    clock = FakeClock()
    pacing = Pace(clock)
    came: list[float] = []
    for gap in gaps:
        clock.advance(gap)
        wait = pacing.step("a")
        assert 0 <= wait <= EVERY_SECONDS + 1e-6
        if wait == 0:
            came.append(clock.monotonic())
            lately = sum(moment > came[-1] - 60 for moment in came)
            assert lately <= AT_ONCE + 60 / EVERY_SECONDS


def test_who_has_not_come_for_a_while_is_forgotten() -> None:
    """What is kept is bounded by who comes, not by who came ever."""
    clock = FakeClock()
    pacing = Pace(clock)
    for node in range(10 * pace._FEW):
        pacing.step(node)
        clock.advance(EVERY_SECONDS)
    assert len(pacing._whole_at) <= pace._FEW
