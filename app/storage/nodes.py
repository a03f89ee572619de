"""A node in the tables: `nodes` (what people and registrations say), `node_state` (what moves), `gpus`.

Present values are kept in steps of their quantity; they become units here. A GPU's values stand in the
arrays of `node_state` at the place of its number, counted from 1.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    Subquery,
    Text,
    bindparam,
    cast,
    func,
    insert,
    literal,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import LateralFromClause

from app.model import GpuDevice, Node, NodeRole, NodeStatus, Owner
from app.quantities import CELSIUS, GIGABYTE, PERCENT, VRAM, Quantity
from app.storage import tables

_nodes, _state, _gpus = tables.nodes, tables.node_state, tables.gpus

_OF_NODES: Final = [column for column in _nodes.c if column.name not in {"metadata", "updated_at", "deleted_at"}]
_OF_STATE: Final = [
    _state.c[name]
    for name in (
        *("status", "status_reason", "last_heartbeat", "last_seen_at", "last_metrics_at", "token_last_used"),
        *("cpu_usage", "ram_usage", "uptime_seconds", "ram_free", "clock_skew_ms"),
        *("gpu_utilization", "gpu_temperature", "gpu_memory_free"),
    )
]
JOINED: Final = _nodes.join(_state, _nodes.c.node_key == _state.c.node_key)
COLUMNS: Final[Sequence[ColumnElement[Any]]] = [
    *_OF_NODES,
    *_OF_STATE,
    # As text: jsonb may hold numbers that a decoder would change or refuse, and nobody here reads them.
    cast(_nodes.c.metadata, Text).label("metadata"),
    _state.c.gateway_id.is_not(None).label("websocket_connected"),
    func.greatest(_nodes.c.updated_at, _state.c.updated_at).label("updated_at"),
]


class NewNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node as its creator describes it; `metadata` is JSON text."""

    id: str
    name: str
    role: tuple[NodeRole, ...]
    is_local: bool
    vpn_ip: str | None
    metadata: str | None
    owner: Owner
    created_by: str
    created_at: datetime


async def create(connection: AsyncConnection, new: NewNode) -> None:
    """Store a node that nobody has installed yet: pending, as silent as it is new."""
    values = {
        "id": new.id,
        "name": new.name,
        "role": list(new.role),
        "is_local": new.is_local,
        "vpn_ip": new.vpn_ip,
        "metadata": _jsonb(new.metadata),
        **msgspec.structs.asdict(new.owner),
        "created_by": new.created_by,
        "created_at": new.created_at,
        "updated_at": new.created_at,
    }
    key = (await connection.execute(insert(_nodes).values(values).returning(_nodes.c.node_key))).scalar_one()
    state = {
        "node_key": key,
        "status": NodeStatus.PENDING.value,
        "status_changed_at": new.created_at,
        "last_heartbeat": new.created_at,
        "updated_at": new.created_at,
    }
    await connection.execute(insert(_state).values(state))


async def find(connection: AsyncConnection, node_id: str, org_id: str | None) -> Node | None:
    """The node of this id, unless it was deleted; only of this org, where one is given."""
    parameters = {"node_id": node_id} | ({} if org_id is None else {"org_id": org_id})
    found = (await connection.execute(_finding(in_org=org_id is not None), parameters)).one_or_none()
    return None if found is None else to_node(found)


@cache
def _finding(*, in_org: bool) -> Select[Any]:
    """Put together once: that takes longer than the answer."""
    own = bindparam("org_id", type_=Text) if in_org else None
    statement = select(*COLUMNS).select_from(JOINED).where(*_identified(bindparam("node_id", type_=Text), own))
    return with_gpus(statement.subquery("page"))


async def find_locked(connection: AsyncConnection, node_id: str, org_id: str | None) -> Node | None:
    """The same, and nobody else changes it before this transaction ends.

    The lock is on `node_state` alone: registrations take that one first too, so that nobody waits in a circle.
    """
    key = select(_nodes.c.node_key).where(*_identified(node_id, org_id)).scalar_subquery()
    lock = select(_state.c.node_key).where(_state.c.node_key == key).with_for_update()
    if (await connection.execute(lock)).one_or_none() is None:
        return None
    return await find(connection, node_id, org_id)


async def change(
    connection: AsyncConnection, key: int, by: str | None, now: datetime, values: Mapping[str, Any]
) -> None:
    """Write columns of `nodes`, and who did it when; `metadata` is JSON text."""
    columns = dict(values)
    if "metadata" in columns:
        columns["metadata"] = _jsonb(columns["metadata"])
    statement = update(_nodes).where(_nodes.c.node_key == key)
    await connection.execute(statement.values(columns | {"updated_by": by, "updated_at": now}))


async def renew_token(
    connection: AsyncConnection, key: int, generation: int, now: datetime, expires_at: datetime
) -> bool:
    """Note a new token in the place of one of this generation; False where that one was revoked meanwhile."""
    may = (_nodes.c.token_generation == generation, _nodes.c.disabled.is_(False), _nodes.c.deleted_at.is_(None))
    values = {"token_generated_at": now, "token_expires_at": expires_at, "updated_at": now}
    statement = update(_nodes).where(_nodes.c.node_key == key, *may).values(values)
    return (await connection.execute(statement.returning(_nodes.c.node_key))).one_or_none() is not None


