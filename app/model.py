"""The words of the house: nodes, their owners, their GPUs and their samples. No I/O."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

NODE_ID: Final = re.compile(r"[0-9a-f]{24}")
"""Shape of a node's `_id`: 24 lower-case hex digits, as MongoDB writes its own."""


class NodeStatus(StrEnum):
    """A node's life, as the portal shows it."""

    PENDING = "pending"
    INSTALLING = "installing"
    ONLINE = "online"
    OFFLINE = "offline"
    MAINTENANCE = "maintenance"


class EventKind(StrEnum):
    """What can happen to a node. The database itself writes `status`, `taken_over` and `clock_skew`."""

    CREATED = "created"
    CHANGED = "changed"
    DELETED = "deleted"
    TOKEN_MADE = "token_made"  # noqa: S105 – a word, not a secret
    TOKEN_RENEWED = "token_renewed"  # noqa: S105 – as above
    TOKENS_REVOKED = "tokens_revoked"
    REGISTERED = "registered"
    HARDWARE_CHANGED = "hardware_changed"
    GPU_APPEARED = "gpu_appeared"
    GPU_VANISHED = "gpu_vanished"
    GPU_RETURNED = "gpu_returned"
    GPU_XID = "gpu_xid"
    GPU_ECC_UNCORRECTED = "gpu_ecc_uncorrected"
    STATUS = "status"
    TAKEN_OVER = "taken_over"
    CLOCK_SKEW = "clock_skew"


class NodeRole(StrEnum):
    """What a node does in the platform."""

    CONTROLLER = "controller"
    WORKER = "worker"
    PROXY = "proxy"
    STORAGE = "storage"


class CallerRole(StrEnum):
    """What the bearer of a portal token may do; each role may also do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Owner(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Whom a node belongs to, taken from its creator's token."""

    org_id: str | None = None
    group_id: str | None = None
    agent_id: str | None = None
    app_id: str | None = None


class Caller(msgspec.Struct, frozen=True):
    """The bearer of a verified portal token, and the IP address that the request came from."""

    subject: str
    role: CallerRole
    owner: Owner
    address: str | None = None

    @property
    def is_admin(self) -> bool:
        """Admins see and change every org."""
        return self.role is CallerRole.ADMIN


class SampleKind(StrEnum):
    """Which of the document's two telemetry messages a sample came with."""

    HEARTBEAT = "heartbeat"
    METRICS = "metrics"


class GpuReading(msgspec.Struct, frozen=True, gc=False):
    """One GPU's part of a sample; `values` in steps, in the order of its field catalogue."""

    device_id: str
    model: str | None
    values: tuple[Any, ...]


class GpuDetails(msgspec.Struct, frozen=True, gc=False):
    """What a sample tells of one GPU beyond the document; `gpu` is its place among the sample's GPUs."""

    gpu: int
    values: tuple[Any, ...]


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One telemetry message, measured: `values` in steps, in the order of its field catalogue.

    `time` is the worker's own, UTC, cut to milliseconds; with the node, the kind and the GPU it is
    the sample's identity. `details` are of those GPUs that have any.
    """

    kind: SampleKind
    time: datetime
    values: tuple[Any, ...]
    gpus: tuple[GpuReading, ...]
    details: tuple[GpuDetails, ...] = ()


class GpuEvent(msgspec.Struct, frozen=True):
    """What a worker tells of a GPU that no number can; `time` is the worker's own, cut to milliseconds.

    `detail` is JSON text, the same for the same event however often it is sent.
    """

    time: datetime
    kind: EventKind
    detail: str


class GpuDevice(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A GPU as the API shows it: memory in GB, utilization in percent, temperature in °C."""

    device_id: str
    model: str | None = None
    memory_total: float | None = None
    memory_free: float | None = None
    utilization: float | None = None
    temperature: float | None = None


class Hardware(msgspec.Struct, frozen=True):
    """What NODE_REGISTER tells about a machine; memory and disk in GB."""

    hostname: str
    os: str
    cpu_cores: int | None
    ram_total: float | None
    gpus: tuple[GpuDevice, ...]
    ip_address: str | None = None
    public_ip_address: str | None = None
    cpu_model: str | None = None
    disk_total: float | None = None
    daemon_version: str | None = None
    uptime_seconds: int | None = None
    container_runtime: str | None = None


class NodeSort(StrEnum):
    """The orders of a list of nodes, as the API writes them; `-` for descending."""

    NAME = "name"
    NAME_DESCENDING = "-name"
    CREATED = "createdAt"
    CREATED_DESCENDING = "-createdAt"
    HEARTBEAT = "lastHeartbeat"
    HEARTBEAT_DESCENDING = "-lastHeartbeat"

    @property
    def descending(self) -> bool:
        """Whether the greatest comes first."""
        return self.value.startswith("-")

    @property
    def field(self) -> str:
        """What is compared, whichever way."""
        return self.value.removeprefix("-")


class NodeFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which nodes of a list; None and () leave a condition out."""

    org_id: str | None = None
    status: NodeStatus | None = None
    role: NodeRole | None = None
    name: str | None = None
    search: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    changed_since: datetime | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node with its hardware, its present state and its GPUs; memory and disk in GB, usage in percent.

    `metadata` is JSON text, passed through as the database has it. `gpus` is None before the first
    registration.
    """

    key: int
    id: str
    name: str
    role: tuple[NodeRole, ...]
    status: NodeStatus
    status_reason: str | None
    is_local: bool
    vpn_ip: str | None
    metadata: str | None
    websocket_connected: bool
    last_heartbeat: datetime
    last_seen_at: datetime | None
    last_metrics_at: datetime | None
    hostname: str | None
    os: str | None
    cpu_cores: int | None
    cpu_model: str | None
    ram_total: float | None
    ram_free: float | None
    disk_total: float | None
    ip_address: str | None
    public_ip_address: str | None
    daemon_version: str | None
    container_runtime: str | None
    uptime_seconds: int | None
    cpu_usage: float | None
    ram_usage: float | None
    clock_skew_ms: int | None
    gpus: tuple[GpuDevice, ...] | None
    registered_at: datetime | None
    disabled: bool
    token_generation: int
    token_generated_at: datetime | None
    token_expires_at: datetime | None
    token_last_used: datetime | None
    owner: Owner
    created_by: str
    updated_by: str | None
    created_at: datetime
    updated_at: datetime


class NodeChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What to change of a node; UNSET leaves a value as it is, None clears it."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    role: tuple[NodeRole, ...] | msgspec.UnsetType = msgspec.UNSET
    is_local: bool | msgspec.UnsetType = msgspec.UNSET
    vpn_ip: str | None | msgspec.UnsetType = msgspec.UNSET
    metadata: str | None | msgspec.UnsetType = msgspec.UNSET
    status: NodeStatus | msgspec.UnsetType = msgspec.UNSET
    status_reason: str | None | msgspec.UnsetType = msgspec.UNSET
