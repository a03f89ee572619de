"""GPUs that behave like some: load comes with jobs, heat and power follow it with inertia.

Nothing here knows of time of day or of messages: a GPU is told which work it holds and how many
seconds pass.
"""

from math import exp
from random import Random
from typing import Final, NamedTuple
from uuid import UUID

AMBIENT: Final = 28.0
"""°C of the air that a card draws in."""
HOTTEST: Final = 84.0
"""°C that a card's fans hold at full power."""
DRIVER_MEMORY: Final = 0.5
"""GB that the driver holds without any job."""

# Seconds after which about two thirds of a change have happened.
_LOAD_SECONDS = 8.0
_POWER_SECONDS = 4.0
_HEAT_SECONDS = 90.0


class Card(NamedTuple):
    """A model: memory in GB, power in W."""

    model: str
    memory: float
    idle_power: float
    peak_power: float


CARDS: Final = (
    Card("NVIDIA A100", 80, 55, 400),
    Card("NVIDIA H100", 80, 70, 700),
    Card("NVIDIA H200", 141, 75, 700),
    Card("NVIDIA L40S", 48, 35, 350),
    Card("NVIDIA A10", 24, 20, 150),
)


class Work(NamedTuple):
    """What a job wants of each of its GPUs: percent of utilization and a share (0–1) of memory."""

    utilization: float
    memory_share: float


class Inertia(NamedTuple):
    """How far load, power and heat get towards their goal, 0–1. Computed once for all GPUs of a machine."""

    load: float
    power: float
    heat: float

    @classmethod
    def over(cls, seconds: float) -> "Inertia":
        """What that many seconds do."""
        return cls(*(1 - exp(-seconds / lag) for lag in (_LOAD_SECONDS, _POWER_SECONDS, _HEAT_SECONDS)))


class Gpu:
    """One GPU. `work` is set by the machine's jobs; the rest follows with `advance`."""

    __slots__ = ("_load", "_power", "_random", "_temperature", "_warmth", "card", "device_id", "work")

    def __init__(self, card: Card, random: Random) -> None:
        self.card = card
        # As NVML names GPUs: a number would move between boots.
        self.device_id = f"GPU-{UUID(int=random.getrandbits(128), version=4)}"
        self.work: Work | None = None
        self._random = random
        # No two places in a chassis are cooled alike.
        self._warmth = random.uniform(0.85, 1.0)
        self._load = 0.0
        self._power = card.idle_power
        self._temperature = self._goal_temperature()

    @property
    def utilization(self) -> int:
        """Percent, whole as the driver reports it."""
        return round(self._load)

    @property
    def temperature(self) -> int:
        """°C, whole as the driver reports it."""
        return round(self._temperature)

    @property
    def power(self) -> float:
        """W."""
        return round(self._power, 1)

    @property
    def memory_used(self) -> float:
        """GB. Held from a job's first moment to its last, whatever it computes."""
        share = 0.0 if self.work is None else self.work.memory_share
        return round(DRIVER_MEMORY + share * (self.card.memory - DRIVER_MEMORY), 3)

    @property
    def memory_free(self) -> float:
        """GB; with `memory_used` exactly the card's memory."""
        return round(self.card.memory - self.memory_used, 3)

    def advance(self, inertia: Inertia) -> None:
        """Let time pass."""
        goal = 0.0 if self.work is None else self.work.utilization + 12 * (self._random.random() - 0.5)
        self._load += inertia.load * (min(max(goal, 0.0), 100.0) - self._load)
        card = self.card
        goal = card.idle_power + (card.peak_power - card.idle_power) * self._load / 100
        self._power += inertia.power * (goal - self._power)
        self._temperature += inertia.heat * (self._goal_temperature() - self._temperature)

    def _goal_temperature(self) -> float:
        return AMBIENT + (HOTTEST - AMBIENT) * self._warmth * self._power / self.card.peak_power
