"""What RFC 6455 forbids, or allows and nobody does, byte by byte: and the close code that it must get."""

import json
import struct
from typing import Any, Final, NamedTuple

from tests.security.raw_socket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

MAX_FRAME: Final = 256 * 1024


class WireAttack(NamedTuple):
    """Bytes after the handshake. `code` is the close that they get; None: none, and what comes after them is served."""

    name: str
    sent: bytes
    code: int | None


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


_HEARTBEAT: Final = _text({"type": "TELEMETRY_HEARTBEAT"})
_HALF: Final = len(_HEARTBEAT) // 2

WIRE_ATTACKS: Final = (
    WireAttack("a binary frame", frame(BINARY, b"\x00\xff\x00"), None),
    WireAttack("a binary frame that is JSON", frame(BINARY, _HEARTBEAT), None),
    WireAttack("an empty text", frame(TEXT), None),
    WireAttack(
        "a few empty pieces",
        frame(TEXT, b"", is_last=False) + frame(CONTINUATION, b"", is_last=False) * 20 + frame(CONTINUATION),
        None,
    ),
    WireAttack(
        "a thousand empty pieces",
        frame(TEXT, b"", is_last=False) + frame(CONTINUATION, b"", is_last=False) * 1000 + frame(CONTINUATION),
        1008,
    ),
    WireAttack(
        "pieces without end",
        frame(TEXT, b"", is_last=False) + frame(CONTINUATION, b" " * 70, is_last=False) * 10_001,
        1009,
    ),
    WireAttack(
        "pings and pongs in the middle of a text",
        frame(TEXT, _HEARTBEAT[:_HALF], is_last=False)
        + (frame(PING, b"x" * 125) + frame(PONG, b"y")) * 20
        + frame(CONTINUATION, _HEARTBEAT[_HALF:]),
        None,
    ),
    WireAttack("pongs that nobody asked for", frame(PONG, b"z" * 125) * 500, None),
    WireAttack("a text of no UTF-8", frame(TEXT, b'{"type": "\xff\xfe"}'), 1007),
    WireAttack("half a surrogate pair as UTF-8", frame(TEXT, b'{"type": "\xed\xa0\x80"}'), 1007),
    WireAttack("UTF-8 that ends in the middle", frame(TEXT, '"…'.encode()[:-1]), 1007),
    WireAttack("a character overlong", frame(TEXT, b'"\xc0\x80"'), 1007),
    WireAttack("one byte more than a frame may have", frame(TEXT, b" " * (MAX_FRAME + 1)), 1009),
    WireAttack("the same in pieces", frame(TEXT, b" " * MAX_FRAME, is_last=False) + frame(CONTINUATION, b" "), 1009),
    WireAttack("a length of exabytes", bytes([0x81, 0xFF]) + struct.pack("!Q", 2**62) + b"mask", 1009),
    WireAttack("a length of negative exabytes", bytes([0x81, 0xFF]) + struct.pack("!Q", 2**63) + b"mask", 1009),
    WireAttack("a compressed frame that nobody agreed upon", frame(TEXT, b"\xaa\x56", reserved=0b100), 1002),
    WireAttack("the other reserved bits", frame(TEXT, _HEARTBEAT, reserved=0b011), 1002),
    WireAttack("an opcode that is none", frame(0x3, b"x"), 1002),
    WireAttack("a control opcode that is none", frame(0xB, b"x"), 1002),
    WireAttack("a frame without a mask", frame(TEXT, _HEARTBEAT, is_masked=False), 1002),
    WireAttack("a ping in pieces", frame(PING, b"x", is_last=False), 1002),
    WireAttack("a ping that is too long", frame(PING, b"x" * 126), 1002),
    WireAttack("a continuation of nothing", frame(CONTINUATION, b"x"), 1002),
    WireAttack("a text in the middle of another", frame(TEXT, b"{", is_last=False) + frame(TEXT, b"}"), 1002),
    WireAttack("a close with one byte", frame(CLOSE, b"\x03"), 1002),
    WireAttack("a close with a code that is none", frame(CLOSE, struct.pack("!H", 999)), 1002),
    WireAttack("a close with a code for nobody's wire", frame(CLOSE, struct.pack("!H", 1006)), 1002),
    WireAttack("a close with a reason of no UTF-8", frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
    WireAttack(
        "a close in the middle of a text",
        frame(TEXT, b"{", is_last=False) + frame(CLOSE, struct.pack("!H", 1000)),
        1002,
    ),
    WireAttack("twenty malformed texts in a row", frame(TEXT, b"{") * 20, 1008),
)
