"""The workers' side of the wire, as cheap as it can be: a client must not be what is measured.

Frames are made ready beforehand, masked with zeros, which costs no computation; of what comes back only the type
and the id of an acknowledgement are looked at.
"""

import asyncio
import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

GPUS: Final = 8
_ACK_FOR: Final = re.compile(rb'"ackFor":"([^"]+)"')
HANDSHAKE: Final = (
    "GET /ws/node HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nAuthorization: Bearer {token}\r\n\r\n"
)
KEY: Final = base64.b64encode(b"a bench's nonce!").decode()


def frame(text: str) -> bytes:
    """A text frame of a client."""
    payload = text.encode()
    if len(payload) < 126:
        return bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload
    return b"\x81\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload


def iso(moment: datetime) -> str:
    """A time as frames have it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def register(number: int, now: datetime) -> bytes:
    """NODE_REGISTER of a machine with eight GPUs."""
    gpus = ",".join(
        f'{{"deviceId":"GPU-{number:06d}-{gpu}-4c1d-9b7f-0123456789ab","model":"NVIDIA H100 80GB HBM3","memoryTotal":80,'
        '"memoryFree":79.5,"utilization":0,"temperature":35}'
        for gpu in range(GPUS)
    )
    return frame(
        f'{{"type":"NODE_REGISTER","messageId":"r-{number}","timestamp":"{iso(now)}","data":{{"hostname":"gpu-{number}",'
        '"ipAddress":"10.0.0.1","os":"Ubuntu 24.04 LTS","cpuCores":128,"cpuModel":"AMD EPYC 9654","ramTotal":1024,'
        f'"diskTotal":7680,"gpuDevices":[{gpus}],"daemonVersion":"1.0.0","uptimeSeconds":3600,"containerRuntime":"docker"}}}}'
    )


def heartbeat(number: int, message_id: str, at: datetime, *, ack: bool = True) -> bytes:
    """TELEMETRY_HEARTBEAT with eight GPUs."""
    return frame(
        f'{{"type":"TELEMETRY_HEARTBEAT","messageId":"{message_id}","timestamp":"{iso(at)}",'
        f'{_ack(ack)}"data":{{"status":"online","uptimeSeconds":3630,"cpuUsage":45.2,"ramUsage":62.8,'
        f'"activeDeployments":2,"gpuStatus":[{_STATUS.replace(_NUMBER, f"{number:06d}")}]}}}}'
    )


def metrics(number: int, message_id: str, at: datetime, *, ack: bool = True, sent: datetime | None = None) -> bytes:
    """TELEMETRY_METRICS with eight GPUs, of when they were measured; `sent` where that was another time."""
    return frame(
        f'{{"type":"TELEMETRY_METRICS","messageId":"{message_id}","timestamp":"{iso(sent or at)}",'
        f'{_ack(ack)}"data":{{"timestamp":"{iso(at)}","cpu":{{"usage":45.2,"cores":128,"temperature":55}},'
        '"memory":{"total":1024,"used":640,"free":384,"usage":62.5},"disk":{"total":7680,"used":1024,"free":6656,"usage":13.3},'
        f'"network":{{"bytesIn":1000000000,"bytesOut":500000000}},"gpus":[{_GPUS.replace(_NUMBER, f"{number:06d}")}]}}}}'
    )


# What is the same in each frame but for the node's number is written once.
_NUMBER: Final = "NUMBER"
_STATUS: Final = ",".join(
    f'{{"deviceId":"GPU-{_NUMBER}-{gpu}-4c1d-9b7f-0123456789ab","utilization":{70 + gpu},"temperature":{60 + gpu}}}'
    for gpu in range(GPUS)
)
_GPUS: Final = ",".join(
    f'{{"deviceId":"GPU-{_NUMBER}-{gpu}-4c1d-9b7f-0123456789ab","model":"NVIDIA H100 80GB HBM3","memoryTotal":80,'
    f'"memoryUsed":{20 + gpu}.5,"memoryFree":{59 - gpu}.5,"utilization":{80 + gpu},"temperature":{70 + gpu},'
    f'"powerUsage":{600 + gpu}.5}}'
    for gpu in range(GPUS)
)


def _ack(wanted: bool) -> str:  # noqa: FBT001
    return '"ack":true,' if wanted else ""


class Worker(asyncio.Protocol):
    """One connection. `on_ack` is called with the id of each acknowledgement."""

    __slots__ = ("_buffer", "_is_open", "_on_ack", "_waiting", "closed", "transport")

    def __init__(self, on_ack: Callable[[str], None]) -> None:
        self._buffer = b""
        self._is_open = False
        self._on_ack = on_ack
        self._waiting: asyncio.Future[bytes] | None = None
        self.closed = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio wants it."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """The answer to the handshake, then frames of the server, which are not masked."""
        self._buffer += data
        if not self._is_open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head[:20]:
                raise RuntimeError(head.decode())
            self._is_open, self._buffer = True, rest
        while len(self._buffer) >= 2:
            length, start = self._buffer[1] & 127, 2
            if length == 126:
                length, start = int.from_bytes(self._buffer[2:4], "big"), 4
            if len(self._buffer) < start + length:
                return
            self._take(self._buffer[0] & 15, self._buffer[start : start + length])
            self._buffer = self._buffer[start + length :]

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio wants it."""
        self.closed = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError())

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == 8:
            self.closed = True
        elif self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(payload)
        elif (found := _ACK_FOR.search(payload)) is not None:
            if b'"status":"rejected"' in payload:
                raise RuntimeError(payload.decode())
            self._on_ack(found[1].decode())

    async def expect(self, word: bytes) -> None:
        """Wait for the next frame, which must have this word in it."""
        self._waiting = asyncio.get_running_loop().create_future()
        if (payload := await self._waiting).find(word) < 0:
            raise RuntimeError(payload.decode())
        self._waiting = None


async def connect(port: int, token: str, number: int, on_ack: Callable[[str], None], local: str) -> Worker:
    """A worker that is registered."""
    loop = asyncio.get_running_loop()
    worker: Worker
    _, worker = await loop.create_connection(lambda: Worker(on_ack), "127.0.0.1", port, local_addr=(local, 0))
    greeting = worker.expect(b'"status":"success"')
    worker.transport.write(HANDSHAKE.format(key=KEY, token=token).encode())
    await greeting
    registered = worker.expect(b"REGISTER_ACK")
    worker.transport.write(register(number, datetime.now(UTC)))
    await registered
    return worker
