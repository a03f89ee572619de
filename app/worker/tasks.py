"""Tasks that live and end together; `asyncio.TaskGroup` came with Python 3.11."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

_CANCEL_AGAIN_SECONDS: Final = 3.0


async def first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run them until the first one ends, cancel the others and wait for them; what ended it is raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        pending = {task for task in tasks if not task.done()}
        while pending:
            for task in pending:
                task.cancel()
            # Again, since `wait_for` of Python 3.11 and older forgets a cancellation that comes with its result.
            _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_SECONDS)
    for task in tasks:
        if task in done:
            task.result()
