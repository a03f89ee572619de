"""What this process counts of itself: numbers by the names under which Prometheus reads them. No I/O.

A meter is a key in one dictionary: counting is one addition, and processes are added up key by key.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, NamedTuple

import msgspec


class Meter(NamedTuple):
    """A metric: its name, what it means, and how processes are added up (ages: the greatest)."""

    name: str
    help: str
    type: Literal["counter", "gauge", "histogram"] = "counter"
    is_greatest: bool = False

    def key(self, **labels: str) -> str:
        """The key under which it counts for these labels, all of them words of this program."""
        written = ",".join(f'{name}="{value}"' for name, value in labels.items())
        return f"{self.name}{{{written}}}"


class Histogram:
    """Counts values by upper bounds, as Prometheus wants it."""

    def __init__(self, meter: Meter, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._keys = [f'{meter.name}_bucket{{le="{bound:g}"}}' for bound in bounds]
        self._keys.append(f'{meter.name}_bucket{{le="+Inf"}}')
        self._meter = meter

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def values(self) -> dict[str, float]:
        """Cumulative counts, the sum, and how many values there were."""
        found: dict[str, float] = {}
        below = 0
        for key, count in zip(self._keys, self._counts, strict=True):
            below += count
            found[key] = below
        return found | {f"{self._meter.name}_sum{{}}": self._sum, f"{self._meter.name}_count{{}}": below}


SOCKETS: Final = Meter("aiwm_websocket_connections", "Sockets that are open now, admitted or not yet.", "gauge")
MEMBERS: Final = Meter("aiwm_nodes_connected", "Nodes that are connected and admitted now.", "gauge")
ACCEPTED: Final = Meter("aiwm_websocket_accepted_total", "Sockets that were opened.")
REFUSED: Final = Meter("aiwm_websocket_refused_total", "Connections that were not admitted, by error code.")
CLOSED: Final = Meter("aiwm_websocket_closed_total", "Sockets that ended: by the worker, or by the close code of ours.")
FRAMES: Final = Meter("aiwm_frames_received_total", "Frames of admitted workers, by what they were.")
FRAME_BYTES: Final = Meter("aiwm_frame_received_bytes_total", "Bytes of those frames.")
REJECTED: Final = Meter("aiwm_samples_rejected_total", "Samples that were rejected, by error code.")
WARNINGS: Final = Meter("aiwm_sample_warnings_total", "Measurements that can't be true, and clocks that are off.")
STORED: Final = Meter("aiwm_samples_total", "Samples that were stored, or were there already.")
ROWS: Final = Meter("aiwm_rows_stored_total", "Rows that were sent to the sample tables, by table.")
FLUSH_SECONDS: Final = Meter("aiwm_flush_duration_seconds", "How long a batch took to be stored.", "histogram")
FLUSH_ROWS: Final = Meter("aiwm_flush_rows", "Rows of a batch.", "histogram")
RETRIES: Final = Meter("aiwm_flush_retries_total", "Batches that had to be tried again.")
ACK_SECONDS: Final = Meter(
    "aiwm_acknowledgement_seconds", "From a frame's arrival to the commit that stored it.", "histogram"
)
BUFFER_FRAMES: Final = Meter("aiwm_buffer_frames", "Frames that wait to be stored.", "gauge")
BUFFER_BYTES: Final = Meter("aiwm_buffer_bytes", "Bytes of those frames, as they came.", "gauge")
BUFFER_AGE: Final = Meter("aiwm_buffer_age_seconds", "How long the oldest of them has been waiting.", "gauge", True)
POOL: Final = Meter("aiwm_database_connections", "Connections to the database, by whether they are in use.", "gauge")
LOOP_LAG: Final = Meter(
    "aiwm_event_loop_lag_seconds", "The longest that the event loop was late in the last ten seconds.", "gauge", True
)
CPU: Final = Meter("aiwm_process_cpu_seconds_total", "Processor time, user and system.")
MEMORY: Final = Meter("aiwm_process_resident_memory_bytes", "Memory that is in use.", "gauge")
PROCESSES: Final = Meter("aiwm_processes", "Gateway processes that these numbers are of.", "gauge")

METERS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Meter))
_GREATEST: Final = {meter.key() for meter in METERS if meter.is_greatest}

Values = dict[str, float]


class Meters:
    """One process's numbers. What is true only now is asked of `gauges` when somebody reads."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.flush_seconds = Histogram(FLUSH_SECONDS, (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10))
        self.flush_rows = Histogram(FLUSH_ROWS, (10, 100, 1000, 5000, 10_000, 20_000, 50_000))
        self.ack_seconds = Histogram(ACK_SECONDS, (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60, 300))
        self.gauges: list[Callable[[], Mapping[str, float]]] = []

    def read(self) -> Values:
        """All numbers by their keys."""
        found: Values = dict(self.counts)
        for histogram in (self.flush_seconds, self.flush_rows, self.ack_seconds):
            found |= histogram.values()
        for gauge in self.gauges:
            found |= gauge()
        return found | {PROCESSES.key(): 1}


def added_up(processes: Iterable[Values]) -> Values:
    """The numbers of several processes as one's."""
    whole: Values = {}
    for values in processes:
        for key, value in values.items():
            whole[key] = max(whole.get(key, 0), value) if key in _GREATEST else whole.get(key, 0) + value
    return whole


def encode(values: Values) -> bytes:
    """For another process."""
    return msgspec.msgpack.encode(values)


def decode(encoded: bytes) -> Values:
    """The numbers of another process. Raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(encoded, type=Values)
