"""What a socket has said, on its way to its conversation."""

import asyncio
from typing import TYPE_CHECKING

import pytest

from app.ws.inbox import Inbox

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent


def said(text: str) -> "ASGIReceiveEvent":
    return {"type": "websocket.receive", "text": text}


async def test_what_is_said_is_heard_in_order() -> None:
    """Also what came before anybody listened."""
    inbox = Inbox()
    inbox.put_nowait(said("one"))
    inbox.put_nowait(said("two"))
    heard = [await inbox.get(), await inbox.get()]
    listening = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.put_nowait(said("three"))
    assert [*heard, await listening] == [said("one"), said("two"), said("three")]
    assert inbox.empty()


async def test_only_one_event_at_a_time_is_awaited() -> None:
    """The second has to wait for its turn: the socket is not read on."""
    inbox = Inbox()
    awaited = [inbox.is_awaited]
    listening = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    awaited.append(inbox.is_awaited)
    inbox.put_nowait(said("one"))
    awaited.append(inbox.is_awaited)
    assert awaited == [False, True, False]
    await listening


async def test_whoever_stops_listening_takes_nothing_along() -> None:
    """What came in that very moment is there for the next."""
    inbox = Inbox()
    listening = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.put_nowait(said("one"))
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    assert not inbox.is_awaited
    assert await inbox.get() == said("one")
