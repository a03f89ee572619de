"""Everything that is reached by HTTP, for the composition root to hang below its base path."""

from litestar import Router
from litestar.di import Provide
from litestar.types import ASGIApp, ControllerRouterHandler

from app.domain.provider import Callers
from app.rest.events import EventsController
from app.rest.fleet import FleetController
from app.rest.guards import Authentication, provide_caller
from app.rest.history import HistoryController
from app.rest.install import daemon_file
from app.rest.nodes import NodeController
from app.rest.own_metrics import own_metrics
from app.rest.system import live, ready, socket_io, socket_io_upgrade


def rest_handlers(callers: Callers) -> list[ControllerRouterHandler]:
    """The handlers: those behind a portal token in a router of their own, and those open to all.

    They ask for the dependencies `nodes` (domain.nodes.Nodes), `history` (domain.history.History), `fleet`
    (domain.fleet.Fleet), `peers` (domain.peers.Peers), `callers` (domain.provider.Callers), `database`
    (storage.database.Database), and `daemon` (install.daemon_file.DaemonFile, or None).
    """

    def authentication(app: ASGIApp) -> Authentication:
        # Not DefineMiddleware: Litestar copies its arguments deeply, and the service has one clock, not two.
        return Authentication(app, callers)

    behind_token = Router(
        path="/",
        route_handlers=[NodeController, HistoryController, EventsController, FleetController],
        middleware=[authentication],
        dependencies={"caller": Provide(provide_caller)},
    )
    return [behind_token, live, ready, own_metrics, daemon_file, socket_io, socket_io_upgrade]
