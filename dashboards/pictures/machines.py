"""What the machines of the fleet measure: jobs come by day more than by night, heat and power follow them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import exp, pi, sin
from random import Random
from typing import Any, Final, NamedTuple

from app.quantities import GPU_METRIC_FIELDS, NODE_METRIC_FIELDS, Field
from app.simulate.gpu import Gpu, Inertia, Work
from dashboards.pictures.cast import GPUS, Part

SEED: Final = 20261125
STEP: Final = 60.0
"""Seconds between two samples, as the document has it."""
INERTIA: Final = Inertia.over(STEP)
HOT_FOR: Final = timedelta(hours=10)
HOARDED_FOR: Final = timedelta(hours=9)
BROKEN_FAN: Final = 11
"""°C more."""
CORES: Final = 128
MEMORY_GB: Final = 1024.0
DISK_GB: Final = 7680.0
MEAN_JOB_SECONDS: Final = 2.5 * 3600
MEAN_PAUSE_SECONDS: Final = 1.4 * 3600

Row = tuple[Any, ...]


class Measured(NamedTuple):
    """A sample in steps, in the order of the tables' columns."""

    time: datetime
    node: Row
    gpus: list[Row]


class Machine:
    """One node's hardware with its jobs; the same seed makes the same life."""

    def __init__(self, part: Part, key: int) -> None:
        self.part = part
        self.key = key
        self._random = random = Random(SEED * 1000 + key)
        self.cards = [Gpu(part.card, random) for _ in range(GPUS)]
        self._left = [0.0] * GPUS
        self._phase = timedelta(milliseconds=random.randrange(60_000))
        self._sent = random.randrange(10**12)
        self._disk = (part.disk or random.uniform(0.25, 0.7)) * DISK_GB

    def samples(self, start: datetime, now: datetime) -> Iterator[Measured]:
        """What it measures, whether anybody hears it or not."""
        time = start + self._phase
        while time < now:
            self._advance(time, now)
            yield self._measure(time, now)
            time += timedelta(seconds=STEP)

    def _advance(self, time: datetime, now: datetime) -> None:
        part = self.part
        starts = 1 - exp(-STEP / MEAN_PAUSE_SECONDS * part.demand * _bustle(time))
        for number, gpu in enumerate(self.cards):
            self._left[number] -= STEP
            if part.hoards and now - time < HOARDED_FOR:
                gpu.work = Work(0, 0.82)
            elif number == part.hot_gpu and now - time < HOT_FOR:
                gpu.work = Work(96, 0.8)
            elif self._left[number] <= 0:
                gpu.work = None
            if gpu.work is None and self._random.random() < starts:
                self._start(number)
            gpu.advance(INERTIA)

    def _start(self, number: int) -> None:
        """A job on as many free cards as it wants."""
        random = self._random
        work = Work(random.uniform(45, 99), random.uniform(0.25, 0.95))
        lasts = max(600.0, random.expovariate(1 / MEAN_JOB_SECONDS))
        for other in range(number, min(GPUS, number + random.choice((1, 2, 4, 8)))):
            if self.cards[other].work is None:
                self.cards[other].work = work
                self._left[other] = lasts

    def _measure(self, time: datetime, now: datetime) -> Measured:
        random = self._random
        busy = sum(gpu.work is not None and gpu.work.utilization > 0 for gpu in self.cards) / GPUS
        cpu = min(99.0, max(1.0, random.gauss(6 + 48 * busy, 3)))
        memory = MEMORY_GB * min(0.95, 0.06 + 0.55 * busy + random.gauss(0, 0.004))
        self._sent += int(60 * (40_000 + 90_000_000 * busy) * random.random())
        self._disk = min(0.97 * DISK_GB, self._disk + random.random() * 0.02)
        values = {
            "cpu_usage": cpu,
            "cpu_cores": CORES,
            "cpu_temperature": 38 + 0.4 * cpu,
            "memory_total": MEMORY_GB,
            "memory_used": memory,
            "memory_free": MEMORY_GB - memory,
            "memory_usage": memory / MEMORY_GB * 100,
            "disk_total": DISK_GB,
            "disk_used": self._disk,
            "disk_free": DISK_GB - self._disk,
            "disk_usage": self._disk / DISK_GB * 100,
            "network_bytes_in": self._sent,
            "network_bytes_out": self._sent // 4,
        }
        node = (self.key, time, *(_steps(field, values[field.column]) for field in NODE_METRIC_FIELDS))
        return Measured(time, node, [self._card(number, time, now) for number in range(self._there(time, now))])

    def _there(self, time: datetime, now: datetime) -> int:
        """How many of its cards answer."""
        lost = self.part.lost_gpu
        return GPUS - (lost is not None and now - time < timedelta(hours=lost))

    def _card(self, number: int, time: datetime, now: datetime) -> Row:
        gpu = self.cards[number]
        is_hot = number == self.part.hot_gpu and now - time < HOT_FOR
        values = {
            "utilization": gpu.utilization,
            "memory_total": gpu.card.memory,
            "memory_used": gpu.memory_used,
            "memory_free": gpu.memory_free,
            "temperature": gpu.temperature + (BROKEN_FAN if is_hot else 0),
            "power_usage": gpu.power,
        }
        return (self.key, number + 1, time, *(_steps(field, values[field.column]) for field in GPU_METRIC_FIELDS))


def _steps(field: Field, value: float) -> int | None:
    return None if field.quantity is None else field.quantity.to_steps(value)


def _bustle(time: datetime) -> float:
    """How much is asked for at this time of a week, about 1 on average: most at 10:00 UTC on weekdays."""
    time = time.astimezone(UTC)
    day = 1 + 0.75 * sin((time.hour + time.minute / 60 - 4) / 24 * 2 * pi)
    return day * (0.45 if time.weekday() >= 5 else 1.2)
