"""A frame that waits to be stored takes no more memory than it took bytes on the wire."""

import tracemalloc

import pytest

from app.protocol import messages
from app.protocol.messages import Heartbeat, Metrics
from app.protocol.samples import sample_of
from app.simulate import frames
from app.simulate.frames import Kind
from app.simulate.machine import Machine
from app.storage.arrivals import Arrival
from app.storage.packing import Packed, pack
from tests.fakes import START

FRAMES = 100


@pytest.mark.parametrize("kind", [Kind.HEARTBEAT, Kind.METRICS])
def test_a_frame_waits_in_no_more_bytes_than_it_came_in(kind: Kind) -> None:
    """By which the buffer is bounded: as objects of Python they are three to four times as many."""
    machine, moment = Machine(1, 8), int(START.timestamp() * 1000)
    data = frames.heartbeat_data(machine, 1) if kind is Kind.HEARTBEAT else frames.metrics_data(machine, moment)
    frame = frames.envelope(kind, "id", moment, data).decode()
    tracemalloc.start()
    try:
        waiting = [_packed(frame, seconds) for seconds in range(FRAMES)]
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(waiting) == FRAMES
    assert taken / FRAMES < len(frame)


def _packed(frame: str, seconds: int) -> Packed:
    message = messages.decode(frame)
    assert isinstance(message, Heartbeat | Metrics)
    sample, _ = sample_of(message)
    return pack(Arrival(seconds, 1, START, sample.kind, sample, tuple(range(1, 9))))
