"""What stands where nothing was measured."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from app.errors import InvalidRequest
from app.storage.measures import Value


class Fill(StrEnum):
    """Nothing, a null, the last value before it, or what lies on the line between its neighbours."""

    NONE = "none"
    NULL = "null"
    LOCF = "locf"
    LINEAR = "linear"


def parse_fill(text: str | None) -> Fill:
    """A fill by its name. Raises InvalidRequest that lists them."""
    try:
        return Fill.NONE if text is None else Fill(text)
    except ValueError:
        raise InvalidRequest.of("fill", f"must be one of {', '.join(Fill)}") from None


def filled(times: Sequence[datetime], values: Sequence[Value], starts: Sequence[datetime], fill: Fill) -> list[Value]:
    """A value for each of `starts`; None before the first that is known, and with `linear` behind the last."""
    known = dict(zip(times, values, strict=True))
    found = [known.get(start) for start in starts]
    match fill:
        case Fill.LOCF:
            return _carried(found)
        case Fill.LINEAR:
            return _interpolated(found, starts)
        case _:
            return found


def _carried(values: list[Value]) -> list[Value]:
    last: Value = None
    carried: list[Value] = []
    for value in values:
        last = last if value is None else value
        carried.append(last)
    return carried


def _interpolated(values: list[Value], times: Sequence[datetime]) -> list[Value]:
    numbers = [(place, value) for place, value in enumerate(values) if isinstance(value, int | float)]
    for (left, low), (right, high) in pairwise(numbers):
        for place in range(left + 1, right):
            share = (times[place] - times[left]) / (times[right] - times[left])
            values[place] = round(low + (high - low) * share, 4)
    return values
