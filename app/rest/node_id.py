"""The `:id` of a path: its shape is checked before anybody is asked for the node."""

from typing import Annotated

from litestar.params import PathParameter

from app.errors import InvalidRequest
from app.model import NODE_ID

PathId = Annotated[
    str,
    PathParameter(description="The node's `_id`: 24 lower-case hex digits", schema_extra={"pattern": "^[0-9a-f]{24}$"}),
]


def checked(node_id: str) -> str:
    """The id, if it is one. Raises InvalidRequest."""
    if not NODE_ID.fullmatch(node_id):
        raise InvalidRequest.of("_id", "must be 24 lower-case hex digits")
    return node_id
