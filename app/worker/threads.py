"""Calls that may block, beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue
from typing import Any, Callable, TypeVar

T = TypeVar("T")
_Job = tuple["asyncio.Future[Any]", Callable[[], Any]]


class Thread:
    """One thread that makes its calls one after the other.

    A call that never returns (a driver that hangs, a disk that is gone) holds up this thread and nothing
    else: whoever waits gives up after a while, and the program ends without it.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self.is_stuck = False
        """Whether somebody gave up waiting for a call that has not returned since."""
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def call(self, function: Callable[..., T], *arguments: Any, seconds: float) -> T:
        """What the function returns or raises. Raises asyncio.TimeoutError after so many seconds."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((future, lambda: function(*arguments)))
        try:
            return await asyncio.wait_for(future, seconds)
        except asyncio.TimeoutError:
            self.is_stuck = True
            raise

    def end(self) -> None:
        """No more calls."""
        self._jobs.put(None)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            future, call = job
            result, error = None, None
            try:
                result = call()
            except Exception as caught:  # noqa: BLE001 - it is raised where the call was made
                error = caught
            try:
                self._loop.call_soon_threadsafe(self._returned, future, result, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _returned(self, future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
        self.is_stuck = False
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
