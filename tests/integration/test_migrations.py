"""The schema: up, down, up again, and the same as the code believes."""

import pytest
from sqlalchemy import text

from app.errors import StartupError
from app.storage import schema
from app.storage.database import Database
from app.storage.engines.choice import installed_engine


async def names(database: Database) -> set[str]:
    """Every table, view and function in our two schemas."""
    async with database.transaction() as connection:
        rows = await connection.execute(
            text("""
                SELECT nspname || '.' || relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                WHERE nspname IN ('aiwm', 'history') AND relkind IN ('r', 'p', 'v', 'S')
                UNION ALL
                SELECT nspname || '.' || proname FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
                WHERE nspname IN ('aiwm', 'history')
            """)
        )
        return set(rows.scalars())


async def test_the_schema_goes_up_down_and_up_again(empty_database: Database) -> None:
    """`downgrade base` leaves nothing but Alembic's own table, and the way up is free again."""
    await schema.upgrade(empty_database)
    assert await schema.current(empty_database) == schema.head()
    made = await names(empty_database)
    await schema.downgrade(empty_database, "base")
    assert await names(empty_database) == {"aiwm.alembic_version"}
    await schema.upgrade(empty_database)
    assert await names(empty_database) == made


async def test_upgrading_twice_changes_nothing(empty_database: Database) -> None:
    """A second `aiwm db upgrade` is harmless."""
    await schema.upgrade(empty_database)
    await schema.upgrade(empty_database)
    assert await schema.current(empty_database) == schema.head()


async def test_the_database_is_what_the_code_believes(database: Database) -> None:
    """`alembic check`: the migrations make exactly the tables of `tables.py`."""
    await schema.check(database)


async def test_alembic_check_sees_a_difference(database: Database) -> None:
    """A column that only the database has is noticed."""
    async with database.transaction() as connection:
        await connection.execute(text("ALTER TABLE nodes ADD COLUMN surprise text"))
    with pytest.raises(Exception, match="surprise"):
        await schema.check(database)


async def test_an_engine_that_went_away_is_a_start_up_error(database: Database) -> None:
    """What the first migration recorded must still be offered."""
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE installation SET engine = 'other'"))
    with pytest.raises(StartupError, match="other"):
        await installed_engine(database)


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)  # others have chunks
async def test_partitions_that_only_grow_are_spared_vacuum(database: Database) -> None:
    """Those of a day, made before the migration and after it, and no others; downwards they are as they were."""
    await schema.downgrade(database, "0022")
    await _make_partitions(database, "2026-01-01")
    assert not await _partitions(database, SPARED)
    await schema.upgrade(database)
    await _make_partitions(database, "2026-02-01")
    spared, every = await _partitions(database, SPARED), await _partitions(database, "true")
    assert spared == {name for name in every if "_rolled_p" not in name}
    assert {f"gpu_metrics_p2026{month}01" for month in ("01", "02")} < spared
    await schema.downgrade(database, "0022")
    assert not await _partitions(database, SPARED)


SPARED = "'autovacuum_vacuum_insert_threshold=-1' = ANY (reloptions)"


async def _partitions(database: Database, condition: str) -> set[str]:
    async with database.transaction() as connection:
        statement = (
            f"SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE relkind = 'r' AND ({condition})"
        )
        of_ours = f"{statement} AND relnamespace = 'aiwm'::regnamespace"
        return set((await connection.scalars(text(of_ours))).all())


async def _make_partitions(database: Database, day: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(f"SELECT make_partitions('{day}', '{day}')"))