async def set_status(
    connection: AsyncConnection, key: int, status: NodeStatus, reason: str | None, by: str, now: datetime
) -> None:
    """Change the status by hand. Who is said to be online counts as heard from now."""
    values: dict[str, Any] = {
        "status": status.value,
        "status_reason": reason,
        "status_changed_at": now,
        "status_changed_by": by,
    }
    if status is NodeStatus.ONLINE:
        values["alive_at"] = now
    await connection.execute(update(_state).where(_state.c.node_key == key).values(values))


async def set_status_reason(connection: AsyncConnection, key: int, reason: str | None) -> None:
    """Change the reason of the present status."""
    await connection.execute(update(_state).where(_state.c.node_key == key).values(status_reason=reason))


def with_gpus(page: Subquery) -> Select[Any]:
    """The nodes of a subquery, each with its present GPUs as arrays ordered by their numbers."""
    gpus = _present_gpus(page)
    return select(page, gpus).select_from(page.join(gpus, true()))


def to_node(row: Iterable[Any]) -> Node:
    """A row of `with_gpus` as a node."""
    values = dict(zip(_NAMES, row, strict=True))
    return Node(
        key=values["node_key"],
        role=tuple(_ROLES[role] for role in values["role"]),
        status=_STATUSES[values["status"]],
        ram_total=_short(values["ram_total"]),
        disk_total=_short(values["disk_total"]),
        ram_free=_gigabytes(values["ram_free"]),
        cpu_usage=_percent(values["cpu_usage"]),
        ram_usage=_percent(values["ram_usage"]),
        gpus=None if values["registered_at"] is None else _devices(values),
        owner=Owner(values["org_id"], values["group_id"], values["agent_id"], values["app_id"]),
        **{name: values[name] for name in _PLAIN},
    )


_ROLES: Final = {role.value: role for role in NodeRole}
_STATUSES: Final = {status.value: status for status in NodeStatus}
_PLAIN: Final = [
    name
    for name in Node.__struct_fields__
    if name not in {"key", "role", "status", "ram_total", "ram_free", "disk_total", "cpu_usage", "ram_usage"}
    if name not in {"gpus", "owner"}
]
_OF_GPUS: Final = {
    "gpu_numbers": "gpu",
    "gpu_device_ids": "device_id",
    "gpu_models": "model",
    "gpu_memory_totals": "memory_total",
}
_NAMES: Final = [*(column.name for column in COLUMNS), *_OF_GPUS]


def _identified(
    node_id: str | BindParameter[str], org_id: str | BindParameter[str] | None
) -> list[ColumnElement[bool]]:
    own = [] if org_id is None else [_nodes.c.org_id == org_id]
    return [_nodes.c.id == node_id, _nodes.c.deleted_at.is_(None), *own]


def _present_gpus(page: Subquery) -> LateralFromClause:
    def in_order(name: str) -> ColumnElement[Any]:
        return func.array_agg(aggregate_order_by(_gpus.c[name], _gpus.c.gpu))

    return (
        select(*(in_order(column).label(name) for name, column in _OF_GPUS.items()))
        .where(_gpus.c.node_key == page.c.node_key, _gpus.c.removed_at.is_(None))
        .lateral("present")
    )


def _devices(values: Mapping[str, Any]) -> tuple[GpuDevice, ...]:
    numbers = values["gpu_numbers"] or ()
    return tuple(
        map(
            GpuDevice,
            values["gpu_device_ids"] or (),
            values["gpu_models"] or (),
            map(_vram, values["gpu_memory_totals"] or ()),
            map(_vram, _at(values["gpu_memory_free"], numbers)),
            map(_percent, _at(values["gpu_utilization"], numbers)),
            map(_celsius, _at(values["gpu_temperature"], numbers)),
        )
    )


def _at(values: Sequence[int | None] | None, gpus: Sequence[int]) -> list[int | None]:
    """GPUs' places in an array that may end before them, or not be there yet."""
    there = 0 if values is None else len(values)
    return [values[gpu - 1] if values is not None and gpu <= there else None for gpu in gpus]


def _in_units(quantity: Quantity) -> Callable[[int | None], float | None]:
    """Steps as units: 80 rather than 80.0, as the document writes its numbers."""

    @lru_cache(maxsize=4096)
    def units(steps: int | None) -> float | None:
        if steps is None:
            return None
        whole, rest = divmod(steps, quantity.steps_per_unit)
        return whole if rest == 0 else steps / quantity.steps_per_unit

    return units


_gigabytes, _percent, _vram, _celsius = map(_in_units, (GIGABYTE, PERCENT, VRAM, CELSIUS))


def _short(value: float | None) -> float | None:
    return int(value) if value is not None and value.is_integer() else value


def _jsonb(encoded: str | None) -> ColumnElement[Any] | None:
    """JSON text as jsonb; as a parameter of type jsonb it would become a JSON string."""
    return None if encoded is None else cast(literal(encoded, Text), JSONB)
