"""Telemetry frames on their way into the tables, and what becomes of them."""

from datetime import datetime
from enum import StrEnum

import msgspec

from app.model import Sample, SampleKind


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A telemetry frame on its way in.

    `gpus` are the numbers of the sample's GPUs, in its order. `sample` is None for a sign of life
    whose sample was rejected. `skew_ms` is by how much the worker's clock is behind.
    """

    node_key: int
    epoch: int
    received_at: datetime
    kind: SampleKind
    sample: Sample | None
    gpus: tuple[int, ...]
    skew_ms: int | None = None


class Outcome(StrEnum):
    """What became of a sample: durable now, or durable already before."""

    STORED = "stored"
    DUPLICATE = "duplicate"
