"""Statements as asyncpg itself takes them."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.asyncpg import dialect


class Statement(NamedTuple):
    """A statement's text, its parameters in order, and those of them that never change."""

    sql: str
    names: tuple[str, ...]
    constants: dict[str, Any]

    def arguments(self, values: Mapping[str, Any]) -> Iterator[Any]:
        """What asyncpg wants behind the text, for these values of its parameters."""
        return (values[name] if name in values else self.constants[name] for name in self.names)


def compiled(select_: Select[Any]) -> Statement:
    """A statement for asyncpg itself."""
    text = select_.compile(dialect=_DIALECT)
    constants = {name: value for name, value in text.params.items() if value is not None}
    return Statement(str(text), tuple(text.positiontup or ()), constants)


_DIALECT: Final = dialect()  # type: ignore[no-untyped-call]
