"""What a storage engine tells of itself: where rows lie, how far rollups are, which jobs it has."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime

import asyncpg
import msgspec


class Part(msgspec.Struct, frozen=True):
    """A chunk or a partition; `relation` may stand in SQL as it is."""

    relation: str
    in_columns: bool
    bytes: int
    row_bytes: int


class Columnstore(msgspec.Struct, frozen=True):
    """The bytes of what was compressed, before and after."""

    before: int
    after: int


class Job(msgspec.Struct, frozen=True, rename="camel"):
    """What the database does by itself. One that is not scheduled is held back."""

    what: str
    table: str
    is_scheduled: bool
    next_start: datetime | None
    last_success: datetime | None
    failures: int


class Holdings(msgspec.Struct, frozen=True):
    """By table and by rollup, under the names that all engines have.

    `columnstore` and `touched` are None where there is no such thing.
    """

    parts: Mapping[str, list[Part]]
    columnstore: Mapping[str, Columnstore] | None
    rolled_until: Mapping[str, datetime | None]
    touched: int | None
    jobs: list[Job]


def by_table(rows: Iterable[asyncpg.Record]) -> Mapping[str, list[Part]]:
    """Parts by the table that they belong to, in the order in which they come."""
    parts: dict[str, list[Part]] = defaultdict(list)
    for row in rows:
        part = Part(row["relation"], row["in_columns"], int(row["bytes"]), int(row["row_bytes"]))
        parts[row["name"].removesuffix("_rolled")].append(part)
    return parts
