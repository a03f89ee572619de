"""Cursors: what comes back is what went out; what was touched is refused."""

import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.cursor import Cursor, decode, encode, pack, unpack
from app.errors import InvalidRequest
from app.model import NodeSort

MOMENT = datetime(2025, 11, 21, 10, 0, 0, 123456, tzinfo=UTC)
CURSOR = Cursor(NodeSort.CREATED_DESCENDING, 2, moment=MOMENT, id="673e7a1f5c9d8e001234abcd")


def test_a_cursor_survives_the_journey() -> None:
    """To the microsecond, in characters that a URL takes as they are."""
    text = encode(CURSOR)
    assert decode(text) == CURSOR
    assert text.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("place", range(len(encode(CURSOR))))
def test_a_touched_cursor_is_refused(place: int) -> None:
    """Whichever character it is."""
    text = encode(CURSOR)
    touched = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
    with pytest.raises(InvalidRequest):
        decode(touched)


@pytest.mark.parametrize("text", ["", "x", "é", "=", "AAAAAAAAAAAA", encode(CURSOR)[:-1], encode(CURSOR) + "="])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """Empty, foreign or cut."""
    with pytest.raises(InvalidRequest):
        decode(text)


@given(st.sets(st.integers(0, 100_000)))
def test_a_set_of_keys_survives_packing(keys: set[int]) -> None:
    """Sorted."""
    assert unpack(pack(keys)) == sorted(keys)


def test_a_bomb_is_refused_before_it_is_a_list() -> None:
    """A few kilobytes can be the bitmap of 64 million keys, which take gigabytes as a list of numbers."""
    bomb = zlib.compress(b"\xff" * 8 * 1024 * 1024, 9)
    assert len(bomb) < 16_384
    with pytest.raises(InvalidRequest, match="1,000,000"):
        unpack(bomb)


def test_what_was_not_packed_is_refused() -> None:
    """Not a crash."""
    with pytest.raises(InvalidRequest):
        unpack(b"not zlib")
