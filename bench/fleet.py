"""The benchmark fleet: what its machines measure, the same for the same seed.

GPUs work in jobs of hours with pauses between; each node reports at its own moment of the minute, some
milliseconds early or late, as real ones do. Values are in steps, in the order of the tables' columns.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

SEED: Final = 20261123
INTERVAL: Final = timedelta(minutes=1)
JITTER_MS: Final = 20
MEMORY_GB: Final = 80_000

Row = tuple[Any, ...]


class Gpu:
    """A card that works or idles."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._left = 0
        self._load = 0
        self._memory = 0
        self._temperature = 35.0

    def measure(self) -> Row:
        """Utilisation in whole percent, memory in MiB, temperature in whole degrees, power in tenths of a watt."""
        random = self._random
        if self._left == 0:
            self._left = random.randint(30, 600)
            self._load = random.choice([0, 0, 40, 70, 90, 98])
            self._memory = 500 if self._load == 0 else random.randint(8_000, 78_000)
        self._left -= 1
        load = 0 if self._load == 0 else min(100, max(0, round(random.gauss(self._load, 3))))
        self._temperature += (35 + load * 0.42 - self._temperature) * 0.15
        used = round(self._memory * 1000 / 1024)
        power = round((60 + load * 3.1) * random.gauss(1, 0.02) * 10)
        return load * 10, MEMORY_GB, used, MEMORY_GB - used, round(self._temperature) * 10, power


class Machine:
    """A node with its cards."""

    def __init__(self, node_key: int, gpus: int) -> None:
        random = Random(SEED * 1_000_003 + node_key)
        self.node_key = node_key
        self._random = random
        self._phase = timedelta(milliseconds=random.randrange(60_000))
        self._gpus = [Gpu(random) for _ in range(gpus)]
        self._sent = random.randrange(10**12)

    def samples(self, start: datetime, end: datetime) -> Iterator[tuple[Row, list[Row]]]:
        """Rows of `node_metrics` with those of `gpu_metrics` that belong to them, a minute apart."""
        minute = start
        while minute < end:
            jitter = timedelta(milliseconds=self._random.randint(-JITTER_MS, JITTER_MS))
            yield self._sample(max(start, minute + self._phase + jitter))
            minute += INTERVAL

    def _sample(self, time: datetime) -> tuple[Row, list[Row]]:
        random = self._random
        cpu = round(random.gauss(450, 60))
        used = round(random.gauss(160_000, 2_000))
        self._sent += random.randrange(10**8)
        node = (
            *(self.node_key, time, min(max(cpu, 0), 1000), 64, round(random.gauss(55, 1)) * 10),
            *(256_000, used, 256_000 - used, round(used / 256)),
            *(2_048_000, 1_024_000, 1_024_000, 500, self._sent, self._sent // 3),
        )
        return node, [(self.node_key, number, time, *gpu.measure()) for number, gpu in enumerate(self._gpus, 1)]
