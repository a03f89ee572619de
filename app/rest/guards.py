"""Who calls, and whether they may: the portal token of a request, verified once.

The middleware puts the caller where handlers and guards find it, before anything of the request's body
is read. A portal token is verified by its signature alone; the database is not asked.
"""

from typing import Any, Final

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.types import ASGIApp, Guard

from app.addresses import peer_address
from app.domain.provider import Callers
from app.errors import Forbidden, Unauthorized
from app.model import Caller, CallerRole
from app.strangers import welcome

_RANK: Final = {role: rank for rank, role in enumerate(CallerRole)}


class Authentication(AbstractAuthenticationMiddleware):
    """`Authorization: Bearer <portal token>`, or 401."""

    def __init__(self, app: ASGIApp, callers: Callers) -> None:
        super().__init__(app, scopes={ScopeType.HTTP})
        self._callers = callers

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """The caller, as `request.user`. Raises Unauthorized, Forbidden, ProviderUnavailable."""
        token = bearer(connection.headers.get("Authorization", ""))
        caller = await self._callers.of(token)
        welcome(connection.scope)
        return AuthenticationResult(
            user=msgspec.structs.replace(caller, address=peer_address(connection.scope)), auth=None
        )


def bearer(header: str) -> str:
    """The token of an Authorization header. Raises Unauthorized where there is none."""
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized
    return token.strip()


async def provide_caller(request: Request[Caller, None, State]) -> Caller:
    """The caller, for handlers."""
    return request.user


def requires(role: CallerRole) -> Guard:
    """A guard that lets in this role and those above it. Raises Forbidden."""

    # Litestar would run a plain function in a thread, and a thread that waits for its turn makes all others wait for theirs.
    async def guard(connection: ASGIConnection[Any, Caller, None, State], _: BaseRouteHandler) -> None:
        if _RANK[connection.user.role] < _RANK[role]:
            raise Forbidden(f"Insufficient permissions: this needs the role {role.value}")

    return guard
