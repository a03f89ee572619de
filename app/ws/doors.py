"""How many sockets are open, and how many may be: fewer than the process may have files, so that it never runs out."""

import resource
from typing import Final

from app.meters import ACCEPTED, SOCKETS, Meters, Values

SPARE_FILES: Final = 200
"""For the database, requests, downloads, and whoever is told that there is no room."""
REQUESTS: Final = 100
"""Of these, connections that are no WebSocket yet, or never will be."""


class Doors:
    """Owned by the composition root."""

    def __init__(self, meters: Meters, most: int) -> None:
        self._meters = meters
        self._most = most
        self._open = 0
        meters.gauges.append(self._gauges)

    def enter(self) -> bool:
        """A socket was opened: whether there is room for it. `leave` is due in either case."""
        self._open += 1
        self._meters.counts[ACCEPTED.key()] += 1
        return self._open <= self._most

    def leave(self) -> None:
        """A socket is closed."""
        self._open -= 1

    def _gauges(self) -> Values:
        return {SOCKETS.key(): self._open}


def room() -> int:
    """As many WebSockets as this process may have; its limit of files is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:  # macOS says so, and means less
        hard = soft
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(hard - SPARE_FILES, hard // 2)
