"""docs/sql.md: each of its questions runs, and those that can be computed by hand are answered right."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import text

from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from tests.integration.fleet_of_analysts import EVERY, NODES, START, GpuSample, gpu_samples, seed

PAGE: Final = Path(__file__).parents[2] / "docs" / "sql.md"
QUESTIONS: Final = re.findall(r"^\*\*(.+?)[.:]?\*\*.*?```sql\n(.+?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
GAP_START, GAP_END = START + 39 * EVERY, START + 52 * EVERY
BUCKET_CELSIUS: Final = 5.0  # a bucket of the temperature's histogram, °C

Rows = list[tuple[Any, ...]]


def grouped(key: Callable[[GpuSample], Any], value: Callable[[GpuSample], float | None]) -> dict[Any, list[float]]:
    """The values that are not None, by key."""
    groups: dict[Any, list[float]] = defaultdict(list)
    for sample in gpu_samples():
        if (found := value(sample)) is not None:
            groups[key(sample)].append(found)
    return groups


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean."""
    listed = list(values)
    return sum(listed) / len(listed)


def name(sample: GpuSample) -> str:
    """Its node's name."""
    return NODES[sample.node - 1][0]


def org(sample: GpuSample) -> str:
    """Its node's organisation."""
    return NODES[sample.node - 1][1]


def model(sample: GpuSample) -> str:
    """Its model."""
    return NODES[sample.node - 1][2]


def energy(of: Callable[[GpuSample], str]) -> dict[str, float]:
    """kWh: the mean watts of each GPU and hour."""
    hours = grouped(lambda s: (of(s), s.node, s.gpu, s.time.replace(minute=0)), lambda s: s.power_usage)
    sums: dict[str, float] = defaultdict(float)
    for (whose, *_), watts in hours.items():
        sums[whose] += mean(watts) / 1000
    return sums


def expected() -> dict[str, Rows]:
    """Answers by plain computation over the samples."""
    rows = list(gpu_samples())
    by_model = grouped(model, lambda s: 0.25)
    busy = grouped(model, lambda s: None if s.utilization is None else s.utilization / 400)
    day = grouped(lambda s: (name(s), f"GPU-{s.node}-{s.gpu}"), lambda s: s.utilization if s.time.day == 22 else None)  # noqa: PLR2004
    by_hour = grouped(lambda s: s.time.hour, lambda s: s.utilization)
    hot = {node: max(values) for node, values in grouped(name, lambda s: s.temperature).items()}
    costs = {whose: len({(s.node, s.gpu, s.time.replace(minute=0)) for s in rows if org(s) == whose}) for whose in
             ("acme", "umbrella")}
    return {
        "GPU-hours by model": [(m, sum(by_model[m]), sum(busy[m])) for m in ("A100", "H100")],
        "Idle GPUs": sorted(((*k, mean(v)) for k, v in day.items() if mean(v) < 60), key=lambda r: r[2]),  # noqa: PLR2004
        "Hottest nodes": sorted(hot.items(), key=lambda r: (-r[1], r[0])),
        "Energy in kWh": sorted(energy(name).items()),
        "Utilisation by hour of the day": [(hour, mean(by_hour[hour])) for hour in range(24)],
        "Memory headroom": [(node, 512.0 - 100 - 179) for node, *_ in NODES],
        "Top consumers by organisation": sorted(energy(org).items(), key=lambda r: -r[1]),
        "Bytes a node received": [(node, (89 + 89) * 1_000_000) for node, *_ in NODES],
        "Gaps": [("gpu-02", f"GPU-2-{gpu}", GAP_START, GAP_END) for gpu in (1, 2)],
        "Cost by organisation": [(whose, hours, hours * 2.5) for whose, hours in sorted(costs.items())],
        "Who did what": [("ada", "created", 3)],
    }


def test_the_page_has_twenty_questions() -> None:
    """As promised, each with its SQL."""
    assert len(QUESTIONS) == 20  # noqa: PLR2004
    assert set(expected()) <= {question for question, _ in QUESTIONS}


async def test_every_question_of_the_page_is_answered(database: Database, engine: StorageEngine) -> None:
    """By rows; and rightly, where a plain computation says what is right."""
    await seed(database, engine)
    right = expected()
    for question, query in QUESTIONS:
        async with database.transaction() as connection:
            found = [tuple(row) for row in await connection.execute(text(query))]
        assert found, question
        if question not in right:
            continue
        assert len(found) == len(right[question]), (question, found)
        for row, wanted in zip(found, right[question], strict=True):
            for value, other in zip(row, wanted, strict=True):
                same = value == other if isinstance(other, str) or hasattr(other, "year") else None
                assert same if same is not None else float(value) == pytest.approx(other), (question, row, wanted)


async def test_a_percentile_is_off_by_one_bucket_at_most(database: Database, engine: StorageEngine) -> None:
    """From merged hours, for every share; and the ends are the ends."""
    await seed(database, engine)
    values = {m: sorted(v) for m, v in grouped(model, lambda s: s.temperature).items()}
    query = text("""
        SELECT gpu_model, history.quantile(history.merge(temperature_hist), :q)
        FROM history.gpu_metrics_1h GROUP BY gpu_model
    """)
    for percent in range(0, 101, 5):
        async with database.transaction() as connection:
            found = {row[0]: row[1] for row in await connection.execute(query, {"q": percent / 100})}
        for m, listed in values.items():
            exact = listed[max(0, -(-percent * len(listed) // 100) - 1)]
            assert abs(found[m] - exact) <= BUCKET_CELSIUS, (m, percent)
            if percent in {0, 100}:
                assert found[m] == exact
    async with database.transaction() as connection:
        nothing = "SELECT utilization_avg, utilization_hist FROM history.gpu_metrics_1d WHERE device_id = 'GPU-3-2'"
        assert {tuple(row) for row in await connection.execute(text(nothing))} == {(None, None)}
        assert await connection.scalar(text("SELECT history.quantile(NULL, 0.5)")) is None
    with pytest.raises(Exception, match="A quantile lies between 0 and 1: 1.5 does not"):
        async with database.transaction() as connection:
            await connection.execute(text("SELECT history.quantile(NULL, 1.5)"))
