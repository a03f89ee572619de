"""History as files: CSV for people, Parquet and Arrow for programs; written and sent piece by piece."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

from litestar import Request
from litestar.response import Stream

from app.domain.exports import Column, Export
from app.errors import InvalidRequest
from app.rest.format import MEDIA_TYPES, PARAMETER, Format

if TYPE_CHECKING:
    from app.rest.table_writer import TableWriter


_BY_MEDIA_TYPE: Final = {media_type: format_ for format_, media_type in MEDIA_TYPES.items()}
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")

Parameters = list[tuple[str, str]]


def asked_format(request: Request[Any, Any, Any]) -> tuple[Format, Parameters]:
    """What the answer is to be written in, by `format` or else by `Accept`; and the other parameters.

    JSON where `Accept` names nothing that there is. Raises InvalidRequest.
    """
    parameters = list(request.query_params.multi_items())
    asked = [text for name, text in parameters if name == PARAMETER]
    if len(asked) > 1:
        raise InvalidRequest.of(PARAMETER, "is given more than once")
    if not asked:
        return _preferred(request), parameters
    if asked[0] not in list(Format):
        raise InvalidRequest.of(PARAMETER, f"must be one of {', '.join(Format)}")
    return Format(asked[0]), [each for each in parameters if each[0] != PARAMETER]


def _preferred(request: Request[Any, Any, Any]) -> Format:
    """What `Accept` prefers of the formats that there are."""
    try:
        best = request.accept.best_match(list(_BY_MEDIA_TYPE))
    except OverflowError:  # a weight without end
        raise InvalidRequest.of("Accept", "is not a list of media types with weights from 0 to 1") from None
    return Format.JSON if best is None else _BY_MEDIA_TYPE[best]


async def table(export: Export, format_: Format) -> Stream:
    """A table under way. What goes wrong before its first rows is an error's answer, later the answer breaks off."""
    chunks = _chunks(export, format_)
    first = await anext(chunks)
    name = f"{_UNSAFE.sub('-', export.name).strip('-.') or 'history'}.{format_}"
    return Stream(
        _joined(first, chunks),
        media_type=MEDIA_TYPES[format_],
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Vary": "Accept"},
    )


async def _joined(first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in others:
        yield chunk


async def _chunks(export: Export, format_: Format) -> AsyncIterator[bytes]:
    """The file, as much at a time as its writer gives out. Writing is done beside the event loop."""
    writer = await asyncio.to_thread(_writer, export.columns, format_)
    async for rows in export.pieces:
        if chunk := await asyncio.to_thread(writer.write, rows):
            yield chunk
    yield await asyncio.to_thread(writer.end)


def _writer(columns: tuple[Column, ...], format_: Format) -> "TableWriter":
    from app.rest.table_writer import TableWriter  # noqa: PLC0415 – 50 MB that most gateways never need

    return TableWriter(columns, format_)
