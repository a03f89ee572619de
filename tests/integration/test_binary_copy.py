"""Rows of every shape as a binary COPY: what the database reads is what was written, and what we read of it again, too."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.storage import tables
from app.storage.binary_copy import Codec, framed, moment, time_of
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
        codec = Codec(tables.heartbeats)
        encoded = [codec.encode_row((key, moment(time), *rest)) for key, time, *rest in rows]
        source: Any = framed(encoded)
        await connection.copy_to_table("copied", source=source, columns=codec.columns, format="binary")
        found = [tuple(record) for record in await connection.fetch("SELECT * FROM copied ORDER BY time")]
    assert found == rows
    again = codec.decode(b"".join(encoded))
    assert [(key, time_of(time), *rest) for key, time, *rest in again] == rows


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
        source: Any = framed([Codec(tables.heartbeats).encode_row((1, moment(START), "online", 1, 2, 3, 4))])
        await connection.execute("CREATE TEMPORARY TABLE copied (LIKE heartbeats) ON COMMIT DROP")
        await connection.copy_to_table("copied", source=source, columns=COLUMNS, format="binary")
        assert await connection.fetchval("SELECT count(*) FROM copied") == 1


SMALL = st.integers(-32_768, 32_767)
GPU_ROWS = st.lists(
    st.tuples(st.integers(0, 2**31 - 1), SMALL, st.integers(-(2**63), 2**63 - 1), st.none() | SMALL, st.none() | SMALL),
    min_size=1,
    max_size=9,
)


@given(GPU_ROWS)
@example([(1, 1, 0, -1, -1)])
@example([(1, 1, 0, 5, None), (1, 2, 0, 5, 6)])
def test_rows_are_the_same_together_and_one_by_one(rows: list[tuple[int, ...]]) -> None:
    """Packed by one call where none of them has NULL, else field by field; read again as they were."""
    codec = Codec(tables.gpu_heartbeats)
    together = codec.encode([*zip(*rows, strict=True)])
    assert together == b"".join(map(codec.encode_row, rows)) == b"".join(map(codec._encode_fields, rows))
    assert codec.decode(together) == rows
    assert codec.picker("gpu", "temperature")(together) == [tuple(row[place] for row in rows) for place in (1, 4)]


@pytest.mark.parametrize("others", [0, 7])
@pytest.mark.parametrize("row", [(1, 1, 0, 32_768, 0), (1, 1, 0, None, 32_768), (2**31, 1, 0, 0, 0)])
def test_what_a_column_cannot_hold_is_an_error_of_the_data(row: tuple[int | None, ...], others: int) -> None:
    """ValueError, by which ingest knows the sample and not the service to be guilty."""
    codec = Codec(tables.gpu_heartbeats)
    with pytest.raises(ValueError, match="does not fit its column"):
        codec.encode([*zip(*[(1, 1, 0, 0, 0)] * others, row, strict=True)])
    with pytest.raises(ValueError, match="does not fit its column"):
        codec.encode_row(row)


def test_a_time_is_microseconds_since_2000() -> None:
    """Before it, too."""
    for time, moments in (
        (datetime(2000, 1, 1, 0, 0, 0, 1000, tzinfo=UTC), 1000),
        (datetime(1999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), -1000),
    ):
        assert moment(time) == moments
        assert time_of(moments) == time
