"""The query string of GET /nodes."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from app.domain.node_list import NodeQuery
from app.errors import FieldProblem, InvalidRequest
from app.model import NodeFilter, NodeRole, NodeSort, NodeStatus

MAX_LIMIT: Final = 1000
MAX_PAGE: Final = 2**53  # page × limit stays a bigint
METADATA_PREFIX: Final = "metadata."

MAX_TEXT: Final = 1024
_Choice = TypeVar("_Choice", bound=Enum)


def parse(parameters: Iterable[tuple[str, str]]) -> NodeQuery:
    """The list that a query string asks for. Raises InvalidRequest that names every parameter in the way."""
    values: dict[str, Any] = {}
    metadata: list[tuple[str, str]] = []
    problems: list[FieldProblem] = []
    seen: set[str] = set()
    for name, text in parameters:
        try:
            if name in seen:
                raise ValueError("is given more than once")
            seen.add(name)
            if "\0" in name + text:
                raise ValueError("must not contain the character NUL")
            if name.startswith(METADATA_PREFIX) and name != METADATA_PREFIX:
                metadata.append((name.removeprefix(METADATA_PREFIX), text))
            elif name in _PARSERS:
                values[name] = _PARSERS[name](text)
            else:
                raise ValueError("is not a parameter of this list")
        except ValueError as error:
            problems.append(FieldProblem(name, str(error)))
    if problems:
        raise InvalidRequest(*problems)
    return _query(values, tuple(metadata))


def _query(values: Mapping[str, Any], metadata: tuple[tuple[str, str], ...]) -> NodeQuery:
    only = NodeFilter(
        org_id=values.get("orgId"),
        status=values.get("status"),
        role=values.get("role"),
        name=values.get("name"),
        search=values.get("search"),
        metadata=metadata,
        changed_since=values.get("changedSince"),
    )
    paging = {name: values[name] for name in ("page", "limit", "sort", "cursor") if name in values}
    return NodeQuery(only=only, **paging)


def _whole_number(high: int) -> Callable[[str], int]:
    def parse_number(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or len(text) > 20 or not 1 <= int(text) <= high:
            raise ValueError(f"must be a whole number from 1 to {high}")
        return int(text)

    return parse_number


def _one_of(choices: type[_Choice]) -> Callable[[str], _Choice]:
    def parse_choice(text: str) -> _Choice:
        try:
            return choices(text)
        except ValueError:
            raise ValueError(f"must be one of {', '.join(str(choice.value) for choice in choices)}") from None

    return parse_choice


def _text(text: str) -> str:
    if not 1 <= len(text) <= MAX_TEXT:
        raise ValueError(f"must have 1 to {MAX_TEXT} characters")
    return text


def _moment(text: str) -> datetime:
    try:
        moment: datetime = msgspec.convert(text, Annotated[datetime, Meta(tz=True)])
        return moment.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise ValueError("must be a time such as 2025-11-21T10:00:00.000Z") from None


_PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "page": _whole_number(MAX_PAGE),
    "limit": _whole_number(MAX_LIMIT),
    "status": _one_of(NodeStatus),
    "role": _one_of(NodeRole),
    "name": _text,
    "search": _text,
    "orgId": _text,
    "changedSince": _moment,
    "sort": _one_of(NodeSort),
    "cursor": str,
}
