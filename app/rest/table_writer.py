"""Tables as CSV, Parquet or Arrow's IPC stream, by pyarrow, which comes in with this module."""

from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa
from pyarrow import compute, ipc
from pyarrow.csv import CSVWriter
from pyarrow.parquet import ParquetWriter

from app.domain.exports import TIME, Column, Rows
from app.rest.format import Format

_TYPES: Final = {TIME: pa.timestamp("ms", tz="UTC"), str: pa.string(), int: pa.int64(), float: pa.float64()}
_ORDER: Final = ("time", "node_id", "device_id", "gpu_model", "role", "org_id")
_WRITERS: Final[dict[Format, Callable[..., Any]]] = {
    Format.CSV: CSVWriter,
    Format.PARQUET: lambda sink, schema: ParquetWriter(sink, schema, compression="zstd"),
    Format.ARROW: ipc.new_stream,
}


class TableWriter:
    """The writer of one file. It gives out what it has written, and keeps nothing of it."""

    def __init__(self, columns: tuple[Column, ...], format_: Format) -> None:
        self._schema = pa.schema([pa.field(column.name, _TYPES[column.type]) for column in columns])
        self._is_text = format_ is Format.CSV
        self._sink = _Sink()
        schema = self._schema.set(0, pa.field("time", pa.string())) if self._is_text else self._schema
        self._writer = _WRITERS[format_](pa.PythonFile(self._sink, mode="w"), schema)

    def write(self, rows: Rows) -> bytes:
        """What these rows, in the order of time, add to the file; may be nothing."""
        found = pa.table(rows, schema=self._schema)
        if found.num_rows:
            keys = [(name, "ascending", "at_start") for name in _ORDER if name in found.column_names]
            found = found.take(compute.sort_indices(found, keys))
            if self._is_text:
                found = found.set_column(0, "time", compute.strftime(found["time"], format="%Y-%m-%dT%H:%M:%SZ"))
            self._writer.write_table(found)
        return self._sink.take()

    def end(self) -> bytes:
        """The end of the file."""
        self._writer.close()
        return self._sink.take()


class _Sink:
    """A file that is handed out as it grows."""

    closed = False

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0

    def write(self, chunk: bytes) -> int:
        """As files do; the chunk is the caller's own memory."""
        self._chunks.append(bytes(chunk))
        self._size += len(chunk)
        return len(chunk)

    def tell(self) -> int:
        """How much has been written in all."""
        return self._size

    def flush(self) -> None:
        """As files do."""

    def close(self) -> None:
        """As files do; what is not yet taken stays."""

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._chunks)
        self._chunks.clear()
        return taken
