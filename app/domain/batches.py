"""Many small requests as few large ones: whoever asks while a batch is under way is in the next one.

With nothing under way a request goes at once and alone; a herd that comes back together shares transactions.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import msgspec

from app.errors import StorageUnavailable

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

Work = Callable[[list[Asked]], Awaitable[list[Answered]]]


class _Waiting(msgspec.Struct, Generic[Asked, Answered], frozen=True):
    asked: Asked
    answer: "asyncio.Future[Answered]"


class Batches(Generic[Asked, Answered]):
    """Owned by whoever runs `run` as a task. Bounded by those who ask: each waits for its answer.

    `work` gets at most `most` requests, no two of one key, and gives an answer for each, in their order.
    """

    def __init__(self, work: Work[Asked, Answered], key: Callable[[Asked], Hashable], *, most: int) -> None:
        self._work = work
        self._key = key
        self._most = most
        self._waiting: OrderedDict[int, _Waiting[Asked, Answered]] = OrderedDict()
        self._number = 0
        self._arrived = asyncio.Event()

    async def ask(self, asked: Asked) -> Answered:
        """The answer. Raises what the work raises for this request alone, and StorageUnavailable for all of a batch."""
        waiting = _Waiting[Asked, Answered](asked, asyncio.get_running_loop().create_future())
        self._number += 1
        self._waiting[self._number] = waiting
        self._arrived.set()
        return await waiting.answer

    async def run(self) -> None:
        """Work off what is asked, for ever."""
        while True:
            await self._arrived.wait()
            if batch := self._take():
                await self._answer(batch)
            else:
                self._arrived.clear()

    def _take(self) -> list[_Waiting[Asked, Answered]]:
        taken: dict[Hashable, tuple[int, _Waiting[Asked, Answered]]] = {}
        for number, waiting in self._waiting.items():
            if len(taken) == self._most:
                break
            taken.setdefault(self._key(waiting.asked), (number, waiting))
        for number, _ in taken.values():
            del self._waiting[number]
        return [waiting for _, waiting in taken.values()]

    async def _answer(self, batch: list[_Waiting[Asked, Answered]]) -> None:
        try:
            answers = await self._work([waiting.asked for waiting in batch])
        except StorageUnavailable as error:
            for waiting in batch:
                _give(waiting, error)
        except Exception as error:  # noqa: BLE001 – it is raised again, by whoever asked
            if len(batch) == 1:
                _give(batch[0], error)
                return
            # One of them may be to blame: the others shall not pay for it.
            for waiting in batch:
                await self._answer([waiting])
        else:
            for waiting, answer in zip(batch, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)


def _give(waiting: _Waiting[Asked, Answered], error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
