"""How often a node may come in: each time costs the database a claim and a goodbye, and its diary two entries that stay.

A worker of good will waits longer after each try. One that does not is let in at once for some times, and then at this pace; it
waits in silence, since one that is told to come again comes again at once.
"""

from collections.abc import Hashable
from typing import Final

from app.clock import Clock

AT_ONCE: Final = 30
EVERY_SECONDS: Final = 1.0
_FEW: Final = 1000


class Pace:
    """The generic cell rate algorithm for each node: AT_ONCE times at once, and once more each EVERY_SECONDS."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._whole_at: dict[Hashable, float] = {}
        self._most = _FEW

    def step(self, node_id: Hashable) -> float:
        """It comes: in how many seconds it may, 0 for now. Whoever comes again before that is the one who may, then."""
        now = self._clock.monotonic()
        whole_at = max(self._whole_at.get(node_id, now), now)
        wait = whole_at - now - (AT_ONCE - 1) * EVERY_SECONDS
        if wait <= 0:
            self._forget(now)
            self._whole_at[node_id] = whole_at + EVERY_SECONDS
        return max(wait, 0.0)

    def _forget(self, now: float) -> None:
        """Those who may come as they like, now and then: it takes as long as there are nodes."""
        if len(self._whole_at) >= self._most:
            self._whole_at = {node_id: whole_at for node_id, whole_at in self._whole_at.items() if whole_at > now}
            self._most = max(_FEW, 2 * len(self._whole_at))
