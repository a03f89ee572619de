"""When the daemon samples: whole seconds, a phase of its own, and a wall clock that may be set."""

import asyncio
import itertools

from hypothesis import given
from hypothesis import strategies as st

from app.worker.schedule import Schedule, Ticker

NOW = 1_795_000_000_000
node_ids = st.text("0123456789abcdef", min_size=24, max_size=24)
intervals = st.sampled_from([1_000, 30_000, 60_000])


def walk(schedule: Schedule, now: int, until: int, late: int = 0) -> list[int]:
    """The moments of a machine that wakes up whenever it is told to, so many milliseconds late."""
    moments = []
    while now < until:
        wait = schedule.wait_ms(now)
        if wait:
            now += wait + late
        else:
            moments.append(schedule.take(now))
    return moments


@given(node_ids, intervals, st.integers(0, 10**6), st.integers(0, 900))
def test_moments_are_whole_seconds_one_interval_apart(node_id: str, interval: int, start: int, late: int) -> None:
    """However late the machine wakes up, the moments lie evenly and miss none."""
    moments = walk(Schedule(node_id, interval), NOW + start, NOW + start + 10 * interval, late)
    assert len(moments) in {9, 10}
    assert all(moment % 1000 == 0 for moment in moments)
    assert {after - before for before, after in itertools.pairwise(moments)} == {interval}


@given(node_ids, st.integers(0, 10**8))
def test_the_phase_belongs_to_the_node(node_id: str, later: int) -> None:
    """After a restart at any time the node samples at the same seconds; 30 s and 60 s share them."""
    first, again = Schedule(node_id, 60_000), Schedule(node_id, 60_000)
    half = Schedule(node_id, 30_000)
    phase = (NOW + first.wait_ms(NOW)) % 60_000
    assert (NOW + later + again.wait_ms(NOW + later)) % 60_000 == phase
    assert (NOW + half.wait_ms(NOW)) % 30_000 == phase % 30_000


def test_nodes_do_not_march_in_step() -> None:
    """Sixty phases, and a hundred nodes spread over most of them."""
    assert len({Schedule(f"{number:024x}", 60_000).wait_ms(NOW) for number in range(100)}) > 30


@given(node_ids, intervals, st.integers(-(10**9), 10**9))
def test_a_clock_that_is_set_neither_stops_it_nor_repeats_a_moment(node_id: str, interval: int, step: int) -> None:
    """Set forward it goes on at once; set back a little it waits; set back far it starts over."""
    schedule = Schedule(node_id, interval)
    before = walk(schedule, NOW, NOW + 3 * interval)
    now = before[-1] + step
    assert schedule.wait_ms(now) <= 2 * interval
    after = walk(schedule, now, now + 4 * interval)
    assert len(after) >= 1
    if step > -interval:
        assert min(after) > max(before)


def test_a_moment_that_was_slept_through_is_skipped() -> None:
    """A machine that was suspended takes one sample, of the last moment that passed."""
    schedule = Schedule("0" * 24, 60_000)
    due = NOW + schedule.wait_ms(NOW)
    moment = schedule.take(due + 3_600_500)
    assert moment == due + 3_600_000
    assert schedule.wait_ms(due + 3_600_500) == 59_500


async def test_a_ticker_hears_of_a_new_interval_while_it_waits() -> None:
    """It does not sleep out the old one."""
    ticker = Ticker("0" * 24, 60_000_000)
    waiting = asyncio.create_task(ticker.next())
    await asyncio.sleep(0)
    ticker.change(20)
    async with asyncio.timeout(5):
        await waiting
