"""What a worker must know of `/ws/node`: names, intervals, codes, and the frames it sends.

The standard library alone, and Python 3.9: this file travels to GPU machines with `app/worker`.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from random import getrandbits
from typing import Any, Final

PATH: Final = "/ws/node"
MAX_FRAME_BYTES: Final = 256 * 1024
MAX_GPUS: Final = 128

# What a worker says.
NODE_REGISTER: Final = "NODE_REGISTER"
HEARTBEAT: Final = "TELEMETRY_HEARTBEAT"
METRICS: Final = "TELEMETRY_METRICS"
GPU_EVENT: Final = "GPU_EVENT"
TOKEN_RENEW: Final = "TOKEN_RENEW"  # noqa: S105

# What the controller says.
CONNECTION_ACK: Final = "CONNECTION_ACK"
REGISTER_ACK: Final = "REGISTER_ACK"
TELEMETRY_ACK: Final = "TELEMETRY_ACK"
TOKEN_RENEWED: Final = "TOKEN_RENEWED"  # noqa: S105
ERROR: Final = "ERROR"

# What goes beyond the document, where `controllerInfo.extensions` names it.
GPU_DETAILS: Final = "gpuDetails"
GPU_EVENTS: Final = "gpuEvents"
TOKEN_RENEWAL: Final = "tokenRenewal"  # noqa: S105
DETAIL_FIELDS: Final = (
    "smClock",
    "memoryClock",
    "fanSpeed",
    "pcieRx",
    "pcieTx",
    "energy",
    "eccCorrected",
    "eccUncorrected",
    "throttleReasons",
)
"""Of `gpus` in metrics, with the extension gpuDetails: MHz, MHz, %, bytes/s, bytes/s, J, counts, names."""

HEARTBEAT_INTERVAL_MS: Final = 30_000
METRICS_INTERVAL_MS: Final = 60_000

CLOSED_UNAUTHORIZED: Final = 4401
CLOSED_INACTIVE: Final = 4403
CLOSED_NOT_FOUND: Final = 4404
CLOSED_TAKEN_OVER: Final = 4409

REFUSED_FOR_GOOD: Final = frozenset(
    {"INVALID_TOKEN", "TOKEN_EXPIRED", "NODE_INACTIVE", "NODE_NOT_FOUND", "INVALID_MESSAGE"}
)
"""Error codes that another try does not change: somebody has to do something first."""
RENEWAL_REFUSED: Final = "TOKEN_RENEWAL_REFUSED"


def new_message_id() -> str:
    """A messageId as in the document: a UUID of version 4. It has to be another each time, and is no secret."""
    digits = f"{getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def at(milliseconds: int) -> str:
    """A moment, in milliseconds since 1970, as it stands in a frame."""
    seconds, rest = divmod(milliseconds, 1000)
    # A fraction of float would lose the millisecond now and then; `datetime.UTC` came with Python 3.11.
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def encode(data: dict[str, Any]) -> str:
    """`data` of a frame as JSON text, as short as it goes."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def register(message_id: str, milliseconds: int, data: str) -> str:
    """NODE_REGISTER; `data` is JSON text, `milliseconds` the moment of sending."""
    return _frame(NODE_REGISTER, message_id, milliseconds, f',"data":{data}')


def heartbeat(message_id: str, milliseconds: int, data: str) -> str:
    """TELEMETRY_HEARTBEAT that asks for its acknowledgement."""
    return _frame(HEARTBEAT, message_id, milliseconds, f',"ack":true,"data":{data}')


def metrics(message_id: str, milliseconds: int, data: str) -> str:
    """TELEMETRY_METRICS that asks for its acknowledgement; sent again, `data` stays and the moment is fresh."""
    return _frame(METRICS, message_id, milliseconds, f',"ack":true,"data":{data}')


def gpu_event(message_id: str, milliseconds: int, data: str) -> str:
    """GPU_EVENT that asks for its acknowledgement; for controllers with the extension gpuEvents."""
    return _frame(GPU_EVENT, message_id, milliseconds, f',"ack":true,"data":{data}')


def token_renew(message_id: str, milliseconds: int) -> str:
    """TOKEN_RENEW; for controllers with the extension tokenRenewal."""
    return _frame(TOKEN_RENEW, message_id, milliseconds, "")


def parse(text: str | bytes) -> dict[str, Any]:
    """The controller's frame. Raises ValueError where it is no JSON object with a `type`."""
    try:
        message = json.loads(text)
    except RecursionError:
        raise ValueError("the frame is nested too deeply") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ValueError("the frame is no JSON object with a type")  # noqa: TRY004 - text that does not parse
    return message


def _frame(kind: str, message_id: str, milliseconds: int, rest: str) -> str:
    return f'{{"type":"{kind}","messageId":"{message_id}","timestamp":"{at(milliseconds)}"{rest}}}'
