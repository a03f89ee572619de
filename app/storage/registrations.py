"""What a registration tells that is news: the first one, hardware that changed, GPUs that came and went."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.model import EventKind, Hardware
from app.quantities import camel
from app.storage.events import Happening, change, record
from app.storage.gpus import KnownGpu

FACTS: Final = tuple(name for name in Hardware.__struct_fields__ if name not in {"gpus", "uptime_seconds"})
"""The columns of `nodes` that a registration fills."""

_NODE: Final = text(f"SELECT registered_at, {', '.join(FACTS)} FROM nodes WHERE node_key = :node_key")
_PRESENT: Final = text("SELECT gpu, device_id, model FROM gpus WHERE node_key = :node_key AND removed_at IS NULL")


class Before(msgspec.Struct, frozen=True):
    """A node as it was before it registered: its facts, None before the first time, and its GPUs by number."""

    facts: dict[str, Any] | None
    gpus: dict[int, tuple[str, str | None]]


async def look(connection: AsyncConnection, node_key: int) -> Before:
    """The node as it is. Its `node_state` is locked by then, so that nobody else registers it."""
    node = (await connection.execute(_NODE, {"node_key": node_key})).one()
    gpus = (await connection.execute(_PRESENT, {"node_key": node_key})).all()
    facts = None if node.registered_at is None else {name: getattr(node, name) for name in FACTS}
    return Before(facts, {row.gpu: (row.device_id, row.model) for row in gpus})


async def tell(
    connection: AsyncConnection,
    node_key: int,
    before: Before,
    hardware: Hardware,
    known: Mapping[str, KnownGpu],
    now: datetime,
) -> None:
    """Write what has changed since `before`; a worker that only started again is no news."""
    facts = {name: getattr(hardware, name) for name in FACTS}
    gpus = {known[it.device_id].gpu: (it.device_id, known[it.device_id].model) for it in hardware.gpus}
    if before.facts is None:
        detail = {camel(name): value for name, value in facts.items() if value is not None}
        detail["gpuDevices"] = [_shown(*gpu) for gpu in gpus.values()]
        await record(connection, node_key, now, Happening(EventKind.REGISTERED, None, detail))
        return
    changed = {
        camel(name): change(before.facts[name], facts[name]) for name in FACTS if facts[name] != before.facts[name]
    }
    happenings = [Happening(EventKind.HARDWARE_CHANGED, None, {"changed": changed})] if changed else []
    happenings += [
        Happening(kind, None, _shown(*gpu))
        for kind, these, others in (
            (EventKind.GPU_VANISHED, before.gpus, gpus),
            (EventKind.GPU_APPEARED, gpus, before.gpus),
        )
        for number, gpu in these.items()
        if number not in others
    ]
    await record(connection, node_key, now, *happenings)


def _shown(device_id: str, model: str | None) -> dict[str, Any]:
    return {"deviceId": device_id} | ({} if model is None else {"model": model})
