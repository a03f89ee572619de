"""Waiting for a condition of another process, which nothing can notify us of."""

import time
from collections.abc import Callable


def poll_until(condition: Callable[[], bool], seconds: float, interval: float = 0.02) -> bool:
    """Whether the condition became true within that many seconds; it is tried at least once."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True
