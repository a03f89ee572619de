"""Rows of every shape as a binary COPY: what the database reads is what was written."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage import tables
from app.storage.binary_copy import BLOCK, Encoder, moment
from app.storage.database import Database
from tests.databases import WITH_ROOM
from tests.fakes import START

COLUMNS = [column.name for column in tables.heartbeats.columns]


@pytest.mark.parametrize("server", WITH_ROOM, indirect=True)
async def test_numbers_times_text_and_null_come_back_as_they_were(database: Database) -> None:
    """Each column's ends included, and NULL in every place where it may be."""
    whole = ("online", 32_767, 0, 2**31 - 1, 2**63 - 1)
    values: list[tuple[Any, ...]] = [whole, ("äöü \\N \t", -32_768, -1, -(2**31), -(2**63)), (None,) * len(whole)]
    values += [(*whole[:place], None, *whole[place + 1 :]) for place in range(len(whole))]
    rows = [(1, START + timedelta(milliseconds=place), *each) for place, each in enumerate(values)]
    async with database.driver_transaction() as connection:
        await connection.execute("CREATE TEMPORARY TABLE copied (LIKE heartbeats) ON COMMIT DROP")
        for column in COLUMNS[2:]:
            await connection.execute(f"ALTER TABLE copied ALTER {column} DROP NOT NULL")
        encoded: Any = Encoder(tables.heartbeats).encode([(key, moment(time), *rest) for key, time, *rest in rows])
        await connection.copy_to_table("copied", source=encoded, columns=COLUMNS, format="binary")
        found = [tuple(record) for record in await connection.fetch("SELECT * FROM copied ORDER BY time")]
    assert found == rows


class NoThreads(ThreadPoolExecutor):
    """Of a process whose event loop is its only thread."""

    def submit(self, *_: Any, **__: Any) -> Any:
        """Raise."""
        raise RuntimeError("a thread was asked for")


@pytest.mark.parametrize("server", WITH_ROOM, indirect=True)
async def test_rows_go_to_the_database_without_a_thread(database: Database) -> None:
    """Of a file asyncpg reads piece by piece in one, and a batch has several tables."""
    async with database.driver_transaction() as connection:
        asyncio.get_running_loop().set_default_executor(NoThreads())
        encoded: Any = Encoder(tables.heartbeats).encode([(1, moment(START), "online", 1, 2, 3, 4)])
        await connection.execute("CREATE TEMPORARY TABLE copied (LIKE heartbeats) ON COMMIT DROP")
        await connection.copy_to_table("copied", source=encoded, columns=COLUMNS, format="binary")
        assert await connection.fetchval("SELECT count(*) FROM copied") == 1


@given(
    st.integers(0, 3 * BLOCK),
    st.randoms(use_true_random=False),
    st.dictionaries(st.integers(0, 3 * BLOCK), st.integers(3, 4), max_size=2),
)
def test_rows_are_the_same_together_and_one_by_one(count: int, random: Random, nulls: dict[int, int]) -> None:
    """Those without NULL are packed many at once, what is left of them one at once, any other field by field."""
    encoder = Encoder(tables.gpu_heartbeats)
    rows: list[list[int | None]] = [
        [7, place, moment(START), *(random.randint(-32_768, 32_767) for _ in range(2))] for place in range(count)
    ]
    for place, column in nulls.items():
        if place < count:
            rows[place][column] = None
    nothing, one_by_one = encoder.encode([]), b"".join(map(encoder._field_by_field, rows))
    assert encoder.encode(rows) == b"".join([nothing[:19], one_by_one, nothing[19:]])


@pytest.mark.parametrize("others", [0, BLOCK - 1])
@pytest.mark.parametrize("row", [(1, 1, 0, 32_768, 0), (1, 1, 0, None, 32_768), (2**31, 1, 0, 0, 0)])
def test_what_a_column_cannot_hold_is_an_error_of_the_data(row: tuple[int | None, ...], others: int) -> None:
    """ValueError, by which ingest knows the sample and not the service to be guilty."""
    with pytest.raises(ValueError, match="does not fit its column"):
        Encoder(tables.gpu_heartbeats).encode([(1, 1, 0, 0, 0)] * others + [row])


def test_a_time_is_microseconds_since_2000() -> None:
    """Before it, too."""
    assert moment(datetime(2000, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)) == 1000
    assert moment(datetime(1999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)) == -1000
