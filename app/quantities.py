"""What is measured: units with their bounds and resolution, and the fields of each kind of message. No I/O.

The catalogues below say once which values a heartbeat and a metrics message carry. Decoding, columns and
history read them from here.
"""

from typing import Final, NamedTuple


class Scale(NamedTuple):
    """What a rollup's histogram counts: `buckets` of equal width from `low` to `high`, one below and one above."""

    low: float
    high: float
    buckets: int


class Quantity(NamedTuple):
    """A unit with the bounds within which a value can be true, its resolution, and its histogram's scale.

    Values are kept as whole numbers of steps (a tenth of a percent, a thousandth of a GB): that
    is exact to the resolution, and smaller on disk than floating point (decision 0004).
    """

    unit: str
    low: float
    high: float
    steps_per_unit: int
    scale: Scale | None = None

    def to_steps(self, value: float) -> int | None:
        """The value in whole steps; None where it can't be true."""
        return round(value * self.steps_per_unit) if self.low <= value <= self.high else None


PERCENT: Final = Quantity("%", 0, 100, 10, Scale(0, 100, 20))
CELSIUS: Final = Quantity("°C", -50, 200, 10, Scale(0, 100, 20))
WATT: Final = Quantity("W", 0, 100_000, 10, Scale(0, 1600, 40))
VRAM: Final = Quantity("GB", 0, 1_000_000, 1000)
GIGABYTE: Final = Quantity("GB", 0, 1e12, 1000)
BYTES: Final = Quantity("bytes", 0, 2**63 - 1025, 1)  # the largest float below 2^63
COUNT: Final = Quantity("", 0, 2**31 - 1, 1)
SECONDS: Final = Quantity("s", 0, 1e15, 1)
MEGAHERTZ: Final = Quantity("MHz", 0, 2**15 - 1, 1)
FAN: Final = Quantity("%", 0, 1000, 10)
"""Of the speed that a fan is made for, which NVML says may be exceeded."""
BYTES_PER_SECOND: Final = Quantity("bytes/s", 0, 1e14, 1)
JOULE: Final = Quantity("J", 0, 1e14, 1)
ERRORS: Final = Quantity("", 0, 1e14, 1)


SHARE: Final = Scale(0, 1, 20)
"""The scale of a size that is a part of another: what is counted is its share."""

_COUNTERS: Final = (BYTES, JOULE, ERRORS)
_TOTALS: Final = {f"{of}_{part}": f"{of}_total" for of in ("memory", "disk") for part in ("used", "free")}


class Field(NamedTuple):
    """One value of a sample: its name in the API, its column, its quantity (None for text)."""

    name: str
    column: str
    quantity: Quantity | None

    @property
    def is_counter(self) -> bool:
        """Whether it counts up from the start of the machine, or of its driver."""
        return self.quantity in _COUNTERS

    @property
    def total(self) -> str | None:
        """The column of what this is a part of, where it is one."""
        return _TOTALS.get(self.column)

    @property
    def scale(self) -> Scale | None:
        """The scale of its histogram, in units or in shares of `total`; None where rollups have none."""
        return SHARE if self.total else self.quantity and self.quantity.scale


def _fields(**quantities: Quantity | None) -> tuple[Field, ...]:
    return tuple(Field(camel(column), column, quantity) for column, quantity in quantities.items())


def camel(column: str) -> str:
    """`memory_total` → `memoryTotal`, as msgspec's rename="camel" does."""
    head, *rest = column.split("_")
    return head + "".join(word.title() for word in rest)


HEARTBEAT_FIELDS: Final = _fields(
    status=None, cpu_usage=PERCENT, ram_usage=PERCENT, active_deployments=COUNT, uptime_seconds=SECONDS
)
GPU_HEARTBEAT_FIELDS: Final = _fields(utilization=PERCENT, temperature=CELSIUS)
NODE_METRIC_FIELDS: Final = _fields(
    cpu_usage=PERCENT,
    cpu_cores=COUNT,
    cpu_temperature=CELSIUS,
    memory_total=GIGABYTE,
    memory_used=GIGABYTE,
    memory_free=GIGABYTE,
    memory_usage=PERCENT,
    disk_total=GIGABYTE,
    disk_used=GIGABYTE,
    disk_free=GIGABYTE,
    disk_usage=PERCENT,
    network_bytes_in=BYTES,
    network_bytes_out=BYTES,
)
GPU_METRIC_FIELDS: Final = _fields(
    utilization=PERCENT,
    memory_total=VRAM,
    memory_used=VRAM,
    memory_free=VRAM,
    temperature=CELSIUS,
    power_usage=WATT,
)
GPU_DETAIL_FIELDS: Final = _fields(
    sm_clock=MEGAHERTZ,
    memory_clock=MEGAHERTZ,
    fan_speed=FAN,
    pcie_rx=BYTES_PER_SECOND,
    pcie_tx=BYTES_PER_SECOND,
    energy=JOULE,
    ecc_corrected=ERRORS,
    ecc_uncorrected=ERRORS,
    throttle_reasons=None,
)
THROTTLE_REASONS: Final = (
    *("gpu_idle", "clocks_setting", "power_cap", "hw_slowdown", "sync_boost"),
    *("sw_thermal", "hw_thermal", "hw_power_brake", "display_clocks"),
)
"""NVML's, in the order of its bits; text with commas between them in a sample, empty where nothing throttles."""
