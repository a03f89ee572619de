"""What is answered to a connection from which no request comes that the application could see."""

from datetime import UTC, datetime
from http import HTTPStatus

import msgspec

from app.clock import timestamp


class Refusal(msgspec.Struct, frozen=True):
    """An error with its sentence; `retry_after` is in seconds."""

    status: HTTPStatus
    message: str
    retry_after: int | None = None

    def answer(self, path: str = "") -> bytes:
        """A whole HTTP response, in the shape that all errors have, with which the connection ends."""
        body = msgspec.json.encode(
            {
                "statusCode": self.status.value,
                "error": self.status.phrase,
                "message": self.message,
                "path": path,
                "timestamp": timestamp(datetime.now(UTC)),
            }
        )
        later = "" if self.retry_after is None else f"Retry-After: {self.retry_after}\r\n"
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\nConnection: close\r\n{later}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body
