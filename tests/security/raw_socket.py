"""A WebSocket client that can break RFC 6455: it writes its frames byte by byte."""

import asyncio
import json
import os
import struct
from base64 import b64encode
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
SECONDS: Final = 15.0


def frame(
    opcode: int, payload: bytes = b"", *, is_last: bool = True, is_masked: bool = True, reserved: int = 0
) -> bytes:
    """One frame as it goes over the wire; `reserved` are the three bits that no extension of ours has a meaning for."""
    head = bytes([is_last << 7 | reserved << 4 | opcode])
    mask_bit = 0x80 if is_masked else 0
    match len(payload):
        case length if length < 126:
            head += bytes([mask_bit | length])
        case length if length < 2**16:
            head += bytes([mask_bit | 126]) + struct.pack("!H", length)
        case length:
            head += bytes([mask_bit | 127]) + struct.pack("!Q", length)
    if not is_masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


class RawSocket:
    """One connection: whatever bytes, and what came back."""

    def __init__(self, url: str, token: str) -> None:
        self._url = urlsplit(url)
        self._token = token
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        host, port = self._url.hostname or "", self._url.port or 80
        self._reader, self._writer = await asyncio.open_connection(host, port)
        key = b64encode(os.urandom(16)).decode()
        self._writer.write(
            f"GET {self._url.path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {self._token}\r\n\r\n".encode()
        )
        async with asyncio.timeout(SECONDS):
            answer = await self._reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in answer.partition(b"\r\n")[0]:
            raise AssertionError(answer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)

    async def send(self, data: bytes) -> None:
        """Bytes as they are; the other end may have gone."""
        self._writer.write(data)
        await asyncio.gather(self._writer.drain(), return_exceptions=True)

    async def receive(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame; (CLOSE, b"") where the wire was cut."""
        try:
            async with asyncio.timeout(SECONDS):
                head, length = await self._reader.readexactly(2)
                length &= 0x7F
                if length == 126:
                    (length,) = struct.unpack("!H", await self._reader.readexactly(2))
                elif length == 127:
                    (length,) = struct.unpack("!Q", await self._reader.readexactly(8))
                return head & 0x0F, await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return CLOSE, b""

    async def message(self) -> dict[str, Any]:
        """The next text, without what else comes in between; {} where the socket is closed."""
        while True:
            opcode, payload = await self.receive()
            if opcode == TEXT:
                parsed: dict[str, Any] = json.loads(payload)
                return parsed
            if opcode == CLOSE:
                return {}

    async def closed(self) -> int:
        """The code of the close that comes; 1006 where the wire was cut without one."""
        while True:
            opcode, payload = await self.receive()
            if opcode == CLOSE:
                return struct.unpack("!H", payload[:2])[0] if payload else 1006
