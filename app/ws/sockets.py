"""uvicorn's protocol for WebSockets, for sockets that are many and silent for most of the time."""

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
