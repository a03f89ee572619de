"""The file of an import: nodes as CSV, as JSON lines, or as one name a line."""

import csv
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from app.errors import StartupError

_METADATA: Final = "metadata."
_COLUMNS: Final = ("name", "role", "isLocal", "vpnIp")
_BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Row(msgspec.Struct, frozen=True):
    """One node of the file: its place, and the body of its POST /nodes."""

    line: int
    body: dict[str, Any]

    @property
    def name(self) -> str:
        """By which a repeated import knows it again."""
        return str(self.body["name"])


def read_rows(text: str) -> list[Row]:
    """The nodes of a file, in its order. Raises StartupError that names the line."""
    lines = text.removeprefix("\ufeff").splitlines()
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("{"):
        rows = list(_of_json(lines))
    elif "name" in _split(first):
        rows = list(_of_csv(lines))
    else:
        names = ((number, line.strip()) for number, line in enumerate(lines, 1))
        rows = [Row(number, _body({"name": name})) for number, name in names if name and not name.startswith("#")]
    if not rows:
        raise StartupError(
            "There is no node in the file: give one name a line, a CSV with a column name, or JSON lines."
        )
    _refuse_doubles(rows)
    return rows


def _of_json(lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            body = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise StartupError(f"Line {number} is no JSON object: {error}.") from None
        if not isinstance(body.get("name"), str) or not body["name"]:
            raise StartupError(f"Line {number} has no name.")
        yield Row(number, _body(body))


def _of_csv(lines: list[str]) -> Iterator[Row]:
    table = csv.reader(lines, skipinitialspace=True)
    header = [name.strip() for name in next(it for it in table if any(it))]
    unknown = [name for name in header if name not in _COLUMNS and not name.startswith(_METADATA)]
    if unknown:
        raise StartupError(
            f"The column {unknown[0]!r} says nothing to an import: there are {', '.join(_COLUMNS)} and metadata.<key>."
        )
    for values in table:
        if any(values):
            if len(values) != len(header):
                raise StartupError(f"Line {table.line_num} has {len(values)} values for {len(header)} columns.")
            cells = {name: value.strip() for name, value in zip(header, values, strict=True) if value.strip()}
            yield Row(table.line_num, _body(_typed(cells, table.line_num)))


def _typed(cells: dict[str, str], line: int) -> dict[str, Any]:
    """A line of text as JSON. A node may have several roles, with blanks or semicolons between them."""
    if "name" not in cells:
        raise StartupError(f"Line {line} has no name.")
    body: dict[str, Any] = {name: value for name, value in cells.items() if not name.startswith(_METADATA)}
    if "role" in body:
        body["role"] = body["role"].replace(";", " ").split()
    if "isLocal" in body:
        if body["isLocal"].lower() not in _BOOLEANS:
            raise StartupError(f"isLocal in line {line} is {body['isLocal']!r}: write true or false.")
        body["isLocal"] = _BOOLEANS[body["isLocal"].lower()]
    metadata = {name.removeprefix(_METADATA): value for name, value in cells.items() if name.startswith(_METADATA)}
    return body | ({"metadata": metadata} if metadata else {})


def _body(given: dict[str, Any]) -> dict[str, Any]:
    return {"role": ["worker"], **given}


def _split(line: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([line]), [])]


def _refuse_doubles(rows: list[Row]) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        if row.name in seen:
            raise StartupError(
                f"Lines {seen[row.name]} and {row.line} both name {row.name!r}: an import knows its nodes by their names."
            )
        seen[row.name] = row.line
