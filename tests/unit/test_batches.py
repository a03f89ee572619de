"""Requests that share transactions."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.domain.batches import Batches

Request = tuple[str, int]


class Database:
    """Doubles numbers, a batch at a time, each when it is let go; 13 is more than it can bear."""

    def __init__(self) -> None:
        self.batches: list[list[Request]] = []
        self.may_go = asyncio.Semaphore(0)

    async def work(self, batch: list[Request]) -> list[int]:
        """As Batches wants it."""
        self.batches.append(batch)
        await self.may_go.acquire()
        if any(number == 13 for _, number in batch):
            raise ValueError("13")
        return [2 * number for _, number in batch]


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def batches(database: Database) -> AsyncIterator[Batches[Request, int]]:
    made: Batches[Request, int] = Batches(database.work, lambda request: request[0], most=3)
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def ask(batches: Batches[Request, int], *requests: Request) -> list["asyncio.Task[int]"]:
    tasks = [asyncio.create_task(batches.ask(request)) for request in requests]
    for _ in range(5):  # let them come in
        await asyncio.sleep(0)
    return tasks


async def test_who_asks_while_a_batch_is_under_way_is_in_the_next(
    batches: Batches[Request, int], database: Database
) -> None:
    """The first goes at once; no batch is larger than it may be."""
    first = await ask(batches, ("a", 1))
    others = await ask(batches, *((name, place) for place, name in enumerate("bcdef")))
    for _ in range(3):
        database.may_go.release()
    assert await asyncio.gather(*first, *others) == [2, 0, 2, 4, 6, 8]
    assert [[name for name, _ in batch] for batch in database.batches] == [["a"], ["b", "c", "d"], ["e", "f"]]


async def test_no_batch_has_a_key_twice(batches: Batches[Request, int], database: Database) -> None:
    """Two connections of one node claim it one after the other."""
    await ask(batches, ("a", 1))
    tasks = await ask(batches, ("b", 2), ("b", 3), ("c", 4))
    for _ in range(3):
        database.may_go.release()
    assert await asyncio.gather(*tasks) == [4, 6, 8]
    assert database.batches[1:] == [[("b", 2), ("c", 4)], [("b", 3)]]


async def test_one_that_cannot_be_done_costs_the_others_nothing(
    batches: Batches[Request, int], database: Database
) -> None:
    """Each is tried alone then."""
    first = await ask(batches, ("a", 1))
    bad, good = await ask(batches, ("b", 13), ("c", 4))
    for _ in range(4):
        database.may_go.release()
    assert (await asyncio.gather(*first), await good) == ([2], 8)
    with pytest.raises(ValueError, match="13"):
        await bad


async def test_who_does_not_wait_any_more_is_passed_over(batches: Batches[Request, int], database: Database) -> None:
    """And nobody else with them."""
    await ask(batches, ("a", 1))
    gone, there = await ask(batches, ("b", 2), ("c", 3))
    gone.cancel()
    database.may_go.release()
    database.may_go.release()
    assert await there == 6
