"""PUT /nodes/:id: what may be written, and a node that is sent back as it was got.

A portal reads a node, changes a field and sends the whole back. Read-only fields are therefore taken
where they say what is so. What moves by itself (heartbeats move it) may meanwhile be older, as a copy
says with its `updatedAt`.
"""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.clock import to_milliseconds
from app.errors import FieldProblem, InvalidRequest
from app.model import Node, NodeChanges, NodeStatus
from app.rest.bodies import encode_metadata
from app.rest.schemas import Address, Metadata, Name, NodeAnswer, Reason, Roles

ReadOnly = Annotated[Any, Meta(description="Read-only: taken where it is unchanged")]
Moving = Annotated[Any, Meta(description="Read-only: taken where it is unchanged, or older as `updatedAt` is")]


class UpdateNode(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Changes of a node; what is left out stays, null clears."""

    name: Name | UnsetType = UNSET
    role: Roles | UnsetType = UNSET
    is_local: bool | UnsetType = UNSET
    vpn_ip: Address | None | UnsetType = UNSET
    metadata: Metadata | None | UnsetType = UNSET
    status: NodeStatus | UnsetType = UNSET
    status_reason: Reason | None | UnsetType = UNSET
    id: ReadOnly = msgspec.field(name="_id", default=UNSET)
    owner: ReadOnly = UNSET
    created_by: ReadOnly = UNSET
    updated_by: ReadOnly = UNSET
    created_at: ReadOnly = UNSET
    deleted_at: ReadOnly = UNSET
    hostname: ReadOnly = UNSET
    ip_address: ReadOnly = UNSET
    public_ip_address: ReadOnly = UNSET
    os: ReadOnly = UNSET
    cpu_cores: ReadOnly = UNSET
    cpu_model: ReadOnly = UNSET
    ram_total: ReadOnly = UNSET
    disk_total: ReadOnly = UNSET
    daemon_version: ReadOnly = UNSET
    container_runtime: ReadOnly = UNSET
    websocket_connected: Moving = UNSET
    last_heartbeat: Moving = UNSET
    last_seen_at: Moving = UNSET
    last_metrics_at: Moving = UNSET
    updated_at: Moving = UNSET
    uptime_seconds: Moving = UNSET
    cpu_usage: Moving = UNSET
    ram_usage: Moving = UNSET
    ram_free: Moving = UNSET
    clock_skew_ms: Moving = UNSET
    gpu_devices: Moving = UNSET
    token_metadata: Moving = UNSET

    def changes_of(self, node: Node) -> NodeChanges:
        """What to change of the present node. Raises InvalidRequest for a read-only field that differs."""
        shown = msgspec.json.decode(msgspec.json.encode(NodeAnswer.of(node)))
        has_aged = _is_older(self.updated_at, node.updated_at)
        problems = [
            FieldProblem(name, "is read-only and differs from the node's present value")
            for name, value in self._read_only().items()
            if not (name in _MOVING and has_aged) and not _is_same(value, shown.get(name))
        ]
        if problems:
            raise InvalidRequest(*problems)
        changes = {name: getattr(self, name) for name in NodeChanges.__struct_fields__}
        if not isinstance(self.role, UnsetType):
            changes["role"] = tuple(self.role)
        if not isinstance(self.metadata, UnsetType):
            changes["metadata"] = encode_metadata(self.metadata)
        if has_aged and self.status is not node.status and {self.status, node.status} <= _LIVENESS:
            # Not a wish: liveness has moved on since, and no such change is a person's to make.
            changes["status"] = changes["status_reason"] = UNSET
        return NodeChanges(**changes)

    def _read_only(self) -> dict[str, Any]:
        given = {field.encode_name: getattr(self, field.name) for field in _FIELDS if field.name not in _WRITABLE}
        return {name: value for name, value in given.items() if value is not UNSET}


_FIELDS: Final = msgspec.structs.fields(UpdateNode)
_WRITABLE: Final = set(NodeChanges.__struct_fields__)
_MOVING: Final = {field.encode_name for field in _FIELDS if field.type is Moving}
_LIVENESS: Final = {NodeStatus.PENDING, NodeStatus.INSTALLING, NodeStatus.ONLINE, NodeStatus.OFFLINE}


def _is_older(copied: Any, present: datetime) -> bool:
    """Whether a copy's `updatedAt` is a time before the present one, to the millisecond that is shown."""
    try:
        moment: datetime = msgspec.convert(copied, Annotated[datetime, Meta(tz=True)])
    except msgspec.ValidationError:
        return False
    return moment < to_milliseconds(present)


def _is_same(one: Any, other: Any) -> bool:
    """JSON's idea of equality: 80 is 80.0, but true is not 1. Null is no value."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)
