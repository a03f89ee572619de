"""Where a walk through a list of nodes stands, as a text that the caller only carries.

By `createdAt` and `name` the walk goes on behind the last node shown: these don't move by themselves.
By `lastHeartbeat` every node moves about twice a minute, so that a place in that order says nothing of
which nodes were shown; there the cursor carries the set of those, as a compressed bitmap of their keys
(at most one bit for each node that ever was). Either way a walk shows each node that is there all along
exactly once, whatever comes, goes or beats meanwhile. Only a node that is renamed during a walk by
`name` may be met twice or not at all.
"""

import binascii
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from datetime import datetime
from hashlib import blake2b
from typing import Final

import msgspec

from app.errors import InvalidRequest
from app.model import NODE_ID, NodeSort

_DIGEST_BYTES: Final = 6
_PAGES: Final = 2**60
_BITMAP_BYTES: Final = 8 * 1024 * 1024
"""Decompressed, at most: 64 million nodes. The bound is there for texts that somebody made up, as is the next."""
_SHOWN_AT_MOST: Final = 1_000_000
"""Nodes. A few kilobytes can say 64 million ones, which as a list take gigabytes."""


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The order, the number of the page that comes next, and what lies behind.

    `value` and `id` are the last node's for an order that stands still; `shown` is the bitmap for the other.
    """

    sort: NodeSort
    page: int
    text: str = ""
    moment: datetime | None = None
    id: str = ""
    shown: bytes = b""


def encode(cursor: Cursor) -> str:
    """The cursor as URL-safe text. The digest finds accidents and tampering; a cursor gives no access."""
    return seal(msgspec.msgpack.encode(cursor))


def decode(text: str) -> Cursor:
    """The cursor of a text that `encode` made. Raises InvalidRequest for any other."""
    try:
        cursor = msgspec.msgpack.decode(unseal(text), type=Cursor)
    except msgspec.MsgspecError:
        raise _not_ours() from None
    if encode(cursor) != text or not _is_sound(cursor):
        raise _not_ours()
    return cursor


def seal(body: bytes) -> str:
    """Any bytes as a text of a cursor."""
    return urlsafe_b64encode(_digest(body) + body).decode().rstrip("=")


def unseal(text: str) -> bytes:
    """The bytes of a text that `seal` made. Raises InvalidRequest for any other."""
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raise _not_ours() from None
    body = raw[_DIGEST_BYTES:]
    if raw[:_DIGEST_BYTES] != _digest(body) or seal(body) != text:
        raise _not_ours()
    return body


def _not_ours() -> InvalidRequest:
    return InvalidRequest.of("cursor", "is not a nextCursor of this service, or not all of it")


def pack(keys: Iterable[int]) -> bytes:
    """A set of small numbers as a compressed bitmap."""
    present = sorted(keys)
    bits = bytearray(present[-1] // 8 + 1 if present else 0)
    for key in present:
        bits[key // 8] |= 1 << key % 8
    return zlib.compress(bits, 9)


def unpack(packed: bytes) -> list[int]:
    """The numbers of a bitmap that `pack` made. Raises InvalidRequest for anything else."""
    try:
        bits = zlib.decompressobj().decompress(packed, _BITMAP_BYTES)
    except zlib.error:
        raise InvalidRequest.of("cursor", "is not a nextCursor of this service") from None
    if int.from_bytes(bits).bit_count() > _SHOWN_AT_MOST:
        raise InvalidRequest.of("cursor", f"has shown {_SHOWN_AT_MOST:,} nodes: go on by createdAt or name instead")
    return [8 * place + bit for place, byte in enumerate(bits) if byte for bit in range(8) if byte & 1 << bit]


def _is_sound(cursor: Cursor) -> bool:
    """Whether it can be put to the database: whoever reads this can make a digest of his own."""
    if not 1 < cursor.page <= _PAGES:
        return False
    match cursor.sort.field:
        case "name":
            return "\0" not in cursor.text and bool(NODE_ID.fullmatch(cursor.id))
        case "createdAt":
            has_offset = cursor.moment is not None and cursor.moment.tzinfo is not None
            return has_offset and bool(NODE_ID.fullmatch(cursor.id))
    return bool(cursor.shown)


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=_DIGEST_BYTES).digest()
