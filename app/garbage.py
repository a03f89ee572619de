"""What becomes of a gateway's objects: cycles are looked for seldom, and what a backlog took goes back to the system."""

import ctypes
import gc
from contextlib import suppress
from typing import Final

THRESHOLD: Final = 50_000
"""So many objects more than were freed: then it looks among the youngest."""


def spare_collection() -> None:
    """What is there by now stays, and is not looked through again.

    Frames and answers make no cycles, and ten thousand connections are many objects to look through for none.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD, 20, 50)


def give_back() -> None:
    """Give the pages of freed memory back to the system: the C library would keep them for the next backlog."""
    with suppress(AttributeError, OSError):  # only glibc's has it
        ctypes.CDLL(None).malloc_trim(0)
