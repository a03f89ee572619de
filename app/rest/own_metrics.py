"""`GET /metrics`: the service's own metrics, for Prometheus; of all gateway processes of this host together."""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.response import Response

from app.domain.peers import Peers
from app.domain.provider import Callers
from app.errors import Unauthorized
from app.meters import METERS, Values
from app.rest.exposition import MEDIA_TYPE
from app.rest.fleet_openapi import text_answer
from app.rest.guards import bearer
from app.rest.openapi import BEARER, error_responses
from app.strangers import welcome

EXAMPLE = (
    "# HELP aiwm_nodes_connected Nodes that are connected and admitted now.\n"
    "# TYPE aiwm_nodes_connected gauge\n"
    "aiwm_nodes_connected{} 2000\n"
)


@get(
    "/metrics",
    operation_id="getMetrics",
    summary="The service's own metrics, for Prometheus",
    description=(
        "Connections, frames, rows, the buffer, flushes, acknowledgements, the event loop: the sum of all gateway "
        "processes of this host. Open to who asks from this machine, and not by way of a proxy; to others with a portal token."
    ),
    tags=["system"],
    security=[{}, {BEARER: []}],
    responses={200: text_answer("The metrics", EXAMPLE), **error_responses(401, 403, 503)},
)
async def own_metrics(
    request: Request[Any, Any, Any], peers: NamedDependency[Peers], callers: NamedDependency[Callers]
) -> Response[str]:
    """Raises Unauthorized, Forbidden, ProviderUnavailable."""
    if not _is_local(request):
        await callers.of(bearer(request.headers.get("Authorization", "")))
        welcome(request.scope)
    return Response("".join(exposition(await peers.read())), media_type=MEDIA_TYPE)


def _is_local(request: Request[Any, Any, Any]) -> bool:
    if request.client is None or "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        raise Unauthorized from None


def exposition(values: Values) -> Iterator[str]:
    """The text, one metric after the other; what was never counted is not there."""
    for meter in METERS:
        prefixes = (f"{meter.name}{{", *(f"{meter.name}_{part}{{" for part in ("bucket", "sum", "count")))
        found = [(key, value) for key, value in values.items() if key.startswith(prefixes)]
        if found:
            yield f"# HELP {meter.name} {meter.help}\n# TYPE {meter.name} {meter.type}\n"
        yield from (f"{key} {value!r}\n" for key, value in found)
