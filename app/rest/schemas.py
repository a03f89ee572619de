"""What requests and answers look like: the document's JSON, field by field."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from litestar.params import BodyKwarg
from msgspec import UNSET, Meta, UnsetType

from app.clock import timestamp
from app.domain.node_list import NodePage
from app.domain.nodes import MadeToken
from app.model import GpuDevice, Node, NodeRole, NodeStatus, Owner
from app.rest.parameters import NO_NUL

MIN_LIFETIME: Final = 60
MAX_LIFETIME: Final = 10 * 365 * 86_400
DEFAULT_LIFETIME: Final = 365 * 86_400

Timestamp = Annotated[str, BodyKwarg(schema_extra={"format": "date-time"}, description="UTC, milliseconds, `Z`")]
NodeId = Annotated[str, Meta(pattern="^[0-9a-f]{24}$", description="24 lower-case hex digits")]
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=NO_NUL, description="Node name; need not be unique")]
Roles = Annotated[list[NodeRole], Meta(min_length=1, description="A set: each role once")]
Address = Annotated[str, Meta(max_length=64, pattern=NO_NUL, description="VPN IP address, v4 or v6")]
Metadata = Annotated[dict[str, Any], Meta(description="Anything, at most 16 KiB as JSON")]
Reason = Annotated[str, Meta(max_length=256, pattern=NO_NUL, description="Why the status was set, for people")]
OrgId = Annotated[
    str, Meta(min_length=1, max_length=256, pattern=NO_NUL, description="For admins: the org that shall own the node")
]
Lifetime = Annotated[int, Meta(ge=MIN_LIFETIME, le=MAX_LIFETIME, description="Seconds until the token expires")]


class CreateNode(msgspec.Struct, frozen=True, rename="camel"):
    """A node to be created."""

    name: Name
    role: Roles
    is_local: bool = False
    vpn_ip: Address | None = None
    metadata: Metadata | None = None
    org_id: OrgId | None = None


class MakeToken(msgspec.Struct, frozen=True, rename="camel"):
    """What a node token shall be; everything may be left out, the body too."""

    expires_in: Lifetime = DEFAULT_LIFETIME
    revoke_previous: bool = False


class TokenMetadata(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The newest token of a node, and when its worker last connected with one."""

    token_generated_at: Timestamp | UnsetType = UNSET
    token_expires_at: Timestamp | UnsetType = UNSET
    token_last_used: Timestamp | UnsetType = UNSET


class NodeAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A node. What has no value is left out."""

    id: NodeId = msgspec.field(name="_id")
    name: str
    role: tuple[NodeRole, ...]
    status: NodeStatus
    status_reason: str | UnsetType = UNSET
    is_local: bool
    vpn_ip: str | UnsetType = UNSET
    websocket_connected: bool
    last_heartbeat: Timestamp
    gpu_devices: tuple[GpuDevice, ...] | UnsetType = UNSET
    cpu_cores: int | UnsetType = UNSET
    cpu_model: str | UnsetType = UNSET
    ram_total: float | UnsetType = UNSET
    ram_free: float | UnsetType = UNSET
    disk_total: float | UnsetType = UNSET
    hostname: str | UnsetType = UNSET
    ip_address: str | UnsetType = UNSET
    public_ip_address: str | UnsetType = UNSET
    os: str | UnsetType = UNSET
    daemon_version: str | UnsetType = UNSET
    container_runtime: str | UnsetType = UNSET
    uptime_seconds: int | UnsetType = UNSET
    cpu_usage: float | UnsetType = UNSET
    ram_usage: float | UnsetType = UNSET
    clock_skew_ms: (
        Annotated[int, Meta(description="By how much the worker's clock is behind; negative: ahead")] | UnsetType
    ) = UNSET
    token_metadata: TokenMetadata | UnsetType = UNSET
    last_seen_at: Timestamp | UnsetType = UNSET
    last_metrics_at: Timestamp | UnsetType = UNSET
    owner: Owner
    created_by: str
    updated_by: str | UnsetType = UNSET
    metadata: Annotated[msgspec.Raw, BodyKwarg(schema_extra={"type": "object"})] | UnsetType = UNSET
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def of(cls, node: Node) -> "NodeAnswer":
        """A node as the API shows it."""
        values = {name: value for name in _ALIKE if (value := getattr(node, name)) is not None}
        times: dict[str, Any] = {
            name: timestamp(value) for name in _TIMES if (value := getattr(node, name)) is not None
        }
        if node.gpus is not None:
            values["gpu_devices"] = node.gpus
        if node.metadata is not None:
            values["metadata"] = msgspec.Raw(node.metadata.encode())
        token = _token_metadata(node)
        if token is not None:
            values["token_metadata"] = token
        return cls(**values, **times)


_TIMES: Final = ("last_heartbeat", "last_seen_at", "last_metrics_at", "created_at", "updated_at")
_ALIKE: Final = [
    name for name in NodeAnswer.__struct_fields__ if name not in {*_TIMES, "gpu_devices", "token_metadata", "metadata"}
]


class NodeList(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One page of nodes. `nextCursor` is left out on the last page."""

    data: list[NodeAnswer]
    total: int
    page: int
    limit: int
    next_cursor: str | UnsetType = UNSET

    @classmethod
    def of(cls, page: NodePage) -> "NodeList":
        """A page as the API shows it."""
        return cls(
            data=[NodeAnswer.of(node) for node in page.data],
            total=page.total,
            page=page.page,
            limit=page.limit,
            next_cursor=UNSET if page.next_cursor is None else page.next_cursor,
        )


class TokenAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """A node token and its installation script. Neither is shown again."""

    token: str
    expires_at: Timestamp
    install_script: str

    @classmethod
    def of(cls, made: MadeToken) -> "TokenAnswer":
        """A token as the API shows it."""
        return cls(made.token, timestamp(made.expires_at), made.install_script)


class Message(msgspec.Struct, frozen=True):
    """A sentence that says what was done."""

    message: str


class Health(msgspec.Struct, frozen=True):
    """All is well."""

    status: str


class Detail(msgspec.Struct, frozen=True):
    """One field that is wrong, and why."""

    field: str
    message: str


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Every error looks like this. `details` comes with 400, `requestId` with 500: the log has it too."""

    status_code: int
    error: str
    message: str
    path: str
    timestamp: Timestamp
    details: tuple[Detail, ...] | UnsetType = UNSET
    request_id: str | UnsetType = UNSET


def _token_metadata(node: Node) -> TokenMetadata | None:
    times: dict[str, datetime | None] = {
        "token_generated_at": node.token_generated_at,
        "token_expires_at": node.token_expires_at,
        "token_last_used": node.token_last_used,
    }
    known = {name: timestamp(moment) for name, moment in times.items() if moment is not None}
    return TokenMetadata(**known) if known else None
