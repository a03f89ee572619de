"""How Python looks for cycles among a gateway's objects: seldom."""

import gc
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
