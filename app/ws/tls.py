"""What is spoken with those who come by TLS, whatever this Python's maker thinks best."""

import ssl
from collections.abc import Callable
from typing import Final

from uvicorn import Config

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: with forward secrecy, and nothing that can be changed unseen. Those of 1.3 are all like that."""


def tls_context(_: Config, uvicorns_own: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """As uvicorn makes it, with its certificate; TLS 1.2 and 1.3."""
    context = uvicorns_own()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    return context
