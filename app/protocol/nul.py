"""The one character that JSON can write and PostgreSQL cannot keep."""

from typing import Any

import msgspec

from app.errors import InvalidMessage

_anything = msgspec.json.Decoder()


def refuse_nul(frame: str) -> None:
    """Raise InvalidMessage for what PostgreSQL cannot keep. An escaped backslash before `u0000` looks the same and is fine.

    A frame that looks so and cannot be read to its end is refused too: messages are decoded without the fields that nobody
    knows, and what is wrong with those (a number too large, a nesting too deep) must not hide the character elsewhere.
    """
    if "\\u0000" not in frame:
        return
    try:
        value = _anything.decode(frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidMessage(f"The frame is not a JSON message: {error}") from None
    path = _path_of_nul(value)
    if path is not None:
        raise InvalidMessage(f"There is a NUL character in `{path or 'a name'}`; leave it out")


def _path_of_nul(frame: Any) -> str | None:
    """Where in a decoded JSON value the first NUL stands; empty for the name of a field.

    By hand: the nesting may be deeper than the stack.
    """
    waiting: list[tuple[str, Any]] = [("", frame)]
    while waiting:
        path, value = waiting.pop()
        match value:
            case str() if "\0" in value:
                return path
            case dict():
                if any("\0" in name for name in value):
                    return ""
                inner = [(f"{path}.{name}" if path else name, part) for name, part in value.items()]
                waiting.extend(reversed(inner))
            case list():
                inner = [(f"{path}[{place}]", part) for place, part in enumerate(value)]
                waiting.extend(reversed(inner))
    return None
