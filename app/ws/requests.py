"""uvicorn's HTTP protocol, with an end to everything that a client may draw out.

Every connection starts here. Until it is a WebSocket, something is always awaited, and not for ever:

    a request's head ──▶ its body ──▶ the answer ──▶ the answer taken ──▶ the next head, or the end
     SILENT_SECONDS      BODY_SECONDS  (the handler's)   STALL_SECONDS
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.strangers import PLACE, Place, Strangers
from app.ws.refusals import Refusal
from app.ws.stalls import Stall

HEAD_BYTES: Final = 32 * 1024
HEADERS: Final = 128
REQUEST_BYTES: Final = 2 * 1024 * 1024
"""Of a request on the wire, however its body is cut into chunks; what a body may have is less, and its handler's to say."""
BODY_SECONDS: Final = 30.0
PIPELINED: Final = 16
"""Requests that may wait for the answer to one before them."""
LATER_SECONDS: Final = 10
LINGER_SECONDS: Final = 2.0
"""For so long a client that is refused in the middle of what it says may go on: cut off, it would not read why."""

NO_ROOM: Final = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections: try again later", LATER_SECONDS)
TOO_MANY: Final = Refusal(
    HTTPStatus.TOO_MANY_REQUESTS, "Too many connections of this address without a token: try again later", LATER_SECONDS
)
NO_HTTP: Final = Refusal(HTTPStatus.BAD_REQUEST, "This is no valid HTTP/1.1 request")
BODY_LATE: Final = Refusal(HTTPStatus.REQUEST_TIMEOUT, f"The body did not come within {BODY_SECONDS:g} s")
BODY_LARGE: Final = Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large")
HEAD_LARGE: Final = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"Address and headers may have {HEAD_BYTES // 1024} KiB and {HEADERS} lines",
)
PIPELINE_FULL: Final = Refusal(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests at once on one connection", 1)


class _Refused(Exception):
    """Raised within the parser, which stops at it."""


class HttpProtocol(HttpToolsProtocol):
    """`strangers` are those connections that have shown no token yet, of one server together."""

    strangers: Strangers

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.url = b""
        self._place: Place | None = None
        self._is_proxy = False
        self._timer: asyncio.TimerHandle | None = None
        self._stall: Stall
        self._refusal: Refusal | None = None
        self._bytes = 0
        self._head = 0
        self._is_in_body = False
        self._running: RequestResponseCycle | None = None

    # What comes.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Beyond `limit_concurrency`, or the address's places, answer and close; else wait for a request's head."""
        super().connection_made(transport)
        self._stall = Stall(self.loop, transport)
        self._await(self.timeout_keep_alive, self._end)
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency:
            self._turn_away(NO_ROOM)
        elif self.strangers.is_counted and self.client is not None:
            self._is_proxy = self.strangers.is_proxy(self.client[0])
            if not self._is_proxy:
                self._enter(self.client[0])

    def data_received(self, data: bytes) -> None:
        """Parse it, unless the connection is over; a head of which nothing is parsed yet has an end, too."""
        if self._refusal is not None:
            return
        self._bytes += len(data)
        super().data_received(data)
        if self._refusal is None and self._bytes > (REQUEST_BYTES if self._is_in_body else HEAD_BYTES + len(data)):
            self._refuse(BODY_LARGE if self._is_in_body else HEAD_LARGE)

    def on_message_begin(self) -> None:
        """Of the next request."""
        super().on_message_begin()
        self._bytes = self._head = 0
        self._is_in_body = False
        if self._place is not None:
            self.scope["state"][PLACE] = self._place

    def on_url(self, url: bytes) -> None:
        """A part of it."""
        super().on_url(url)
        self._weigh(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of the head, or behind a body in chunks."""
        super().on_header(name, value)
        self._weigh(len(name) + len(value))
        if len(self.headers) > HEADERS:
            self._stop(HEAD_LARGE)

    def on_headers_complete(self) -> None:
        """It is a request, of which a body may follow, or the handshake of a WebSocket."""
        if len(self.pipeline) >= PIPELINED:
            self._stop(PIPELINE_FULL)
        if self._is_proxy:
            self._enter_behind_proxy()
        self._is_in_body = True
        self._await(BODY_SECONDS, self._body_is_late)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is here, and it is the handler's turn."""
        self._rest()
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete:
            self._await(self.timeout_keep_alive, self._end)

    def handle_websocket_upgrade(self) -> None:
        """Another protocol goes on; it takes the stranger's place along."""
        self._rest()
        if self._place is not None:
            self.app_state = {**self.app_state, PLACE: self._place}
        super().handle_websocket_upgrade()

    # What goes.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """The answer is written, if not taken yet; behind a proxy the next request is somebody else's."""
        super().on_response_complete()
        if self._is_proxy and self._place is not None:
            self._place.leave()
        if self.cycle.response_complete and not self.cycle.more_body:
            self._await(self.timeout_keep_alive, self._end)

    def pause_writing(self) -> None:
        """The client takes its answer more slowly than it comes."""
        super().pause_writing()
        self._stall.begin()

    def resume_writing(self) -> None:
        """It has taken it."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stall.end()

    # The end.

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over; uvicorn itself would tell only the handler of the last request that has come, which may not run yet."""
        self._rest()
        self._hang_up()
        self._stall.end()
        if self._place is not None:
            self._place.leave()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the base class's signature
        """The parser has stopped: at what is no HTTP, or at a limit of ours."""
        self._refuse(self._refusal or NO_HTTP)

    def _enter(self, address: str) -> None:
        """Take a place of this address, or refuse the connection."""
        self._place = self.strangers.enter(address)
        if self._place is None:
            self._turn_away(TOO_MANY)

    def _enter_behind_proxy(self) -> None:
        if self._place is not None:
            self._place.leave()
        forwarded = b", ".join(value for name, value in self.headers if name == b"x-forwarded-for").decode("latin-1")
        self._place = self.strangers.enter(self.strangers.behind(forwarded)) if forwarded else None
        if self._place is not None:
            self.scope["state"][PLACE] = self._place
        elif forwarded:
            self._stop(TOO_MANY)

    def _weigh(self, size: int) -> None:
        self._head += size
        if self._head > HEAD_BYTES:
            self._stop(HEAD_LARGE)

    def _stop(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise _Refused

    def _turn_away(self, refusal: Refusal) -> None:
        """Say why, and close: there is no place for it to stay."""
        self._refusal = refusal
        self.transport.write(refusal.answer())
        self._end()

    def _refuse(self, refusal: Refusal) -> None:
        """Say why, unless an answer is on its way already, and close when that is read."""
        self._refusal = refusal
        running = self._running
        if running is None or running.response_complete or not running.response_started:
            self.transport.write(refusal.answer(self.url.partition(b"?")[0].decode("latin-1")))
        self._hang_up()
        self._await(LINGER_SECONDS, self._end)

    def _body_is_late(self) -> None:
        if self.flow.read_paused:  # it waits for us
            self._await(BODY_SECONDS, self._body_is_late)
        elif self.cycle is not None and self.cycle.response_complete:
            self._end()
        else:
            self._refuse(BODY_LATE)

    def _end(self) -> None:
        """Close, and wait no longer than for a client that takes what is still to be written."""
        self._rest()
        self._hang_up()
        self.transport.close()
        self._stall.begin()

    def _hang_up(self) -> None:
        """Nothing that a handler says from now on is written, and no request that waits is begun."""
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def _await(self, seconds: float, otherwise: Callable[[], None]) -> None:
        self._rest()
        self._timer = self.loop.call_later(seconds, otherwise)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def counting(strangers: Strangers) -> type[HttpProtocol]:
    """The protocol of a server that counts its strangers so."""
    return type("HttpProtocol", (HttpProtocol,), {"strangers": strangers})
