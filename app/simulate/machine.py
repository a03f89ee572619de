"""A simulated GPU machine: its hardware, and the jobs that come and go on it."""

from collections.abc import Sequence
from math import exp
from random import Random
from typing import Final

from app.simulate.gpu import CARDS, Gpu, Inertia, Work

_MEAN_JOB_SECONDS = 40 * 60
_MEAN_PAUSE_SECONDS = 6 * 60
# What has been running when the simulation begins: it does not start with an idle fleet.
_WARM_UP_SECONDS = 2 * 3600
_WARM_UP_STEP = 120
_CPU_MODEL: Final = "AMD EPYC 7742"
_DISK_GB = 4096.0


class Job:
    """Work on some GPUs of one machine until the machine's own clock says `ends_at`."""

    __slots__ = ("ends_at", "gpus")

    def __init__(self, gpus: Sequence[Gpu], work: Work, ends_at: float) -> None:
        self.gpus = gpus
        self.ends_at = ends_at
        for gpu in gpus:
            gpu.work = work


class Machine:
    """One worker's machine. The same seed makes the same machine with the same life."""

    __slots__ = (
        "_age",
        "_ram_share",
        "_random",
        "bytes_in",
        "bytes_out",
        "cpu_cores",
        "cpu_load",
        "disk_used",
        "gpus",
        "hostname",
        "jobs",
        "number",
        "ram_total",
    )

    def __init__(self, number: int, gpus: int, seed: int = 0) -> None:
        self._random = random = Random(f"{seed}/{number}")
        self.number = number
        self.hostname = f"gpu-server-{number:05}"
        card = random.choice(CARDS)
        self.gpus = tuple(Gpu(card, random) for _ in range(gpus))
        self.cpu_cores = min(256, max(16, 16 * gpus))
        self.ram_total = float(max(128, 128 * gpus))
        self.jobs: list[Job] = []
        self.cpu_load = 5.0
        self.disk_used = round(random.uniform(0.1, 0.5) * _DISK_GB, 3)
        self.bytes_in = self.bytes_out = 0
        self._age = 0.0
        self._ram_share = 0.05
        for _ in range(_WARM_UP_SECONDS // _WARM_UP_STEP):
            self.advance(_WARM_UP_STEP)

    @property
    def cpu_model(self) -> str:
        """What /proc/cpuinfo would say."""
        return _CPU_MODEL

    @property
    def disk_total(self) -> float:
        """GB."""
        return _DISK_GB

    @property
    def cpu_temperature(self) -> int:
        """°C."""
        return round(35 + 0.4 * self.cpu_load)

    @property
    def ram_used(self) -> float:
        """GB."""
        return round(self.ram_total * self._ram_share, 3)

    def advance(self, seconds: float) -> None:
        """Let time pass: jobs end, perhaps one starts, everything follows."""
        if seconds <= 0:
            return
        self._age += seconds
        self._end_jobs()
        self._start_job(seconds)
        inertia = Inertia.over(seconds)
        busy = 0
        for gpu in self.gpus:
            gpu.advance(inertia)
            busy += gpu.work is not None
        self._follow(seconds, inertia, busy / len(self.gpus) if self.gpus else 0.0)

    def _end_jobs(self) -> None:
        for job in [job for job in self.jobs if job.ends_at <= self._age]:
            self.jobs.remove(job)
            for gpu in job.gpus:
                gpu.work = None

    def _start_job(self, seconds: float) -> None:
        """Jobs come at random, at most one a step; each takes one, two, four or eight GPUs."""
        random = self._random
        idle = [gpu for gpu in self.gpus if gpu.work is None]
        if not idle or random.random() < exp(-seconds / _MEAN_PAUSE_SECONDS):
            return
        wanted = random.choice((1, 1, 2, 4, 8))
        work = Work(random.uniform(35, 98), random.uniform(0.2, 0.95))
        ends_at = self._age + max(300.0, random.expovariate(1 / _MEAN_JOB_SECONDS))
        self.jobs.append(Job(idle[:wanted], work, ends_at))

    def _follow(self, seconds: float, inertia: Inertia, busy: float) -> None:
        """CPU, memory, network and disk go with the share of GPUs at work."""
        random = self._random
        self.cpu_load += inertia.load * (3 + 50 * busy + 12 * random.random() - self.cpu_load)
        self._ram_share += inertia.heat * (0.04 + 0.7 * busy - self._ram_share)
        traffic = seconds * (20_000 + 25_000_000 * busy) * random.random()
        self.bytes_in += round(traffic)
        self.bytes_out += round(traffic * 0.3)
        # Checkpoints fill the disk; somebody clears it up before it is full.
        self.disk_used = round(self.disk_used + traffic / 2**30 * 0.02, 3)
        if self.disk_used > 0.92 * _DISK_GB:
            self.disk_used = round(0.3 * _DISK_GB, 3)
