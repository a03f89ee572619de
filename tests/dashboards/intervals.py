"""Lengths of time as Grafana reads, rounds and writes them."""

import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

_MILLISECOND: Final = timedelta(milliseconds=1)
_DAY: Final = timedelta(days=1)


class IntervalError(Exception):
    """The text is no length of time."""


_DATE_UNIT: Final = re.compile(r"(\d+)([dwMy])", flags=re.ASCII)
_GO_DURATION: Final = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+", flags=re.ASCII)
_GO_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", flags=re.ASCII)
_MICROSECONDS: Final = {
    "ns": Decimal("0.001"),
    "us": Decimal(1),
    "µs": Decimal(1),
    "μs": Decimal(1),
    "ms": Decimal(1000),
    "s": Decimal(10**6),
    "m": Decimal(60 * 10**6),
    "h": Decimal(3600 * 10**6),
}


def parse_interval(text: str, now: datetime) -> timedelta:
    """`1h30m` as Go reads it, or `2d`, `1w`, `1M`, `1y` by the calendar from now on. Raises IntervalError."""
    if match := _DATE_UNIT.fullmatch(text):
        number, unit = int(match[1]), match[2]
        if unit in "dw":
            return number * (7 if unit == "w" else 1) * _DAY
        return _months_later(now, number * (12 if unit == "y" else 1)) - now
    if text.lstrip("+-") == "0" and len(text) <= 2:
        return timedelta()
    if not _GO_DURATION.fullmatch(text):
        raise IntervalError(f"{text!r} is neither a Go duration nor a number of d, w, M or y")
    length = sum((Decimal(number) * _MICROSECONDS[unit] for number, unit in _GO_PART.findall(text)), Decimal(0))
    return timedelta(microseconds=int(length)) * (-1 if text.startswith("-") else 1)


def _months_later(moment: datetime, months: int) -> datetime:
    """A day that the month does not have runs over into the next, as in Go."""
    years, month = divmod(moment.month - 1 + months, 12)
    first = moment.replace(year=moment.year + years, month=month + 1, day=1)
    return first + (moment.day - 1) * _DAY


# Up to (not including) so many milliseconds for a point, the interval is that many.
_ROUNDED: Final = (
    *((10, 1), (15, 10), (35, 20), (75, 50), (150, 100), (350, 200), (750, 500)),
    *((1_500, 1_000), (3_500, 2_000), (7_500, 5_000), (12_500, 10_000), (17_500, 15_000), (25_000, 20_000)),
    *((45_000, 30_000), (90_000, 60_000), (210_000, 120_000), (450_000, 300_000), (750_000, 600_000)),
    *((1_050_000, 900_000), (1_500_000, 1_200_000), (2_700_000, 1_800_000), (5_400_000, 3_600_000)),
    *((9_000_000, 7_200_000), (16_200_000, 10_800_000), (32_400_000, 21_600_000), (86_400_000, 43_200_000)),
    *((604_800_000, 86_400_000), (1_814_400_000, 604_800_000), (3_628_800_000, 2_592_000_000)),
)
_YEAR: Final = 365 * _DAY


def interval_of(length: timedelta, points: int, least: timedelta) -> timedelta:
    """`$__interval` of a range of this length in a panel of so many points, and never less than `least`."""
    wanted = length / points / _MILLISECOND
    rounded = next((ms * _MILLISECOND for below, ms in _ROUNDED if wanted < below), _YEAR)
    return max(rounded, least)


_BROWSER_UNITS: Final = (
    ("y", _YEAR),
    ("d", _DAY),
    ("h", timedelta(hours=1)),
    ("m", timedelta(minutes=1)),
    ("s", timedelta(seconds=1)),
    ("ms", _MILLISECOND),
)


def format_in_browser(interval: timedelta) -> str:
    """In its largest unit; what is left over is cut off."""
    for unit, length in _BROWSER_UNITS:
        if interval >= length:
            return f"{interval // length}{unit}"
    return "less than a millisecond"


def format_on_server(interval: timedelta) -> str:
    """The same, but for what is less than a millisecond."""
    return format_in_browser(max(interval, _MILLISECOND))


def go_float(number: float) -> str:
    """A float as Go's %v writes it: the fewest digits, an exponent from a million on."""
    digits = Decimal(repr(number)).normalize()
    exponent = digits.adjusted()
    if -4 <= exponent < 6:
        return f"{digits:f}"
    return f"{digits.scaleb(-exponent):f}e{exponent:+03d}"
