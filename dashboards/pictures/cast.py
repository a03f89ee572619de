"""The fleet in the pictures: who is in it, and what has happened to each. Times are hours before the present."""

from typing import Final, NamedTuple

from app.simulate.gpu import CARDS, Card

A100, H100, H200, L40S, A10 = CARDS
GPUS: Final = 8


class Outage(NamedTuple):
    """From when to when a node was gone; `end` 0: it still is. `late` says that it reported afterwards what it measured."""

    start: float
    end: float
    late: bool = False


class Part(NamedTuple):
    """A node, and what is particular to it."""

    name: str
    card: Card
    org: str
    zone: str
    demand: float = 1.0
    """How much work there is for it; 1 is a usual node."""
    outages: tuple[Outage, ...] = ()
    status: str = "online"
    """What it is now; offline follows from an outage that lasts."""
    hot_gpu: int | None = None
    """A card whose fan has failed."""
    hoards: bool = False
    """A notebook that somebody forgot: memory is held, nothing is computed."""
    lost_gpu: float | None = None
    """When its last card fell off the bus."""
    skew_ms: int = 0
    behind: float = 0
    """How many minutes old its newest metrics are: its line is too thin for them."""
    disk: float | None = None
    """How full it was a week ago, 0–1; None: as full as others."""


FLAPS: Final = tuple(Outage(start, start - 0.06) for start in (21.5, 17.2, 13.9, 9.1, 6.4, 4.7, 2.2, 0.9))
CAST: Final = (
    *(Part(f"hcm-h100-{n:02}", H100, "atlas-ai", "hcm-1", 1.5) for n in range(1, 6)),
    Part("hcm-h100-06", H100, "atlas-ai", "hcm-1", 1.5, (Outage(16.1, 15.6), Outage(4.2, 4.1)), hot_gpu=4),
    Part("hcm-h100-07", H100, "atlas-ai", "hcm-1", 1.2, outages=(Outage(11.4, 10.2, late=True),)),
    Part("hcm-h100-08", H100, "vision-lab", "hcm-1", lost_gpu=5.3),
    *(Part(f"hcm-h200-{n:02}", H200, "atlas-ai", "hcm-2", 2.0) for n in range(1, 4)),
    *(Part(f"han-a100-{n:02}", A100, "vision-lab", "han-1") for n in range(1, 4)),
    Part("han-a100-04", A100, "vision-lab", "han-1", hoards=True),
    Part("han-a100-05", A100, "vision-lab", "han-1", 0.8, outages=FLAPS),
    Part("han-a100-06", A100, "speech", "han-1", skew_ms=94_000),
    Part("han-a100-07", A100, "speech", "han-1", 0.6, outages=(Outage(0.7, 0),)),
    Part("han-l40s-01", L40S, "speech", "han-2", 0.5),
    Part("han-l40s-02", L40S, "speech", "han-2", 0.5, behind=11),
    Part("han-l40s-03", L40S, "speech", "han-2", 0.4, disk=0.93),
    Part("dad-a10-01", A10, "speech", "dad-1", 0.15),
    Part("dad-a10-02", A10, "speech", "dad-1", 0.05, status="maintenance", outages=(Outage(2.5, 0),)),
    Part("dad-a10-03", A10, "speech", "dad-1", status="installing", outages=(Outage(10_000, 0),)),
)
