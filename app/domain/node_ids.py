"""A node's `_id`, made as MongoDB makes its own: time, a random part of this process, a counter."""

import secrets
from collections.abc import Callable
from datetime import datetime
from itertools import count


def object_ids() -> Callable[[datetime], str]:
    """A source of ids: 4 bytes of seconds, 5 random ones, a counter of 3 that starts anywhere.

    Ids of one source grow with time; two processes meet with a probability of 2^-40 a second.
    """
    process = secrets.token_hex(5)
    counter = count(secrets.randbelow(2**24))

    def new_id(now: datetime) -> str:
        return f"{int(now.timestamp()) & 0xFFFFFFFF:08x}{process}{next(counter) & 0xFFFFFF:06x}"

    return new_id
