"""A frame as it waits to be stored: its rows as COPY reads them, a fourth to a third of what its sample takes in memory."""

from collections.abc import Callable
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

import msgspec

from app.model import Sample, SampleKind
from app.quantities import HEARTBEAT_FIELDS, NODE_METRIC_FIELDS, Field
from app.storage import tables
from app.storage.arrivals import Arrival
from app.storage.binary_copy import Codec, moment

CODECS: Final = {
    SampleKind.HEARTBEAT: (Codec(tables.heartbeats), Codec(tables.gpu_heartbeats)),
    SampleKind.METRICS: (Codec(tables.node_metrics), Codec(tables.gpu_metrics)),
}
DETAILS: Final = Codec(tables.gpu_details)


class Packed(msgspec.Struct, frozen=True, gc=False):
    """An arrival, encoded; `time` is its sample's, None where that was rejected, and there are no rows then.

    `node_row`, `gpu_rows` and `detail_rows` are those of one table each, `gpus` and `details` how many the latter are.
    `shown` is what the node's present state shows of it: see `SHOWN`.
    """

    node_key: int
    epoch: int
    received_at: datetime
    kind: SampleKind
    skew_ms: int | None
    time: datetime | None = None
    shown: tuple[Any, ...] = ()
    node_row: bytes = b""
    gpu_rows: bytes = b""
    detail_rows: bytes = b""
    gpus: int = 0
    details: int = 0

    @property
    def rows(self) -> int:
        """How many rows it is stored in; a mere sign of life weighs as much as one."""
        return 1 + self.gpus + self.details

    def without_sample(self) -> "Packed":
        """The sign of life that is left where the sample can't be stored."""
        return Packed(self.node_key, self.epoch, self.received_at, self.kind, self.skew_ms)


def _picked(fields: tuple[Field, ...], *columns: str) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    places = [field.column for field in fields].index
    # A single one is cut out, since `itemgetter` would give it without its tuple.
    return itemgetter(*map(places, columns) if columns[1:] else [slice(places(columns[0]), places(columns[0]) + 1)])


SHOWN: Final = {
    SampleKind.HEARTBEAT: _picked(HEARTBEAT_FIELDS, "cpu_usage", "ram_usage", "uptime_seconds"),
    SampleKind.METRICS: _picked(NODE_METRIC_FIELDS, "memory_free"),
}


def pack(arrival: Arrival) -> Packed:
    """Encode an arrival. Raises ValueError for a value that its column can't hold."""
    sample, key = arrival.sample, arrival.node_key
    if sample is None:
        return Packed(key, arrival.epoch, arrival.received_at, arrival.kind, arrival.skew_ms)
    time, numbers = moment(sample.time), arrival.gpus
    node, gpu = CODECS[sample.kind]
    return Packed(
        key,
        arrival.epoch,
        arrival.received_at,
        arrival.kind,
        arrival.skew_ms,
        sample.time,
        SHOWN[sample.kind](sample.values),
        node.encode_row((key, time, *sample.values)),
        _gpu_rows(gpu, key, time, numbers, sample) if numbers else b"",
        b"".join([DETAILS.encode_row((key, numbers[each.gpu], time, *each.values)) for each in sample.details]),
        len(numbers),
        len(sample.details),
    )


def _gpu_rows(codec: Codec, key: int, time: int, numbers: tuple[int, ...], sample: Sample) -> bytes:
    count = len(numbers)
    readings = zip(*[reading.values for reading in sample.gpus], strict=True)
    return codec.encode([[key] * count, numbers, [time] * count, *readings])
