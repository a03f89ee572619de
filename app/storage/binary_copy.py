"""Rows as PostgreSQL's binary COPY has them: encoded at less than half of what the driver takes for it, and read again.

The format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from sqlalchemy import Table

Row = tuple[Any, ...]

_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_FORMATS: Final = {"SMALLINT": "h", "INTEGER": "i", "BIGINT": "q", "DATETIME": "q"}
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


def moment(time: datetime) -> int:
    """A time as a column of times has it: microseconds since 2000."""
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def time_of(moment: int) -> datetime:
    """The time that such a column has, in UTC."""
    return _EPOCH + timedelta(microseconds=moment)


def framed(rows: Iterable[bytes]) -> memoryview:
    """Encoded rows as COPY reads them, from its head to its end."""
    # The driver takes bytes for a path, and would read a file in a thread; a view it sends as it is.
    return memoryview(b"".join([_HEAD, *rows, _END]))


class Codec:
    """Of one table, whose columns are whole numbers, times (as `moment` gives them) and text."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.columns = [column.name for column in table.columns]
        formats = [_FORMATS.get(str(column.type)) for column in table.columns]
        self._fields = [None if each is None else struct.Struct(f"!i{each}") for each in formats]
        # Rows without NULL and text are one call: of each how many columns, then of each column its size and its value.
        self._format = None if None in formats else "h" + "".join(f"i{each}" for each in formats)
        self._row = None if self._format is None else struct.Struct(f"!{self._format}")
        self._values: list[Any] = [len(formats)]
        for field in self._fields:
            self._values += (0 if field is None else field.size - 4, None)
        self._layout = cache(self._rows)

    def encode(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """Rows, given by their columns, of which none is empty. Raises ValueError for a value that its column can't hold."""
        if self._format is not None:
            layout, template = self._layout(len(columns[0]))
            values = template.copy()
            for place, column in enumerate(columns):
                values[2 + 2 * place :: len(self._values)] = column
            try:
                return layout.pack(*values)
            except struct.error:
                pass  # NULL, or a value that does not fit: field by field it is seen which
        return b"".join(map(self._encode_fields, zip(*columns, strict=True)))

    def encode_row(self, row: Row) -> bytes:
        """One row. Raises ValueError for a value that its column can't hold."""
        if self._row is not None:
            values = self._values.copy()
            values[2::2] = row
            try:
                return self._row.pack(*values)
            except struct.error:
                pass
        return self._encode_fields(row)

    def _rows(self, count: int) -> tuple[struct.Struct, list[Any]]:
        """So many rows by one call: that halves what each takes."""
        return struct.Struct("!" + (self._format or "") * count), self._values * count

    def _encode_fields(self, row: Row) -> bytes:
        parts = [len(row).to_bytes(2, "big")]
        try:
            for value, field in zip(row, self._fields, strict=True):
                if value is None:
                    parts.append(_NULL)
                elif field is None:
                    text = value.encode()
                    parts += (len(text).to_bytes(4, "big"), text)
                else:
                    parts.append(field.pack(field.size - 4, value))
        except struct.error as error:
            raise ValueError(f"a value of {row} does not fit its column: {error}") from error
        return b"".join(parts)

    def decode(self, encoded: bytes) -> list[Row]:
        """What was encoded."""
        if self._row is not None and _NULL not in encoded:
            return [row[2::2] for row in self._row.iter_unpack(encoded)]
        rows, start = [], 0
        while start < len(encoded):
            row, start = self._decode_row(encoded, start + 2)
            rows.append(row)
        return rows

    def picker(self, *names: str) -> Callable[[bytes], list[tuple[Any, ...]]]:
        """What reads some columns of encoded rows, of which there is one at least: a tuple each, as the table has them in order."""
        places = [place for place, name in enumerate(self.columns) if name in names]
        columns = [
            "" if field is None else f"4x{field.format[2:]}" if place in places else f"{field.size}x"
            for place, field in enumerate(self._fields)
        ]
        layout = None if self._row is None else struct.Struct("!2x" + "".join(columns))

        def picked(encoded: bytes) -> list[tuple[Any, ...]]:
            if layout is None or _NULL in encoded:
                return [
                    column for place, column in enumerate(zip(*self.decode(encoded), strict=True)) if place in places
                ]
            return [*zip(*layout.iter_unpack(encoded), strict=True)]

        return picked

    def _decode_row(self, encoded: bytes, start: int) -> tuple[Row, int]:
        """The row whose columns begin here, and where it ends."""
        row: list[Any] = []
        for field in self._fields:
            size = int.from_bytes(encoded[start : start + 4], "big", signed=True)
            if size < 0:
                row.append(None)
            elif field is None:
                row.append(encoded[start + 4 : start + 4 + size].decode())
            else:
                row.append(field.unpack_from(encoded, start)[1])
            start += 4 + max(size, 0)
        return tuple(row), start
