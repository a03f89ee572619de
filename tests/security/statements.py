"""What a request asks the database, statement by statement."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asyncpg.connection import LoggedQuery
from sqlalchemy import event

from app.storage.database import Database

_OF_POOL = ("BEGIN", "COMMIT", "ROLLBACK", "SET", ";")
"""What a connection is opened and handed out with."""


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The texts of all statements from here on, in their order, whichever of the two drivers' words they came by."""
    heard: list[str] = []

    def by_sqlalchemy(_1: Any, _2: Any, statement: str, *_: Any) -> None:
        heard.append(statement)

    def by_driver(query: LoggedQuery) -> None:
        if not query.query.startswith(_OF_POOL):
            heard.append(query.query)

    def watch(connection: Any, *_: Any) -> None:
        connection.driver_connection.add_query_logger(by_driver)

    engine = database._engine.sync_engine
    watched: list[tuple[Any, str, Any]] = [
        (engine, "before_cursor_execute", by_sqlalchemy),
        (engine.pool, "checkout", watch),
    ]
    for each in watched:
        event.listen(*each)
    try:
        yield heard
    finally:
        for each in watched:
            event.remove(*each)
