"""How long the daemon waits: before the next try to connect, and for others to do what they should."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


class Backoff:
    """Exponential: the delay doubles with each try, and a wait is anything between a share of it and all of it."""

    def __init__(self, first: float = 1.0, longest: float = 60.0, least: float = 0.0) -> None:
        self._first = first
        self._longest = longest
        self._least = least
        self._delay = first

    def next(self) -> float:
        """Seconds to wait before the next try."""
        delay = self._delay
        self._delay = min(2 * delay, self._longest)
        return delay * random.uniform(self._least, 1.0)

    def reset(self) -> None:
        """The connection stood: start over."""
        self._delay = self._first


@dataclass(frozen=True)
class Patience:
    """One backoff for each thing that keeps a daemon from its controller, and when it gives up on others; seconds."""

    trouble: Backoff = field(default_factory=Backoff)
    """The network, a restart: soon, and jittered in full, since a whole fleet comes back at once."""
    rival: Backoff = field(default_factory=lambda: Backoff(300.0, 3600.0, least=0.5))
    """Two daemons of one identity must not throw each other out every second."""
    refused: Backoff = field(default_factory=lambda: Backoff(3600.0, 3600.0, least=0.5))
    """Somebody must do something first."""
    look_for_token: float = 30.0
    """Meanwhile, how often to see whether there is another token."""
    silence: float = 600.0
    """A connection on which nothing is read or answered for so long is stuck."""
    measuring: float = 20.0
    """A driver that has not answered for so long hangs."""
