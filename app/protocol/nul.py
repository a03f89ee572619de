"""The one character that JSON can write and PostgreSQL cannot keep."""

from typing import Any

import msgspec

from app.errors import InvalidMessage

_anything = msgspec.json.Decoder()


def refuse_nul(frame: str) -> None:
    """Raise InvalidMessage for what PostgreSQL cannot keep. An escaped backslash before `u0000` looks the same and is fine."""
    if "\\u0000" not in frame:
        return
    try:
        path = _path_of_nul(_anything.decode(frame), "")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return  # what is no JSON is refused as such
    if path is not None:
        raise InvalidMessage(f"There is a NUL character in `{path or 'a name'}`; leave it out")


def _path_of_nul(value: Any, path: str) -> str | None:
    """Where in a decoded JSON value the first NUL stands; empty for the name of a field."""
    if isinstance(value, str):
        return path if "\0" in value else None
    inner: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        if any("\0" in name for name in value):
            return ""
        inner = [(f"{path}.{name}" if path else name, part) for name, part in value.items()]
    elif isinstance(value, list):
        inner = [(f"{path}[{place}]", part) for place, part in enumerate(value)]
    found = (_path_of_nul(part, where) for where, part in inner)
    return next((each for each in found if each is not None), None)
