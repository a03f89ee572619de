"""The document's frames, and what becomes of them in hostile hands: the structure is kept and one thing in it is wrong.

A frame is mutated as a tree and written by hand, so that it can be what no encoder would write: names given twice, numbers
without end, half surrogate pairs, a text cut in the middle.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st

from tests.frames import DETAILS, gpu_event, heartbeat, metrics, register, token_renew


class Raw(str):
    """A token of JSON, or what is none, written as it stands."""

    __slots__ = ()


class Pairs(NamedTuple):
    """An object by its names and values: a name may stand twice."""

    items: list[tuple[Any, Any]]


NUMBERS: Final = [
    *(
        "0",
        "-0",
        "-1",
        "1",
        "0.1",
        "101",
        "1e-400",
        "1e308",
        "1e400",
        "-1e400",
        "1E+9999",
        "9" * 400,
        "0." + "1" * 5000,
    ),
    *(str(2**each + more) for each in (15, 31, 53, 63, 64) for more in (-1, 0)),
    *("NaN", "Infinity", "00", "0x10", "1_000", "+1", ".5"),
]
TEXTS: Final = [
    *('""', '"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\udc00\\ud800"', '"\\uD83D\\uDE00"', '"\\"', '"\\x"', '"\x01"'),
    *('"' + "a" * length + '"' for length in (256, 257, 70_000)),
    *('"' + "\U0001f4a9" * length + '"' for length in (128, 257)),
    *('"\\r\\n"', '"\u202e"', '"\ufeff"', '"\u2028"', '"%s%n{0}"', '"\'; DROP TABLE nodes; --"', '"\\\\u0000"'),
]
MOMENTS: Final = [
    f'"{each}"'
    for each in (
        *(
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
        ),
        *("2026-11-23T12:00:00", "2026-11-23", "2026-02-30T00:00:00Z", "2026-11-23T24:00:00Z", "2026-11-23T12:00:60Z"),
        *("2026-11-23t12:00:00z", "2026-11-23T12:00:00.123456789Z", "2026-11-23T12:00:00,5Z", "1764000000000", "now"),
    )
]
OTHERS: Final = ["null", "true", "{}", "[]", "[[]]", '{"": {}}', "[" * 400 + "]" * 400, '{"a":' * 400 + "1" + "}" * 400]
DEEP: Final = ["[" * 5000 + "]" * 5000, "[" * 60_000, '{"a":' * 5000 + "1" + "}" * 5000]

_FRAMES: Final[list[Callable[[], dict[str, Any]]]] = [register, heartbeat, metrics, gpu_event, token_renew]


def frames() -> st.SearchStrategy[str | bytes]:
    """Frames with one to four things wrong, and a few that are none."""
    return _mutated_frames()


def hostile() -> st.SearchStrategy[Any]:
    """A value that may stand anywhere."""
    written = st.sampled_from([*NUMBERS, *TEXTS, *MOMENTS, *OTHERS]) | st.sampled_from(DEEP)
    scalars = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=40)
    )
    return written.map(Raw) | scalars


def akin(to: Any) -> st.SearchStrategy[Any]:
    """A value of the kind that is expected, though not one that anybody would send."""
    match to:
        case int() | float():
            numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.none()
            return st.sampled_from(NUMBERS).map(Raw) | numbers
        case str() if to.endswith("Z"):
            return st.sampled_from(MOMENTS).map(Raw) | st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")
        case str():
            return st.sampled_from(TEXTS).map(Raw) | st.text(max_size=260)
        case _:
            return hostile()


@st.composite
def _mutated_frames(draw: st.DrawFn) -> str | bytes:
    frame = draw(st.sampled_from(_FRAMES))()
    if frame["type"].startswith("TELEMETRY") and draw(st.booleans()):
        frame["ack"] = True
    if frame["type"] == "TELEMETRY_METRICS" and draw(st.booleans()):
        frame["data"]["gpus"][0] |= DETAILS
    tree = _tree(frame)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 4]))):
        tree = _mutated(draw, tree)
    text = written(tree)
    match draw(st.integers(0, 19)):
        case 0:
            return text[: draw(st.integers(0, len(text)))]
        case 1:
            cut = draw(st.integers(0, len(text)))
            return text[:cut] + draw(st.text(max_size=3)) + text[cut:]
        case 2:
            return draw(st.binary(max_size=64) | st.text(max_size=64))
        case _:
            return text


def _mutated(draw: st.DrawFn, tree: Any) -> Any:
    """The tree with something wrong at one of its places; most often a value is odd, and of the right kind."""
    places = [*_places(tree)]
    leaves = [place for place in places if not isinstance(_at(tree, place), Pairs | list)]
    in_four = draw(st.integers(0, 3))
    if leaves and in_four:
        place = draw(st.sampled_from(leaves))
        value = draw(akin(_at(tree, place)))
        return _changed(tree, place, lambda _: value)
    place = draw(st.sampled_from(places))
    what = draw(st.sampled_from(["replace", "drop", "twice", "many", "unknown", "unknown", "rename"]))
    value = draw(hostile())
    number = draw(st.sampled_from([2, 127, 128, 129]))

    def change(found: Any) -> Any:
        match what, found:
            case "drop", Pairs([_, *_]):
                return Pairs(found.items[1:])
            case "twice", Pairs([(name, _), *_]):
                return Pairs([*found.items, (name, value)])
            case "unknown", Pairs():
                return Pairs([(str(number), value), *found.items])
            case "rename", Pairs([(_, first), *_]):
                return Pairs([(value, first), *found.items[1:]])
            case "many", [first, *_]:
                return [first] * number
            case _:
                return value

    return _changed(tree, place, change)


def _tree(value: Any) -> Any:
    match value:
        case dict():
            return Pairs([(name, _tree(part)) for name, part in value.items()])
        case list():
            return [_tree(part) for part in value]
        case _:
            return value


def _places(tree: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    yield path
    parts = [part for _, part in tree.items] if isinstance(tree, Pairs) else tree if isinstance(tree, list) else []
    for number, part in enumerate(parts):
        yield from _places(part, (*path, number))


def _at(tree: Any, path: tuple[int, ...]) -> Any:
    for number in path:
        tree = tree.items[number][1] if isinstance(tree, Pairs) else tree[number]
    return tree


def _changed(tree: Any, path: tuple[int, ...], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(tree)
    first, *rest = path
    if isinstance(tree, Pairs):
        items = [*tree.items]
        items[first] = (items[first][0], _changed(items[first][1], tuple(rest), change))
        return Pairs(items)
    return [*tree[:first], _changed(tree[first], tuple(rest), change), *tree[first + 1 :]]


def written(tree: Any) -> str:
    """A tree as JSON, or nearly."""
    match tree:
        case Raw():
            return str(tree)
        case Pairs():
            names = (name if isinstance(name, Raw) else json.dumps(str(name)) for name, _ in tree.items)
            parts = (written(part) for _, part in tree.items)
            return "{" + ", ".join(f"{name}: {part}" for name, part in zip(names, parts, strict=True)) + "}"
        case list():
            return "[" + ", ".join(map(written, tree)) + "]"
        case _:
            return json.dumps(tree, ensure_ascii=False)
