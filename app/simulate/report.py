"""The accounts of a simulation: what was sent, what became of it, and the closing table."""

import time
from collections import Counter
from dataclasses import dataclass, field
from math import log
from typing import Final

from rich.table import Table

from app.simulate.frames import Kind

_GROWTH: Final = log(1.02)
_SHORTEST: Final = 1e-4


class Latencies:
    """A histogram of seconds in buckets of 2 %: its size does not grow with the run."""

    __slots__ = ("_buckets", "longest", "total")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.total = 0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._buckets[int(log(max(seconds, _SHORTEST) / _SHORTEST) / _GROWTH)] += 1
        self.total += 1
        self.longest = max(self.longest, seconds)

    def quantile(self, share: float) -> float:
        """Seconds that this share of all does not exceed, to 2 %; 0 where there are none."""
        wanted = share * self.total
        for bucket in sorted(self._buckets):
            wanted -= self._buckets[bucket]
            if wanted <= 0:
                return min(_SHORTEST * 1.02 ** (bucket + 1), self.longest)
        return self.longest


class Tally:
    """Counts of the whole fleet, added to by every worker of this one event loop."""

    def __init__(self) -> None:
        self.sent: Counter[Kind] = Counter()
        self.sent_again = 0
        self.stored = 0
        self.duplicate = 0
        self.rejected = 0
        self.refused = 0
        self.warnings = 0
        self.unsent = 0
        self.reconnects = 0
        self.connected = 0
        self.registered: set[str] = set()
        self.errors: Counter[str] = Counter()
        self.latencies = Latencies()
        self.outstanding = 0

    @property
    def frames(self) -> int:
        """All frames that went out, those sent again too."""
        return self.sent.total() + self.sent_again


@dataclass(frozen=True, slots=True)
class Report:
    """How a simulation went. `seconds` is the time of sending, without creating, connecting and waiting."""

    nodes: int
    gpus: int
    tally: Tally
    seconds: float
    cpu_seconds: float
    span: float = 0.0
    sent_while_walking: int = 0
    ended_early: bool = False

    @property
    def unregistered(self) -> int:
        """Nodes whose registration was never acknowledged."""
        return self.nodes - len(self.tally.registered)

    @property
    def succeeded(self) -> bool:
        """Whether no frame was refused and every one was acknowledged."""
        tally = self.tally
        return not (tally.rejected or tally.refused or tally.outstanding or self.unregistered)

    @property
    def exit_code(self) -> int:
        """0, or 1 if a frame was refused or never acknowledged."""
        return 0 if self.succeeded else 1

    def table(self) -> Table:
        """The closing table."""
        table = Table(title="aiwm simulate", title_justify="left", show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(justify="right")
        for name, value in self._rows():
            table.add_row(name, value)
        return table

    def _rows(self) -> list[tuple[str, str]]:
        tally = self.tally
        rows = [
            ("nodes × GPUs", f"{self.nodes:,} × {self.gpus}"),
            ("registered", f"{len(tally.registered):,}"),
            ("sending", f"{self.seconds:.1f} s" + (", interrupted" if self.ended_early else "")),
        ]
        if self.span:
            rows.append(("past filled in", f"{self.span / 60:,.0f} min"))
        rows += [(f"sent {kind.value}", f"{tally.sent[kind]:,}") for kind in Kind]
        rows += [
            ("sent again", f"{tally.sent_again:,}"),
            ("acknowledged: stored", f"{tally.stored:,}"),
            ("acknowledged: duplicate", f"{tally.duplicate:,}"),
            ("rejected", f"{tally.rejected:,}"),
            ("refused (ERROR)", f"{tally.refused:,}"),
            ("unacknowledged", f"{tally.outstanding:,}"),
            ("reconnects", f"{tally.reconnects:,}"),
            ("frames/s", f"{self.sent_while_walking / self.seconds:,.0f}" if self.seconds else "–"),
            ("ack latency p50 / p95 / p99 / max", _latencies(tally.latencies)),
            ("client CPU a frame", f"{self.cpu_seconds / max(1, self.sent_while_walking) * 1e6:.0f} µs"),
        ]
        # Only where there is something to say: these stay at 0 in a sound run.
        rows += [("acknowledged with warnings", f"{tally.warnings:,}")] if tally.warnings else []
        rows += [("not sent: the walk fell behind", f"{tally.unsent:,}")] if tally.unsent else []
        return rows + [(f"error {code}", f"{count:,}") for code, count in sorted(tally.errors.items())]


def _latencies(latencies: Latencies) -> str:
    if not latencies.total:
        return "–"
    quantiles = [latencies.quantile(share) for share in (0.5, 0.95, 0.99)]
    return " / ".join(f"{seconds * 1000:,.0f}" for seconds in (*quantiles, latencies.longest)) + " ms"


@dataclass(slots=True)
class Stopwatch:
    """Wall and processor time from its making to now, and the frames sent meanwhile."""

    tally: Tally
    started: float = field(default_factory=time.monotonic)
    cpu: float = field(default_factory=time.process_time)
    frames: int = -1

    def __post_init__(self) -> None:
        self.frames = self.tally.frames

    def read(self) -> tuple[float, float, int]:
        """Seconds, processor seconds, frames."""
        return time.monotonic() - self.started, time.process_time() - self.cpu, self.tally.frames - self.frames
