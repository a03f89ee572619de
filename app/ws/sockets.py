"""uvicorn's protocols, for sockets that are many and silent for most of the time."""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Forgets what the application was told; its parser would keep a frame until the next, and the handshake to the end."""

    def start_keepalive(self) -> None:
        """The handshake is over, and its headers are in the application's scope."""
        super().start_keepalive()
        self.request.headers.clear()
        self.response.headers.clear()

    def handle_text(self, event: Frame) -> None:
        """The text of a frame is in the application's queue."""
        super().handle_text(event)
        event.data = b""


NO_ROOM: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 10\r\nContent-Length: 0\r\n\r\n"
)


class HttpProtocol(HttpToolsProtocol):
    """Every connection starts as one of these; whoever comes and says nothing holds a file as well as anybody else."""

    _silence: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Beyond `limit_concurrency` answer 503 and close; else wait `timeout_keep_alive` seconds for a request's head."""
        super().connection_made(transport)
        self._silence = self.loop.call_later(self.timeout_keep_alive, transport.close)
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency:
            transport.write(NO_ROOM)
            transport.close()

    def on_headers_complete(self) -> None:
        """It is a request, or the handshake of a WebSocket."""
        self._silence.cancel()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._silence.cancel()
        super().connection_lost(exc)
