"""docs/sql.md: each of its questions runs, and those that can be computed by hand are answered right."""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.storage.database import Database
from app.storage.engines.base import StorageEngine
from tests.integration.fleet_of_analysts import EVERY, NODES, START, GpuSample, gpu_samples, seed

PAGE: Final = Path(__file__).parents[2] / "docs" / "sql.md"
QUESTIONS: Final = re.findall(r"^\*\*(.+?)[.:]?\*\*.*?```sql\n(.+?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
GAP_START, GAP_END = START + 39 * EVERY, START + 52 * EVERY
BUCKET: Final = 5.0
"""How wide a bucket of % or °C is."""

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
    by_model = grouped(model, lambda _: 0.25)
    busy = grouped(model, lambda s: None if s.utilization is None else s.utilization / 400)
    day = grouped(lambda s: (name(s), f"GPU-{s.node}-{s.gpu}"), lambda s: s.utilization if s.time.day == 22 else None)
    by_hour = grouped(lambda s: s.time.hour, lambda s: s.utilization)
    hot = {node: max(values) for node, values in grouped(name, lambda s: s.temperature).items()}
    costs = {
        whose: len({(s.node, s.gpu, s.time.replace(minute=0)) for s in rows if org(s) == whose})
        for whose in ("acme", "umbrella")
    }
    return {
        "GPU-hours by model": [(m, sum(by_model[m]), sum(busy[m])) for m in ("A100", "H100")],
        "Idle GPUs": sorted(((*k, mean(v)) for k, v in day.items() if mean(v) < 60), key=lambda r: r[2]),
        "Hottest nodes": sorted(hot.items(), key=lambda r: (-r[1], r[0])),
        "Energy in kWh": sorted(energy(name).items()),
        "Utilisation by hour of the day": [(hour, mean(by_hour[hour])) for hour in range(24)],
        "Memory headroom": [(node, 512.0 - 100 - 179) for node, *_ in NODES],
        "Top consumers by organisation": sorted(energy(org).items(), key=lambda r: -r[1]),
        "Bytes a node received": [(node, (89 + 89) * 1_000_000) for node, *_ in NODES],
        "Gaps": [("gpu-02", f"GPU-2-{gpu}", GAP_START, GAP_END) for gpu in (1, 2)],
        "Cost by organisation": [(whose, hours, hours * 2.5) for whose, hours in sorted(costs.items())],
        "Thermal throttling suspects": [("gpu-01", "GPU-1-1", 4)],
        "Who did what": [("ada", "created", 3)],
    }


def test_the_page_has_twenty_questions() -> None:
    """As promised, each with its SQL."""
    assert len(QUESTIONS) == 20
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
            assert abs(found[m] - exact) <= BUCKET, (m, percent)
            if percent in {0, 100}:
                assert found[m] == exact
    async with database.transaction() as connection:
        nothing = "SELECT utilization_avg, utilization_hist FROM history.gpu_metrics_1d WHERE device_id = 'GPU-3-2'"
        assert [tuple(row) for row in await connection.execute(text(nothing))] == [(None, None)] * 2
        assert await connection.scalar(text("SELECT history.quantile(NULL, 0.5)")) is None
    with pytest.raises(Exception, match=r"A quantile lies between 0 and 1: 1\.5 does not"):
        async with database.transaction() as connection:
            await connection.execute(text("SELECT history.quantile(NULL, 1.5)"))


@pytest.mark.parametrize("width", ["5m", "1h", "1d"])
async def test_rollups_are_what_was_measured(database: Database, engine: StorageEngine, width: str) -> None:
    """Mean, least, most and last of each bucket; a gap has no rows, what has no sensor is NULL."""
    await seed(database, engine)
    length = {"5m": timedelta(minutes=5), "1h": timedelta(hours=1), "1d": timedelta(days=1)}[width]
    buckets: dict[Any, list[GpuSample]] = defaultdict(list)
    for sample in gpu_samples():
        start = START + (sample.time - START) // length * length
        buckets[start, f"GPU-{sample.node}-{sample.gpu}"].append(sample)
    fields = ("utilization", "memory_total", "memory_used", "memory_free", "temperature", "power_usage")
    parts = ", ".join(f"{field}_{part}" for field in fields for part in ("avg", "min", "max", "last"))
    async with database.transaction() as connection:
        rows = await connection.execute(
            text(f"SELECT time, device_id, samples, {parts} FROM history.gpu_metrics_{width}")
        )
        found = {(row[0], row[1]): tuple(row[2:]) for row in rows}
    assert found.keys() == buckets.keys()
    for key, samples in buckets.items():
        wanted: list[float | None] = [len(samples)]
        for field in fields:
            values = [value for sample in samples if (value := getattr(sample, field)) is not None]
            wanted += [mean(values), min(values), max(values), values[-1]] if values else [None] * 4
        assert found[key] == pytest.approx(tuple(wanted)), key


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60), st.floats(0, 1))
async def test_any_quantile_is_off_by_one_bucket_at_most(database: Database, steps: list[int], q: float) -> None:
    """Whatever was measured: the value at that rank lies in the bucket that is answered from."""
    values = sorted(step / 10 for step in steps)
    counts = [0] * 22
    for value in values:
        counts[int(value // 5) + 1] += 1
    query = text("""
        SELECT history.quantile(ROW(0, 100, CAST(:counts AS bigint[]), CAST(:least AS float8), CAST(:most AS float8)), :q)
    """)
    async with database.transaction() as connection:
        given_ = {"counts": counts, "least": values[0], "most": values[-1], "q": q}
        found = await connection.scalar(query, given_)
    exact = values[max(0, math.ceil(q * len(values)) - 1)]
    assert abs(found - exact) <= BUCKET + 1e-9


async def test_sizes_of_different_totals_merge(database: Database) -> None:
    """The smaller scale goes into the larger one, in either order; other quantities do not mix."""
    small, large = "(0, 20, '{0,10,0,0,0,0}', 1, 4)", "(0, 80, '{0,0,0,0,10,0}', 61, 79)"
    for order in (f"{small}, {large}", f"{large}, {small}"):
        query = f"""
            SELECT (merged).high, (merged).counts, history.quantile(merged, 0), history.quantile(merged, 1)
            FROM (SELECT history.merge(ROW(a, b, c::bigint[], d, e)::history.histogram) AS merged
                  FROM (VALUES {order}) AS v (a, b, c, d, e)) AS m
        """
        async with database.transaction() as connection:
            assert tuple((await connection.execute(text(query))).one()) == (80, [0, 10, 0, 0, 10, 0], 1, 79)
    with pytest.raises(Exception, match="Only histograms of the same quantity can be merged"):
        async with database.transaction() as connection:
            await connection.execute(
                text("SELECT history.merge_step((0, 1, '{0,1,0}', 0, 1), (0, 1, '{0,1,1,0}', 0, 1))")
            )
