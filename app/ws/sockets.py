"""uvicorn's WebSocket protocol, for sockets that are many, silent for most of the time, and not all of good will."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn._types import WebSocketReceiveEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import State

from app.strangers import PLACE
from app.ws.frames import frame_of, is_between_frames, text_at
from app.ws.inbox import Inbox
from app.ws.stalls import Stall

WIRE: Final = "aiwm.wire"
"""In the state of a connection's scope: its protocol, for whoever posts frames."""

FRAME_SECONDS: Final = 30.0
"""For a frame, or a message in fragments, from its first byte to its last."""
PIECE: Final = 4096
"""So much is parsed before looking whether it is worth it: a loop may read 256 KiB at a time, or 40,000 empty frames."""
FRAGMENTS: Final = 10_000
"""Of a message: they are kept until the last has come, and those without content count for nothing in its size."""
PIECES_OF_NOTHING: Final = 64
"""Control frames and fragments in a piece: no client of good will has so much to say with so little."""
FRAMES_A_TURN: Final = 16
"""So many frames of one worker, then it is the others' turn."""
LINGER_SECONDS: Final = 0.5
"""For so long a peer whose frames are refused may go on: cut off in the middle of one, it would not read why."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Forgets what the application was told; its parser would keep a frame until the next, and the handshake to the end.

    What most sockets never need stands in the class, and not in each of them.
    """

    _unfinished: asyncio.TimerHandle | None = None
    _was_paused = False
    _stall: Stall | None = None
    _is_between_frames = False
    _at_once = 0
    _nothings = 0
    _has_failed = False
    ear: Callable[[str], bool] | None = None
    """What takes a text in right where it is parsed, if it can; else, as without one, the application receives it."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.queue: Inbox = Inbox()  # type: ignore[assignment]

    def handle_connect(self, event: Request) -> None:
        """The application's task is made here, and begins later."""
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["state"][WIRE] = self

    def start_keepalive(self) -> None:
        """The handshake is over, and its headers are in the application's scope."""
        super().start_keepalive()
        self.request.headers.clear()
        self.response.headers.clear()

    # What comes.

    def data_received(self, data: bytes) -> None:
        """Parse it piece by piece; a frame that has begun is awaited, and not for ever."""
        self._at_once = FRAMES_A_TURN
        begin = self._take_texts(data) if self._is_between_frames else 0
        if begin == len(data):
            return
        for start in range(begin, len(data), PIECE):
            if self._has_failed:
                return
            super().data_received(data[start : start + PIECE])
            if self._nothings:
                if self._nothings > PIECES_OF_NOTHING:
                    self._fail(CloseCode.POLICY_VIOLATION, "too many control frames or fragments at a time")
                self._nothings = 0
        self._is_between_frames = is_between_frames(self.conn)
        if self._is_between_frames:
            if self._unfinished is not None:
                self._forget_the_rest()
        elif self._unfinished is None:
            self._await_the_rest()

    def handle_text(self, event: Frame) -> None:
        """The text of a frame is in the application's queue."""
        super().handle_text(event)
        event.data = b""

    def handle_cont(self, event: Frame) -> None:
        """A fragment."""
        self._nothings += 1
        if len(self.frames) >= FRAGMENTS:
            self._fail(CloseCode.MESSAGE_TOO_BIG, f"a message may have {FRAGMENTS:,} fragments")
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer, unless the peer does not take its answers, or has asked so often that it is about to go."""
        self._nothings += 1
        if self.writable.is_set() and self._nothings <= PIECES_OF_NOTHING:
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_pong(self, event: Frame) -> None:
        """Nobody asked."""
        self._nothings += 1
        super().handle_pong(event)

    def send_receive_event_to_app(self) -> None:
        """A message is whole; the next one has its own time, and is not read while this one waits to be heard."""
        if self._unfinished is not None:
            self._forget_the_rest()
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.curr_msg_data_type == "text":
            self._take_text(data)
        elif not self.close_sent:
            self._put({"type": "websocket.receive", "bytes": data})

    def _take_texts(self, data: bytes) -> int:
        """Take those texts with which it begins; where what comes behind them does."""
        begin = 0
        while self.conn.state is State.OPEN and (found := text_at(data, begin)) is not None:
            text, begin = found
            self._take_text(text)
        return begin

    def _take_text(self, data: bytes) -> None:
        if self.close_sent:
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:  # uvicorn would log a traceback
            self._fail(CloseCode.INVALID_DATA, "text must be UTF-8")
            return
        # Only while its conversation waits for nothing else: what it has not heard yet comes first.
        if self.ear is not None and self._at_once and self.queue.is_awaited and self.writable.is_set():
            self._at_once -= 1
            if self.ear(text):
                return
        self._put({"type": "websocket.receive", "text": text})

    def _put(self, event: WebSocketReceiveEvent) -> None:
        is_awaited = self.queue.is_awaited
        self.queue.put_nowait(event)
        if not is_awaited and not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    # What goes.

    def post(self, frame: bytes) -> None:
        """Send text. What the peer does not take yet is kept, until it stalls; nobody is told of what comes too late."""
        if self.conn.state is State.OPEN and not self.transport.is_closing():
            written = frame_of(frame)
            if self._stall is not None:
                self._stall.write(len(written))
            self.transport.write(written)

    def pause_writing(self) -> None:
        """The peer takes its answers more slowly than they come."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """It has taken them."""
        super().resume_writing()
        if self._stall is not None and not self.transport.is_closing():
            self._stall.end()

    # The end.

    def shutdown(self) -> None:
        """The service stops. Whoever is about to go, after a goodbye of its own, is not told: websockets would not have it."""
        if self.handshake_complete and self.conn.state is not State.OPEN:
            self.transport.close()
        else:
            super().shutdown()

    def handle_parser_exception(self) -> None:
        """Say why, and close soon; for the application it is over."""
        self._has_failed = self.close_sent = self.disconnected = True
        close = self.conn.close_sent
        if close is not None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        self.writable.set()
        self._watch()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application has said goodbye, and the peer may take its time to read that, but not for ever."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        if self._unfinished is not None:
            self._forget_the_rest()
        if self._stall is not None:
            self._stall.end()
        if (place := self.app_state.get(PLACE)) is not None:
            place.leave()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self._stall is None:
            self._stall = Stall(self.loop, self.transport, self._cut_off)
        self._stall.begin()

    def _cut_off(self) -> None:
        """The peer stands still: that is this end's goodbye, not its own."""
        reason = "answers were not taken"
        self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.POLICY_VIOLATION, "reason": reason})
        self.transport.abort()

    def _await_the_rest(self) -> None:
        self._was_paused = self.read_paused
        self._unfinished = self.loop.call_later(FRAME_SECONDS, self._rest_is_late)

    def _forget_the_rest(self) -> None:
        if self._unfinished is not None:
            self._unfinished.cancel()
            self._unfinished = None

    def _rest_is_late(self) -> None:
        """Unless it was this end that did not read."""
        self._unfinished = None
        if self._was_paused:
            self._await_the_rest()
        else:
            self._fail(CloseCode.POLICY_VIOLATION, f"a frame did not come to its end within {FRAME_SECONDS:g} s")

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.frames = []
        if not self.close_sent and not self.transport.is_closing():
            self.conn.fail(code, reason)
            self.handle_parser_exception()
