"""Simulated GPUs and machines are believable: whatever happens to them, physics and bookkeeping hold."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.simulate.gpu import AMBIENT, CARDS, HOTTEST, Card, Gpu, Inertia, Work
from app.simulate.machine import Machine

# A machine busy with other things is slow, not wrong.
unhurried = settings(deadline=None)

cards = st.sampled_from(CARDS)
works = st.none() | st.builds(Work, st.floats(0, 100), st.floats(0, 1))
seconds = st.floats(0.01, 3600)
lives = st.lists(st.tuples(works, seconds), min_size=1, max_size=30)


def aged(gpu: Gpu, work: Work | None, seconds: float, steps: int = 1) -> Gpu:
    """The GPU after doing that work for `steps` times so many seconds."""
    gpu.work = work
    for _ in range(steps):
        gpu.advance(Inertia.over(seconds))
    return gpu


@unhurried
@given(cards, lives, st.integers(0, 2**32))
def test_a_gpu_never_leaves_what_its_card_can_do(card: Card, life: list[tuple[Work | None, float]], seed: int) -> None:
    """Utilization, heat, power and memory stay within the card's bounds through any life."""
    gpu = Gpu(card, Random(seed))
    for work, step in life:
        aged(gpu, work, step)
        assert 0 <= gpu.utilization <= 100
        assert AMBIENT <= gpu.temperature <= HOTTEST
        assert card.idle_power <= gpu.power <= card.peak_power
        assert 0 < gpu.memory_used <= card.memory
        assert gpu.memory_used + gpu.memory_free == pytest.approx(card.memory, abs=1e-9)


@unhurried
@given(cards, st.floats(0.05, 1), seconds, st.integers(0, 2**32))
def test_memory_is_held_by_a_job_and_freed_with_it(card: Card, share: float, step: float, seed: int) -> None:
    """Memory rises with a job's start, stays while it runs whatever it computes, and falls with its end."""
    gpu = Gpu(card, Random(seed))
    before = gpu.memory_used
    held = {aged(gpu, Work(50, share), step).memory_used for _ in range(5)}
    assert len(held) == 1
    assert held.pop() > before
    assert aged(gpu, None, step).memory_used == before


@unhurried
@given(cards, st.integers(0, 2**32))
def test_power_and_heat_follow_work_with_inertia(card: Card, seed: int) -> None:
    """At full work power comes within seconds, heat within minutes; both go again when the work is over."""
    gpu = aged(Gpu(card, Random(seed)), None, 600)
    cold = gpu.temperature
    aged(gpu, Work(95, 0.5), 10, steps=3)
    assert gpu.power > 0.7 * card.peak_power
    warm = gpu.temperature
    assert cold < warm
    hot = aged(gpu, Work(95, 0.5), 60, steps=10).temperature
    assert hot > warm + 5
    aged(gpu, None, 30)
    assert gpu.power < 0.5 * card.peak_power
    assert cold < gpu.temperature < hot
    assert aged(gpu, None, 60, steps=20).temperature == pytest.approx(cold, abs=1)


@unhurried
@given(seconds, seconds)
def test_a_longer_time_brings_it_further(one: float, other: float) -> None:
    """Inertia lies between nothing and everything, and grows with time."""
    short, long = Inertia.over(min(one, other)), Inertia.over(max(one, other))
    assert all(0 <= little <= much <= 1 for little, much in zip(short, long, strict=True))


@unhurried
@given(st.integers(0, 16), st.integers(0, 1000), st.lists(st.floats(0.1, 600), max_size=40))
def test_a_machines_books_balance(gpus: int, number: int, steps: list[float]) -> None:
    """Jobs hold distinct GPUs, idle ones hold no work, counters only grow, memory and disk fit."""
    machine = Machine(number, gpus)
    for step in steps:
        received = machine.bytes_in
        machine.advance(step)
        busy = [gpu.device_id for job in machine.jobs for gpu in job.gpus]
        assert len(set(busy)) == len(busy)
        assert set(busy) == {gpu.device_id for gpu in machine.gpus if gpu.work is not None}
        assert machine.bytes_in >= received
        assert 0 <= machine.cpu_load <= 100
        assert 0 < machine.ram_used < machine.ram_total
        assert 0 < machine.disk_used < machine.disk_total


def test_jobs_come_and_go() -> None:
    """Over a day a machine is neither always idle nor always full, and GPUs change hands."""
    machine = Machine(1, 8)
    busy = []
    for _ in range(24 * 60):
        machine.advance(60)
        busy.append(sum(gpu.work is not None for gpu in machine.gpus))
    assert min(busy) < 3
    assert max(busy) == 8
    assert 2 < sum(busy) / len(busy) < 7.9


def test_the_same_seed_makes_the_same_life() -> None:
    """Two machines of one seed agree for ever, two numbers differ."""
    one, same, other = Machine(7, 4), Machine(7, 4), Machine(8, 4)
    for machine in (one, same, other):
        for _ in range(50):
            machine.advance(60)

    def state(machine: Machine) -> list[tuple[str, int, float, float]]:
        return [(gpu.device_id, gpu.utilization, gpu.power, gpu.memory_used) for gpu in machine.gpus]

    assert state(one) == state(same) != state(other)


def test_device_ids_are_unique_in_a_fleet() -> None:
    """GPUs are named as NVML names them, each with a name of its own."""
    names = [gpu.device_id for number in range(50) for gpu in Machine(number, 8).gpus]
    assert len(set(names)) == 400
    assert all(name.startswith("GPU-") and len(name) == 40 for name in names)
