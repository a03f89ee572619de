"""`GET /install/…`: the daemon, for the machine on which an installation script runs."""

import base64
from dataclasses import replace
from typing import Any, Final

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.response import Response

from app.errors import AiwmError
from app.install.daemon_file import NAME, DaemonFile
from app.rest.openapi import error_responses

MEDIA_TYPE: Final = "application/zip"


class NoDaemonFile(AiwmError):
    """The service runs from a source tree in which nobody made the file."""

    status = 503
    default = (
        "This service has no daemon to give: install its wheel, or say `make daemon` where it runs, and restart it"
    )


@get(
    f"/install/{NAME}",
    operation_id="getDaemonFile",
    summary="The daemon of GPU machines, as one file",
    description=(
        "A zip of this service's version that installation scripts download, check and unpack; open to all. `ETag` is its "
        "SHA-256 in hexadecimal, which a conditional request may repeat (304), `Repr-Digest` the same as RFC 9530 writes it."
    ),
    tags=["install"],
    security=[{}],
    responses={
        200: ResponseSpec(bytes, generate_examples=False, description="The file", media_type=MEDIA_TYPE),
        **error_responses(),
        503: replace(error_responses(503)[503], description=NoDaemonFile.default, examples=None),
    },
)
async def daemon_file(request: Request[Any, Any, Any], daemon: NamedDependency[DaemonFile | None]) -> Response[bytes]:
    """Raises NoDaemonFile."""
    if daemon is None:
        raise NoDaemonFile
    headers = {
        "ETag": f'"{daemon.sha256}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(daemon.sha256)).decode()}:",
        # It may be kept, but the next build of a version has the same name.
        "Cache-Control": "public, no-cache",
    }
    if _is_known(request.headers.get("If-None-Match", ""), daemon.sha256):
        return Response(b"", status_code=304, headers=headers)
    return Response(daemon.content, media_type=MEDIA_TYPE, headers=headers)


def _is_known(tags: str, sha256: str) -> bool:
    """Whether one of the tags that a client has is that of the file."""
    return any(tag.strip().removeprefix("W/") in {f'"{sha256}"', "*"} for tag in tags.split(","))
