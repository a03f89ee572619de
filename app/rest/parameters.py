"""Query parameters that are parsed by hand, so that every wrong one is named at once, as OpenAPI describes them.

What is one parameter's own affair stands in its schema; what is between several (a range that is empty, an aggregate that
does not fit a field) is said by 400 alone.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from litestar.openapi.spec import OpenAPIFormat, OpenAPIType, Parameter, Schema

NO_NUL: Final = r"^[^\x00]*$"
"""No text may have it: PostgreSQL can neither keep nor compare it."""

ANY_TEXT: Final = Schema(type=OpenAPIType.STRING, pattern=NO_NUL)
TIME: Final = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME)
MOMENT: Final = Schema(type=OpenAPIType.STRING, pattern=r"^(now(-\d{1,9}[smhdw])?|\d{1,15}|\d{4}.+)$")
"""`domain.ranges.MOMENT_FORMS`; not every text of this shape is a day of the calendar."""


def query(name: str, description: str, schema: Schema, example: Any = None) -> Parameter:
    """A parameter that may be left out."""
    return Parameter(
        name=name, param_in="query", required=False, description=description, schema=schema, example=example
    )


def text(most: int) -> Schema:
    """From one to so many characters."""
    return Schema(type=OpenAPIType.STRING, min_length=1, max_length=most, pattern=NO_NUL)


def number(most: int, default: int | None = None) -> Schema:
    """A whole number from 1."""
    return Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=most, default=default)


def one_of(values: Iterable[str], default: str | None = None) -> Schema:
    """A word of these."""
    return Schema(type=OpenAPIType.STRING, enum=list(values), default=default)


def some_of(values: Iterable[str]) -> Schema:
    """A list of these words, with commas between them."""
    word = rf"\s*({'|'.join(map(re.escape, values))})\s*"
    return Schema(type=OpenAPIType.STRING, pattern=f"^{word}(,{word})*$")
