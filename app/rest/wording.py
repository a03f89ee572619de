"""Msgspec's complaints in the words of JSON, as the end of a sentence that starts with the field."""

import re
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final, get_args

from app.rest.parameters import NO_NUL

_KINDS: Final = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number with a fraction",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_PARTS: Final = {"str": ("character", "characters"), "array": ("entry", "entries")}
_BOUNDS: Final = {">=": "at least", "<=": "at most"}
NUL: Final = "must not contain the character NUL"
_HAS_NUL: Final = f"Expected `str` matching regex {NO_NUL!r}"
_KIND: Final = re.compile(r"Expected `([a-z |]+)`, got `([a-z]+)`")
_LENGTH: Final = re.compile(r"Expected `(str|array)` of length (>=|<=) ([0-9]+)")
_SIZE: Final = re.compile(r"Expected `int` (>=|<=) (-?[0-9]+)")


def worded(complaint: str, choices: Sequence[str] = ()) -> str:
    """What is wrong with a field; `choices` are what it may be, where it is one of a few."""
    if kind := _KIND.fullmatch(complaint):
        wanted = " or ".join(_KINDS.get(name, name) for name in kind[1].split(" | "))
        return f"must be {wanted}, not {_KINDS.get(kind[2], kind[2])}"
    if length := _LENGTH.fullmatch(complaint):
        one, many = _PARTS[length[1]]
        return f"must have {_BOUNDS[length[2]]} {length[3]} {one if length[3] == '1' else many}"
    if size := _SIZE.fullmatch(complaint):
        return f"must be {_BOUNDS[size[1]]} {size[2]}"
    if complaint == _HAS_NUL:
        return NUL
    if complaint.startswith("Invalid enum value") and choices:
        return f"must be one of {', '.join(choices)}"
    return complaint[0].lower() + complaint[1:]


def choices_of(annotation: Any) -> tuple[str, ...]:
    """The values of the enumeration in a type, wherever it stands in it; none where there is none."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(str(member.value) for member in annotation)
    return next((found for part in get_args(annotation) if (found := choices_of(part))), ())
