"""Frames that go past the parser of websockets say what it would have said, and those that it knows better go to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol

from app.ws.frames import frame_of, is_between_frames, text_at

TEXTS = st.binary(max_size=300) | st.sampled_from([bytes(length) for length in (0, 125, 126, 127, 65_535, 65_536)])
FRAMES = st.builds(
    lambda opcode, text, fin, mask: Frame(opcode, text, fin=fin).serialize(mask=mask),
    st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT]),
    TEXTS,
    st.booleans(),
    st.booleans(),
)


def server() -> Protocol:
    return Protocol(SERVER, state=OPEN, max_size=None)


def parsed(data: bytes) -> list[Frame]:
    """As websockets reads it."""
    protocol = server()
    protocol.receive_data(data)
    return [event for event in protocol.events_received() if isinstance(event, Frame)]


@given(
    st.lists(FRAMES, max_size=4).map(b"".join)
    | st.binary(max_size=200)
    | st.builds(lambda data: b"\x81" + data, st.binary(max_size=200))
)
def test_what_is_taken_for_a_text_is_one(data: bytes) -> None:
    """And ends where it ends, so that the parser takes up the rest."""
    found, begin = [], 0
    while (text := text_at(data, begin)) is not None:
        found.append(Frame(Opcode.TEXT, text[0]))
        begin = text[1]
    assert parsed(data)[: len(found)] == found
    assert parsed(data[:begin]) == found


@given(TEXTS.filter(lambda text: len(text) < 65_536))
def test_a_whole_text_is_taken(text: bytes) -> None:
    """Only the largest are left to the parser."""
    frame = Frame(Opcode.TEXT, text).serialize(mask=True)
    assert text_at(b"before" + frame + b"behind", 6) == (text, 6 + len(frame))


@given(TEXTS)
def test_what_is_sent_is_a_text(text: bytes) -> None:
    """As websockets writes it."""
    assert frame_of(text) == Frame(Opcode.TEXT, text).serialize(mask=False)


@given(FRAMES, st.data())
def test_a_frame_that_has_begun_is_known(data: bytes, draw: st.DataObject) -> None:
    """Wherever it is cut, behind its first byte and before its last."""
    protocol = server()
    cut = draw.draw(st.integers(0, len(data) - 1))
    protocol.receive_data(data[:cut])
    if protocol.state is OPEN:
        assert is_between_frames(protocol) is (cut == 0)


@pytest.mark.parametrize(("fin", "is_between"), [(True, True), (False, False)])
def test_a_message_that_has_begun_is_known(*, fin: bool, is_between: bool) -> None:
    """Its next fragment is no frame to be taken by itself."""
    protocol = server()
    protocol.receive_data(Frame(Opcode.TEXT, b"x", fin=fin).serialize(mask=True))
    assert is_between_frames(protocol) is is_between
    client = Protocol(CLIENT, state=OPEN)
    assert is_between_frames(client)
