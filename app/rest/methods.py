"""`OPTIONS`: which methods a path has. Litestar's own answer knows those alone that came before it, one controller's first."""

from http import HTTPMethod, HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.routes import HTTPRoute


async def answer_options(request: Request[Any, Any, Any]) -> Response[None] | None:
    """The answer to OPTIONS, with all methods of the path; None for every other method."""
    if request.method != HTTPMethod.OPTIONS:
        return None
    routes = (route for route in request.app.routes if isinstance(route, HTTPRoute))
    here = next(route for route in routes if route.path_format == request.scope["path_template"])
    return Response(None, status_code=HTTPStatus.NO_CONTENT, headers={"Allow": ", ".join(sorted(here.methods))})
