"""The questions whose answers are timed, through the API."""

from collections.abc import Awaitable, Callable
from statistics import median
from time import perf_counter
from typing import Final, NamedTuple

RUNS: Final = 15
WARM: Final = 3


class Question(NamedTuple):
    """A request; `target` in milliseconds, None where there is none."""

    text: str
    path: str
    target: float | None = None


def questions(node: str, *, is_timescale: bool) -> list[Question]:
    """Those of the issue."""
    gpu = f"/nodes/{node}/gpus/metrics"
    return [
        Question(
            "one node, 8 GPUs, 24 h, 5-minute averages of utilisation",
            f"{gpu}?from=now-24h&interval=5m&fields=utilization",
            15,
        ),
        Question("the same, all six fields", f"{gpu}?from=now-24h&interval=5m"),
        Question(
            "one node, 8 GPUs, 30 days, hourly avg + max + p95",
            f"{gpu}?from=now-30d&interval=1h&agg=avg,max,p95&fields=utilization",
            60,
        ),
        Question(
            "whole fleet, 30 days, hourly average",
            "/fleet/metrics?from=now-30d&interval=1h&fields=utilization",
            60 if is_timescale else 250,
        ),
        Question(
            "top 10 GPUs by average temperature, 7 days",
            "/fleet/metrics?from=now-7d&interval=1d&fields=temperature&groupBy=gpu&top=10",
            60,
        ),
        Question("GET /fleet/summary", "/fleet/summary", 15),
    ]


def growth(node: str) -> list[Question]:
    """The same question over more and more history: what is returned grows, what is stored does not matter."""
    path = f"/nodes/{node}/gpus/metrics?interval=1h&fields=utilization&from=now-"
    return [Question(f"one node, hourly, {days} days", f"{path}{days}d") for days in (1, 7, 30)]


async def timed(ask: Callable[[str], Awaitable[None]], question: Question) -> float:
    """The median of some runs, in milliseconds; the first ones warm caches and do not count."""
    took = []
    for run in range(WARM + RUNS):
        began = perf_counter()
        await ask(question.path)
        if run >= WARM:
            took.append((perf_counter() - began) * 1000)
    return median(took)
