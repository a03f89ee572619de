"""The listening socket, and what its connections inherit."""

import socket

from app import server
from app.settings import Settings


def test_a_machine_that_is_gone_is_noticed_by_tcp() -> None:
    """Its connection has keep-alive probes of the kernel's, which no pause in reading can fail."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with server.taken(Settings(port=port)) as listener, socket.create_connection(("127.0.0.1", port)):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            for option, value in server.KEEP_ALIVE.items():
                assert (
                    not hasattr(socket, option)
                    or accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) == value
                )
