"""What strangers can reach, and what they get: the table that the tests go through and docs/security.md shows."""

from typing import Final, NamedTuple

from app.install.daemon_file import NAME


class Path(NamedTuple):
    """A path, and the status of a GET of it: without a token from elsewhere, without one from this machine, with one."""

    path: str
    elsewhere: int
    here: int
    portal_token: int
    why: str


PATHS: Final = (
    Path("/health/live", 200, 200, 200, "for load balancers and orchestrators: it says that the process lives"),
    Path("/health/ready", 200, 200, 200, "the same: whether the database answers, and is migrated"),
    Path("/schema", 200, 200, 200, "the description is the same for every installation, and public"),
    Path("/schema/openapi.json", 200, 200, 200, "the same for programs"),
    Path(
        f"/install/{NAME}", 200, 200, 200, "a machine downloads the daemon before it has any token; no secret is in it"
    ),
    Path("/metrics", 401, 200, 200, "counts of the service itself, of no org: for a Prometheus on this machine"),
    Path("/nodes", 401, 401, 200, "what belongs to an org"),
    Path("/fleet/summary", 401, 401, 200, "what belongs to an org"),
    Path("/fleet/metrics", 401, 401, 200, "what belongs to an org"),
    Path("/fleet/prometheus", 401, 401, 200, "what belongs to an org"),
    Path("/socket.io", 404, 404, 404, "a sentence for clients that speak Socket.IO"),
    Path("/nothing/here", 404, 404, 404, "there is nothing"),
)
