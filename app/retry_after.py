"""`Retry-After`: when a service that is busy wants to be asked again.

The standard library alone, and Python 3.9: this file travels to GPU machines with `app/worker`.
"""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Final

BUSY: Final = frozenset({429, 503})
"""HTTP statuses that pass by themselves."""
_LONGEST_WAIT: Final = 60.0


def seconds_of(header: str | None) -> float:
    """Seconds to wait, at most a minute, from either of the header's two forms; a second where there is none."""
    if header is None:
        return 1.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(timezone.utc)).total_seconds()
        except (TypeError, ValueError):
            seconds = 1.0
    return min(max(0.0, seconds), _LONGEST_WAIT)
