"""The walk of time: when which sample is sent, and which moment it claims to be of.

A walk with an end and a speed above 1 fills the past: at the speed X, S seconds of sending walk
through S·X seconds of samples in steps of the document's cadence, and the end of the sending is the
end of the walk, so the newest samples are of the present:

    begins_at − …           the walk, S·X seconds, steps of 60 s           ends_at = now
    ├──────────────────────────────────────────────────────────────────────┤
                                                    ├──────────────────────┤
                                                begins_at   sending, S s

A walk without an end has no such past, since nobody knows when it will be interrupted. It stays at
the present: samples are of the moment they are sent at, and at the speed X they lie 60/X s apart.
So do those of a speed up to 1, for which there is no past to fill either.
"""

from dataclasses import dataclass

_SHORTEST_STEP = 0.005
"""Seconds between two frames of a kind: samples of one node must differ by a millisecond at least."""


def cadence(interval_ms: int, speed: float) -> float:
    """Seconds between two frames of a kind at a speed."""
    return max(_SHORTEST_STEP, interval_ms / 1000 / speed)


@dataclass(frozen=True, slots=True)
class Walk:
    """When the sending begins and ends, in seconds since 1970; `ends_at` is None until interrupted."""

    begins_at: float
    ends_at: float | None
    speed: float

    @property
    def span(self) -> float:
        """Seconds of past that the walk fills; 0 where it stays at the present."""
        return 0.0 if self.ends_at is None or self.speed <= 1 else (self.ends_at - self.begins_at) * self.speed

    def course(self, interval_ms: int, phase: float) -> "Course":
        """One node's way through this walk; `phase` (0 ≤ phase < 1) spreads nodes over the first step."""
        if self.ends_at is not None and self.span:
            step = interval_ms / 1000
            return Course(self.ends_at - self.span + phase * step, step, self.ends_at, self.speed)
        step = cadence(interval_ms, self.speed)
        return Course(self.begins_at + phase * step, step, self.ends_at, 1.0)


@dataclass(frozen=True, slots=True)
class Course:
    """The samples of one node, numbered from 0."""

    first: float
    step: float
    ends_at: float | None
    speed: float

    @property
    def length(self) -> int | None:
        """How many samples there are; None where there is no end."""
        return None if self.ends_at is None else max(0, int((self.ends_at - self.first) // self.step) + 1)

    def moment(self, number: int) -> float:
        """The moment that a sample is of."""
        return self.first + number * self.step

    def due(self, number: int) -> float:
        """The moment to send a sample at; a late one is sent at once, with its own moment all the same."""
        moment = self.moment(number)
        return moment if self.ends_at is None else self.ends_at - (self.ends_at - moment) / self.speed
