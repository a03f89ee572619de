"""What every answer tells browsers, whoever gives it: run nothing of it, frame it nowhere, guess no type, keep nothing.

The names and values are those of OWASP's REST Security Cheat Sheet. One policy holds for all answers, the page of the
OpenAPI description among them: that one needs its style and nothing else.
"""

from collections.abc import Awaitable
from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from app.rest.openapi_page import STYLE_SOURCE

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src {STYLE_SOURCE}; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
OVER_TLS: Final = {"Strict-Transport-Security": "max-age=31536000"}
"""A year. Not of subdomains: they may be somebody else's."""


def with_security_headers(app: ASGIApp, url: str) -> ASGIApp:
    """The application, every answer of which has its headers; those that a handler set itself stay as they are.

    `url` is where people reach the service: with https it may be a proxy's certificate.
    """
    said = HEADERS | (OVER_TLS if url.startswith("https:") else {})
    headers = [(name.lower().encode(), value.encode()) for name, value in said.items()]

    def giving(send: Send) -> Send:
        async def give(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in headers if each[0] not in given)]
            await send(message)

        return give

    def answer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # A socket is let through as it is: what it sends are frames, and many.
        return app(scope, receive, send if scope["type"] == ScopeType.WEBSOCKET else giving(send))

    return answer
