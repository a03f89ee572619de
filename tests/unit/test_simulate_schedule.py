"""The walk of time: even steps, an end at the present, no moment twice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.simulate.schedule import Walk, cadence

# A machine busy with other things is slow, not wrong.
unhurried = settings(deadline=None)

NOW = 1_763_719_200.0
phases = st.floats(0, 1, exclude_max=True)
intervals = st.integers(100, 120_000)
speeds = st.floats(1.01, 1000)
durations = st.floats(1, 3600)


@unhurried
@given(phases, intervals, speeds, durations)
def test_a_walk_fills_the_past_and_ends_at_the_present(
    phase: float, interval: int, speed: float, duration: float
) -> None:
    """S seconds at speed X cover S·X seconds: the first sample lies within a step of its begin, the last of now."""
    walk = Walk(NOW, NOW + duration, speed)
    course = walk.course(interval, phase)
    assert course.length is not None
    assert walk.span == pytest.approx(duration * speed)
    if course.length:
        first, last = course.moment(0), course.moment(course.length - 1)
        assert NOW + duration - walk.span - 1e-3 <= first < NOW + duration - walk.span + interval / 1000 + 1e-3
        assert NOW + duration - interval / 1000 - 1e-3 < last <= NOW + duration + 1e-3


@unhurried
@given(phases, intervals, speeds, durations)
def test_samples_are_sent_while_sending_and_never_of_the_future(
    phase: float, interval: int, speed: float, duration: float
) -> None:
    """Each is due between begin and end, X times as often as its moments lie apart, and not before its moment."""
    course = Walk(NOW, NOW + duration, speed).course(interval, phase)
    for number in range(min(course.length or 0, 50)):
        assert NOW - 1e-3 <= course.due(number) <= NOW + duration + 1e-3
        assert course.moment(number) <= course.due(number) + 1e-3
        assert course.due(number + 1) - course.due(number) == pytest.approx(interval / 1000 / speed, abs=1e-5)


@unhurried
@given(phases, st.integers(100, 120_000), st.floats(0.01, 1000))
def test_without_an_end_samples_are_of_the_moment_they_are_sent_at(phase: float, interval: int, speed: float) -> None:
    """An open-ended walk stays at the present, and no two samples share a millisecond."""
    course = Walk(NOW, None, speed).course(interval, phase)
    assert course.length is None
    moments = [course.moment(number) for number in range(20)]
    assert moments == [course.due(number) for number in range(20)]
    assert len({int(moment * 1000) for moment in moments}) == 20


def test_at_the_documents_speed_there_is_no_past_to_fill() -> None:
    """Speed 1 with a duration is simply live."""
    walk = Walk(NOW, NOW + 300, 1.0)
    course = walk.course(60_000, 0.5)
    assert walk.span == 0
    assert course.length == 5
    assert course.moment(0) == course.due(0) == NOW + 30


def test_a_slow_walk_is_never_of_the_future() -> None:
    """Below speed 1 samples are of now, further apart."""
    course = Walk(NOW, NOW + 600, 0.5).course(60_000, 0.0)
    assert [course.due(number) - NOW for number in range(3)] == [0, 120, 240]
    assert course.moment(2) == course.due(2)


def test_a_walk_shorter_than_a_step_may_have_no_sample() -> None:
    """A node whose phase lies beyond the end sends no metrics at all."""
    assert Walk(NOW, NOW + 10, 1.0).course(60_000, 0.9).length == 0


def test_cadence_is_bounded() -> None:
    """Faster than every 5 ms two samples might share a millisecond."""
    assert cadence(30_000, 60) == 0.5
    assert cadence(100, 1000) == 0.005
